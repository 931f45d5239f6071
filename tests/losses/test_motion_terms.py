"""L_c, L_m, L_g and smoothness of motion: by hand, where gradients go, and edge cases."""

import math

import pytest
import torch
from motion_streams import F64, SIZE, SPEC, motion_stream

from unienc_core.contracts import StepContext
from unienc_core.errors import PresetError, ShapeError
from unienc_core.geometry import camera, se3
from unienc_core.losses import AboveGround, Consistency, FlowSmooth, MaskSmooth, Sparsity
from unienc_core.losses.motion import sampling_distance
from unienc_core.presets import DepthSpec
from unienc_core.registry import build
from unienc_core.view_synthesis import synthesise

LEAVES = ("disparity", "complete_flow", "motion_logits")
POSE = ("axis_angle", "translation")


def run(term, values, **context):
    made = synthesise(values, "final", SPEC, SIZE, wanted=term.requires)
    return term(made, StepContext(**context))


def leaves_of(values) -> dict[str, list[torch.Tensor]]:
    scales = {name: values[f"{name}_scales"] for name in LEAVES}
    return scales | {name: [values[name]] for name in POSE}


def moved_by(loss, values) -> set[str]:
    """Names of what a loss sends a gradient to that is not exactly zero."""
    leaves = leaves_of(values)
    flat = [(name, leaf) for name, group in leaves.items() for leaf in group]
    gradients = torch.autograd.grad(loss.sum(), [leaf for _, leaf in flat], allow_unused=True)
    pairs = zip(flat, gradients, strict=True)
    return {name for (name, _), g in pairs if g is not None and g.abs().max() > 0}


@pytest.mark.parametrize(
    ("term", "moved"),
    [
        (Consistency(), {"disparity", "complete_flow", *POSE}),
        (Sparsity(), {"motion_logits"}),
        (Sparsity(threshold="batch"), {"motion_logits"}),
        (FlowSmooth(), {"complete_flow"}),
        (MaskSmooth(), {"motion_logits"}),
    ],
)
def test_gradients_go_where_they_should_and_nowhere_else(term, moved):
    values = motion_stream(0, grad=True)
    assert moved_by(run(term, values), values) == moved


@pytest.mark.parametrize(
    ("term", "name"),
    [
        *((Consistency(), name) for name in ("disparity", "complete_flow", *POSE)),
        (Sparsity(), "motion_logits"),
        (FlowSmooth(), "complete_flow"),
        (MaskSmooth(), "motion_logits"),
    ],
)
def test_gradients_match_finite_differences(term, name):
    """Along a random way; the static set and [d > 0.03] stay as they are so near."""
    values = motion_stream(1, grad=True)
    leaves = leaves_of(values)[name]
    gradients = torch.autograd.grad(run(term, values).sum(), leaves)
    generator = torch.Generator().manual_seed(2)
    ways = [torch.randn(x.shape, generator=generator, dtype=F64) for x in leaves]

    def loss(step):
        moved = [(x + step * way).detach() for x, way in zip(leaves, ways, strict=True)]
        pose = {key: moved[0] if key == name else values[key].detach() for key in POSE}
        changed = {} if name in POSE else {f"{name}_scales": moved}
        return run(term, values | changed | {"T_source_target": se3.make_T(**pose)}).sum().item()

    wanted = sum((g * way).sum().item() for g, way in zip(gradients, ways, strict=True))
    assert wanted == pytest.approx((loss(1e-7) - loss(-1e-7)) / 2e-7, rel=1e-4)


def flat_values(B=1, S=1, size=(4, 6), *, d=0.5, flow=(0.0, 0.0, 0.0), logit=0.0):
    """One scale of constants, a standing camera."""
    return {
        "target_image": torch.full((B, 3, *size), 0.5, dtype=F64),
        "K": torch.tensor([[5.0, 0, 2.5], [0, 5.0, 1.5], [0, 0, 1]], dtype=F64).repeat(B, 1, 1),
        "T_source_target": torch.eye(4, dtype=F64).expand(B, S, 4, 4),
        "disparity_scales": [torch.full((B, 1, *size), d, dtype=F64)],
        "complete_flow_scales": [
            torch.tensor(flow, dtype=F64).view(1, 1, 3, 1, 1).expand(B, S, 3, *size).clone()
        ],
        "motion_logits_scales": [torch.full((B, S, 1, *size), logit, dtype=F64)],
    }


def run_flat(term, values, size=(4, 6), **context):
    return term(synthesise(values, "final", SPEC, size), StepContext(**context))


def test_consistency_by_hand():
    values = flat_values(flow=(0.3, -0.6, 0.0), logit=math.log(3))  # M = 3/4
    values["disparity_scales"][0][..., :2] = 0.03  # a third of the image is too far
    assert run_flat(Consistency(), values).tolist() == pytest.approx([2 / 3 * 0.25 * 0.3])
    assert run_flat(Consistency(min_disparity=0.5), values).item() == 0
    nearer = run_flat(Consistency(min_disparity=0.02), values)
    assert nearer.tolist() == pytest.approx([0.25 * 0.3])
    values["motion_logits_scales"][0].fill_(-torch.inf)
    static = run_flat(Consistency(), values)
    assert static.tolist() == pytest.approx([2 / 3 * 0.3])


@pytest.mark.parametrize("term", [Consistency(), FlowSmooth(), MaskSmooth(), Sparsity()])
def test_scale_i_counts_by_2_to_the_minus_i_and_scales_are_averaged(term):
    values = motion_stream(3)
    alone = []
    for i in range(3):
        own = {f"{n}_scales": values[f"{n}_scales"][i : i + 1] for n in LEAVES}
        alone.append(run(term, values | own) / 2**i)
    torch.testing.assert_close(run(term, values), torch.stack(alone).mean(0))


def half_moving(B=1, S=1):
    """Right half of the image: the flow says 1 m to the right; left half: nothing."""
    values = flat_values(B, S, logit=0.7)
    values["complete_flow_scales"][0][..., 0, :, 3:] = 1.0
    return values


def test_sparsity_by_hand():
    values = half_moving()
    values["motion_logits_scales"][0][..., 3:] = 5.0  # of no account
    term = Sparsity()
    assert run_flat(term, values).tolist() == pytest.approx([math.log1p(math.exp(0.7))])
    assert term.logs["static"] == 0.5
    points = torch.tensor([0.0, 0, 2]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 4, 6)
    other = points + torch.tensor([0.4, 0.2, 0.0]).view(1, 1, 3, 1, 1)
    distance, known = sampling_distance(points, other, values["K"].float())
    # 5 px/m / 2 m: 1 px of 5 and 0.5 px of 3, each side two units long.
    assert distance.unique().tolist() == pytest.approx([(2 / 5) ** 2 + (1 / 3) ** 2])
    assert known.all()


def test_the_static_set_is_that_of_the_logits_own_size():
    values = half_moving()
    coarse = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], dtype=F64).view(1, 1, 1, 2, 3)
    values["motion_logits_scales"] = [coarse]
    # Distances 0, x / 2, x against a mean of x / 2: only the first column lies below.
    assert run_flat(Sparsity(), values).tolist() == pytest.approx([math.log1p(math.exp(1.0))])


def test_the_threshold_is_that_of_each_image_or_of_the_batch():
    """A calm sample beside a busy one: by the batch's mean all of it is static."""
    values = flat_values(2, 1, logit=0.0)
    flow = values["complete_flow_scales"][0]
    flow[0, :, 0, :, 3:] = 0.01
    flow[1, :, 0, :, :3], flow[1, :, 0, :, 3:] = 1.0, 3.0
    shares = {}
    for threshold in ("image", "batch"):
        term = Sparsity(threshold=threshold)
        losses = run_flat(term, values)
        assert losses.tolist() == pytest.approx([math.log(2), math.log(2)])
        shares[threshold] = term.logs["static"].item()
    assert shares == {"image": 0.5, "batch": 0.75}


def test_the_batch_is_that_of_all_processes():
    values = flat_values(2, 1, logit=0.0)
    flow = values["complete_flow_scales"][0]
    flow[0, :, 0, :, 3:] = 0.01
    flow[1, :, 0, :, :3], flow[1, :, 0, :, 3:] = 1.0, 3.0
    term = Sparsity(threshold="batch")
    seen = []
    run_flat(term, values, sum_over_processes=lambda x: seen.append(x) or x)
    ours = {
        key: value[:1] if torch.is_tensor(value) else [x[:1] for x in value]
        for key, value in values.items()
    }
    run_flat(term, ours, sum_over_processes=lambda x: seen[0])
    assert term.logs["static"] == 1


def test_an_image_without_static_pixels_adds_nothing_and_never_nan():
    values = half_moving(B=2, S=2)
    values["complete_flow_scales"][0][0] = 0.0  # the flows agree everywhere: none is below the mean
    values["complete_flow_scales"][0][1, 0] = 0.0
    logits = values["motion_logits_scales"][0].requires_grad_()
    losses = run_flat(Sparsity(), values)
    assert losses.tolist() == pytest.approx([0.0, math.log1p(math.exp(0.7)) / 2])
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert gradient.isfinite().all()
    assert gradient[0].abs().max() == 0
    assert gradient[1, 1, :, :, :3].min() > 0


def test_what_is_behind_the_camera_is_not_known_to_be_static():
    values = half_moving()
    z = 1 / (0.01 + 9.99 * 0.5)
    values["complete_flow_scales"][0][..., 2, :2, :] = -2 * z
    term = Sparsity()
    assert run_flat(term, values).tolist() == pytest.approx([math.log1p(math.exp(0.7))])
    assert term.logs["static"] == 0.25  # the lower left quarter; distances behind move no mean
    values["complete_flow_scales"][0][..., 2, :, :] = -2 * z
    logits = values["motion_logits_scales"][0].requires_grad_()
    loss = run_flat(term, values)
    assert loss.item() == 0
    assert torch.autograd.grad(loss.sum(), logits)[0].abs().max() == 0


def test_a_sample_does_not_depend_on_the_batch_it_comes_in():
    values = motion_stream(4)
    alone = {
        key: [x[1:] for x in value] if isinstance(value, list) else value[1:]
        for key, value in values.items()
    }
    for term in (Consistency(), Sparsity(), FlowSmooth(), MaskSmooth()):
        torch.testing.assert_close(run(term, values)[1:], run(term, alone))


def test_smoothness_of_flow_has_no_scale_of_its_own_and_the_mask_is_a_probability():
    values = motion_stream(5)
    doubled = values | {"complete_flow_scales": [2 * x for x in values["complete_flow_scales"]]}
    torch.testing.assert_close(run(FlowSmooth(), doubled), 2 * run(FlowSmooth(), values))
    step = flat_values(logit=-torch.inf)
    step["motion_logits_scales"][0][..., 3:] = torch.inf
    assert run_flat(MaskSmooth(), step).tolist() == pytest.approx([1 / 5])  # one of 5 pairs, by 1


# The ground.

GROUND_SIZE = (48, 64)
GROUND_SCALES = (GROUND_SIZE, (24, 32))
GROUND_SPEC = DepthSpec(min=0.05, max=30.0)
GROUND_K = torch.tensor([[50.0, 0, 30.0], [0, 47.0, 17.0], [0, 0, 1]], dtype=F64)
PLANES = ((0.0, 0.0, 1.0), (4.0, -3.0, 1.7), (-3.0, 2.0, 0.11))  # pitch, roll (degrees), height


def ground_stream(planes=PLANES, convention="scaled", below=1.5, K=GROUND_K):
    """Disparities of planes; every 7th pixel lies `below` times as far, every 5th nearer.

    Returns:
        The stream, and the loss of each image in closed form.
    """
    spec = GROUND_SPEC.model_copy(update={"convention": convention})
    scales, losses = [], torch.zeros(len(planes), dtype=F64)
    for i, (h, w) in enumerate(GROUND_SCALES):
        s = h / GROUND_SIZE[0]
        # Pixel centres at integers: c' = s (c + 0.5) - 0.5.
        u, v = torch.meshgrid(torch.arange(w), torch.arange(h), indexing="xy")
        x, y = ((c + 0.5) / s - 0.5 for c in (u, v))
        x, y = (x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1]
        index = torch.arange(h * w).reshape(h, w)
        farther, nearer = index % 7 == 0, index % 5 == 1
        maps = []
        for b, (pitch, roll, height) in enumerate(planes):
            p, r = math.radians(pitch), math.radians(roll)
            fall = -x * math.cos(p) * math.sin(r) + y * math.cos(p) * math.cos(r) - math.sin(p)
            inverse = (fall.double() / height).clamp(min=1 / 20)  # a sky at 20 m
            inverse = torch.where(nearer, inverse * 1.6, inverse)
            inverse = torch.where(farther, inverse / below, inverse).clamp(min=1 / 29)
            maps.append(disparity_of(inverse, spec))
            plane = fall.double() / (1.05 * height)
            lost = (disparity_of(plane, spec) - maps[-1]).clamp(min=0)
            lost = torch.where(plane >= 1 / spec.max, lost, 0.0)
            losses[b] += lost.mean() / 2**i / len(GROUND_SCALES)
        scales.append(torch.stack(maps)[:, None])
    B = len(planes)
    values = {
        "target_image": torch.zeros(B, 3, *GROUND_SIZE, dtype=F64),
        "K": K.repeat(B, 1, 1),
        "disparity_scales": scales,
        "depth_spec": spec,
    }
    return values, losses


def disparity_of(inverse, spec):
    if spec.convention == "inverse":
        return inverse.clamp(1 / spec.max, 1 / spec.min)
    return (inverse - 1 / spec.max) / (1 / spec.min - 1 / spec.max)


@pytest.mark.parametrize("convention", ["scaled", "inverse"])
def test_above_ground_by_hand_for_a_batch_of_different_planes_and_scales(convention):
    """Each image has a plane of its own points, or nothing fits."""
    values, expected = ground_stream(convention=convention)
    term = AboveGround()
    found = term(values, StepContext(generator_seed=3))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert term.logs["found"] == 1
    assert (expected > 0).all()
    for b in range(3):
        alone = {
            "target_image": values["target_image"][b : b + 1],
            "K": values["K"][b : b + 1],
            "disparity_scales": [d[b : b + 1] for d in values["disparity_scales"]],
            "depth_spec": values["depth_spec"],
        }
        own = term(alone, StepContext(generator_seed=3))
        torch.testing.assert_close(own, found[b : b + 1], rtol=1e-9, atol=0)


def test_every_scale_has_intrinsics_of_its_own_size():
    """Through those of the full size, the road of a wide camera would be too steep for a ground."""
    wide = torch.tensor([[20.0, 0, 31.5], [0, 14.0, 23.5], [0, 0, 1]], dtype=F64)
    values, expected = ground_stream(planes=((0.0, 0.0, 1.5),), K=wide)
    torch.testing.assert_close(AboveGround()(values, StepContext()), expected, rtol=1e-5, atol=0)


def test_only_pixels_below_the_ground_are_raised():
    """The gradient is -1 / number of pixels where a point is below, and exactly 0 elsewhere."""
    values, _ = ground_stream()
    for d in values["disparity_scales"]:
        d.requires_grad_()
    gradients = torch.autograd.grad(
        AboveGround()(values, StepContext()).sum(), values["disparity_scales"]
    )
    for i, gradient in enumerate(gradients):
        h, w = GROUND_SCALES[i]
        step = -1 / (h * w) / 2**i / 2
        assert gradient.unique().tolist() == pytest.approx([step, 0.0], rel=1e-12, abs=0)
        index = torch.arange(h * w).reshape(h, w).expand(3, 1, h, w)
        below = (index % 7 == 0) & (index % 5 != 1)
        assert gradient[~below].abs().max() == 0
        assert (gradient[..., -h // 4 :, :][below[..., -h // 4 :, :]] < 0).all()


def test_points_on_or_above_the_ground_lose_nothing():
    values, _ = ground_stream(below=1.0)
    assert AboveGround()(values, StepContext()).max() < 1e-12
    values, _ = ground_stream(below=1.04)
    assert AboveGround(tolerance=0.05)(values, StepContext()).max() < 1e-12
    assert AboveGround(tolerance=0.02)(values, StepContext()).min() > 0


def test_an_image_without_a_plane_loses_nothing_and_harms_no_neighbour():
    values, expected = ground_stream()
    for d in values["disparity_scales"]:
        d[1] = 0.4  # a wall
        d.requires_grad_()
    term = AboveGround()
    losses = term(values, StepContext())
    assert term.logs["found"].item() == pytest.approx(2 / 3)
    assert losses[1] == 0
    torch.testing.assert_close(losses[[0, 2]], expected[[0, 2]], rtol=1e-5, atol=0)
    for gradient in torch.autograd.grad(losses.sum(), values["disparity_scales"]):
        assert gradient.isfinite().all()
        assert gradient[1].abs().max() == 0


def test_random_points_come_from_the_step_and_leave_the_global_generator_alone():
    values, _ = ground_stream()
    generator = torch.Generator().manual_seed(0)
    values["disparity_scales"] = [
        d * (1 + 0.2 * torch.rand(d.shape, generator=generator, dtype=F64))
        for d in values["disparity_scales"]
    ]
    state = torch.get_rng_state()
    first, again, other = (
        AboveGround()(values, StepContext(generator_seed=seed)) for seed in (2**55, 2**55, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_half_precision_predictions_are_widened():
    values = motion_stream(6, dtype=torch.float32)
    halves = {f"{n}_scales": [x.bfloat16() for x in values[f"{n}_scales"]] for n in LEAVES}
    widened = {key: [x.float() for x in scales] for key, scales in halves.items()}
    for term in (Consistency(), Sparsity(), FlowSmooth(), MaskSmooth(), AboveGround()):
        found = run(term, values | halves)
        assert found.dtype == torch.float32
        assert torch.equal(found, run(term, values | widened))


def test_options_and_shapes_are_checked():
    assert isinstance(build("term", "sparsity", options={"threshold": "batch"}), Sparsity)
    for name, options in (
        ("sparsity", {"threshold": "median"}),
        ("above_ground", {"tolerance": 0.0}),
        ("consistency", {"threshold": 0.03}),
    ):
        with pytest.raises(PresetError, match=name if name == "consistency" else "options"):
            build("term", name, options=options)
    values = motion_stream(7)
    values["motion_logits_scales"] = [x[:, :1] for x in values["motion_logits_scales"]]
    with pytest.raises(ShapeError, match="motion_logits"):
        run(Sparsity(), values)
    K = camera.K_from_fov(60, 4, 6)[None]
    with pytest.raises(ShapeError, match="others"):
        sampling_distance(torch.zeros(1, 1, 3, 4, 6), torch.zeros(1, 1, 3, 4, 5), K)
