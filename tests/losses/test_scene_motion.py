"""The algebra of flows: identities, warps by flow, both compositions, scales, and streams."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_streams import F64, SIZE, SPEC, motion_stream

from unienc_core.errors import PresetError, ShapeError
from unienc_core.geometry import camera, se3
from unienc_core.geometry.flow import rigid_flow
from unienc_core.geometry.warp import move, warp_ego, warp_points
from unienc_core.presets import load_preset
from unienc_core.specs import Warp
from unienc_core.view_synthesis import aligned, made_from, synthesise, to_full_size

MOTION_KEYS = ("rigid_flow", "independent_flow", "final_flow", "motion_mask")
seeds = st.integers(0, 999)
quick = settings(max_examples=8, deadline=None)


def made(values, warp: Warp = "final", **options):
    return synthesise(values, warp, SPEC, SIZE, **options)


def logits_of(values, logit):
    return [torch.full_like(x, logit) for x in values["motion_logits_scales"]]


@given(seeds)
@quick
def test_the_flows_follow_their_definitions(seed):
    values = motion_stream(seed)
    found = made(values)
    for i, depth in enumerate(found["depth_scales"]):
        complete = to_full_size(values["complete_flow_scales"][i], SIZE)
        mask = to_full_size(values["motion_logits_scales"][i].sigmoid(), SIZE)
        for s in range(2):
            rigid = rigid_flow(depth, values["K"], values["T_source_target"][:, s])
            final = rigid + mask[:, s] * (complete[:, s] - rigid)
            for key, expected in (
                ("rigid_flow", rigid),
                ("independent_flow", complete[:, s] - rigid),
                ("final_flow", final),
                ("motion_mask", mask[:, s]),
            ):
                torch.testing.assert_close(found[f"{key}_scales"][i][:, s], expected)
    for key in MOTION_KEYS:
        assert found[key] is found[f"{key}_scales"][0]


@given(seeds)
@quick
def test_a_black_mask_leaves_the_rigid_flow_and_a_white_one_the_complete_one(seed):
    values = motion_stream(seed)
    black = made(values | {"motion_logits_scales": logits_of(values, -torch.inf)})
    white = made(values | {"motion_logits_scales": logits_of(values, torch.inf)})
    for i, flow in enumerate(values["complete_flow_scales"]):
        assert torch.equal(black["final_flow_scales"][i], black["rigid_flow_scales"][i])
        torch.testing.assert_close(white["final_flow_scales"][i], to_full_size(flow, SIZE))
    for found, warp in ((black, "ego"), (white, "complete")):
        torch.testing.assert_close(
            torch.stack(found["warped_scales"]), torch.stack(made(values, warp)["warped_scales"])
        )


@given(seeds)
@quick
def test_in_a_static_world_nothing_moves_by_itself(seed):
    values = motion_stream(seed)
    rigid = made(values)["rigid_flow_scales"]
    still = made(values | {"complete_flow_scales": rigid})
    for i, flow in enumerate(rigid):
        assert still["independent_flow_scales"][i].abs().max() == 0
        assert torch.equal(still["final_flow_scales"][i], flow)


@given(seeds)
@quick
def test_a_standing_camera_leaves_the_complete_flow_alone(seed):
    values = motion_stream(seed)
    values["T_source_target"] = torch.eye(4, dtype=F64).expand(2, 2, 4, 4)
    found = made(values)
    assert torch.stack(found["rigid_flow_scales"]).abs().max() == 0
    complete = to_full_size(values["complete_flow_scales"][0], SIZE)
    assert torch.equal(found["independent_flow"], complete)


@given(seeds)
@quick
def test_rotating_the_independent_flow_moves_the_point_first(seed):
    values = motion_stream(seed)
    found = made(values, compose="rotate_independent")
    T_st = values["T_source_target"]
    parts = zip(*(found[f"{k}_scales"] for k in ("depth", *MOTION_KEYS[1:])), strict=True)
    for depth, independent, final, mask in parts:
        points = camera.backproject(depth, values["K"]).unsqueeze(1)
        expected = move(T_st, points + mask * independent) - points
        torch.testing.assert_close(final, expected)
    plain = made(values)["final_flow"]
    own = (found["motion_mask"] * found["independent_flow"]).norm(dim=2)
    angle = values["axis_angle"].norm(dim=2)[:, :, None, None]
    difference = (found["final_flow"] - plain).norm(dim=2)
    assert (difference <= angle * own + 1e-12).all()  # the chord is shorter than the arc
    assert difference.max() > 1e-3
    values["T_source_target"] = se3.make_T(torch.zeros(2, 2, 3, dtype=F64), values["translation"])
    turned = made(values, compose="rotate_independent")["final_flow"]
    torch.testing.assert_close(turned, made(values)["final_flow"])


def test_each_warp_projects_its_own_points():
    values = motion_stream(3)
    points = camera.backproject(made(values)["depth"], values["K"]).unsqueeze(1)
    complete = to_full_size(values["complete_flow_scales"][0], SIZE)
    for warp, flow in (("complete", complete), ("final", made(values)["final_flow"])):
        found = made(values, warp)
        view, seen = warp_points(values["source_images"], points + flow, values["K"])
        assert torch.equal(found["warped"], view)
        assert torch.equal(found["in_view"], seen)
    ego, _ = warp_ego(
        values["source_images"], made(values)["depth"], values["K"], values["T_source_target"]
    )
    assert torch.equal(made(values, "ego")["warped"], ego)


def test_a_wall_that_moves_by_itself_is_found_where_its_flow_says():
    """z = 5, fx = 20: a flow of 3 x 5 / 20 m to the right shows the source three columns on."""
    source = torch.rand(1, 1, 3, 9, 16, dtype=F64)
    K = torch.tensor([[[20.0, 0.0, 6.5], [0.0, 21.0, 4.0], [0.0, 0.0, 1.0]]], dtype=F64)
    disparity = camera.depth_to_disparity(torch.full((1, 1, 9, 16), 5.0, dtype=F64), 0.1, 100.0)
    flow = torch.zeros(1, 1, 3, 9, 16, dtype=F64)
    flow[:, :, 0] = 3 * 5.0 / 20.0
    values = {
        "source_images": source,
        "K": K,
        "disparity_scales": [disparity],
        "complete_flow_scales": [flow],
    }
    found = synthesise(values, "complete", SPEC, (9, 16))
    expected = source[..., (torch.arange(16) + 3).clamp(max=15)]
    torch.testing.assert_close(found["warped"], expected, rtol=0, atol=1e-9)
    assert "final_flow" not in found


@pytest.mark.parametrize(("depths", "flows", "masks"), [(3, 1, 2), (1, 3, 3), (2, 3, 1)])
def test_the_coarsest_of_a_shorter_list_goes_with_the_scales_beyond_it(depths, flows, masks):
    values = motion_stream(4)
    for key, n in (
        ("disparity_scales", depths),
        ("complete_flow_scales", flows),
        ("motion_logits_scales", masks),
    ):
        values[key] = values[key][:n]
    found = made(values)
    counts = {k: len(found[f"{k}_scales"]) for k in ("depth", *MOTION_KEYS, "warped", "in_view")}
    assert counts == {
        "depth": depths,
        "motion_mask": masks,
        "rigid_flow": depths,
        "independent_flow": max(depths, flows),
        "final_flow": 3,
        "warped": 3,
        "in_view": 3,
    }
    rigid = found["rigid_flow_scales"][min(2, depths - 1)]
    complete = to_full_size(values["complete_flow_scales"][min(2, flows - 1)], SIZE)
    expected = rigid + found["motion_mask_scales"][min(2, masks - 1)] * (complete - rigid)
    torch.testing.assert_close(found["final_flow_scales"][2], expected)
    a, b = torch.zeros(1), torch.ones(1)
    assert list(aligned([a, b], [a])) == [(a, a), (b, a)]


@pytest.mark.parametrize("compose", ["add_independent", "rotate_independent"])
def test_gradients_reach_everything_that_a_view_is_made_from(compose):
    """Nothing is detached in the warp, and numbers confirm the gradient of each input."""
    values = motion_stream(5, grad=True)
    T_st = se3.make_T(values["axis_angle"], values["translation"])
    leaves = [
        *(values[f"{k}_scales"][0] for k in ("disparity", "complete_flow", "motion_logits")),
        values["axis_angle"],
        values["translation"],
    ]
    weights = torch.rand(2, 2, 3, *SIZE, generator=torch.Generator().manual_seed(0), dtype=F64)

    def loss(inputs):
        disparity, flow, logits, axis_angle, translation = inputs
        changed = {
            "disparity_scales": [disparity],
            "complete_flow_scales": [flow],
            "motion_logits_scales": [logits],
            "T_source_target": se3.make_T(axis_angle, translation),
        }
        return (made(values | changed, compose=compose)["final_flow"] * weights).sum()

    gradients = torch.autograd.grad(loss(leaves), leaves)
    generator = torch.Generator().manual_seed(1)
    for i, (leaf, gradient) in enumerate(zip(leaves, gradients, strict=True)):
        way = torch.randn(leaf.shape, generator=generator, dtype=F64)
        ends = [
            loss([x + e * way if k == i else x for k, x in enumerate(leaves)]).item()
            for e in (1e-6, -1e-6)
        ]
        expected = (ends[0] - ends[1]) / 2e-6
        assert (gradient * way).sum().item() == pytest.approx(expected, rel=1e-5)
    views = made(values | {"T_source_target": T_st}, compose=compose)["warped"]
    for gradient in torch.autograd.grad(views.square().sum(), leaves):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_points_moved_behind_the_camera_stay_finite_and_are_not_in_view():
    values = motion_stream(6, grad=True)
    flow = values["complete_flow_scales"][0]
    with torch.no_grad():
        flow[0, 0, 2] = -200.0
    values["motion_logits_scales"] = logits_of(values, 20.0)
    found = made(values)
    assert not found["in_view"][0, 0].any()
    assert found["in_view"][1].any()
    (gradient,) = torch.autograd.grad(found["warped"].sum(), flow)
    assert gradient.isfinite().all()
    assert gradient[0, 0].abs().max() == 0
    assert gradient[1].abs().max() > 0


def test_only_what_is_wanted_is_made(monkeypatch):
    values = motion_stream(7)
    assert set(made(values, wanted=())) == set(values)
    asked = made(values, wanted=("motion_mask_scales", "K"))
    assert set(asked) == {*values, "motion_mask", "motion_mask_scales"}
    monkeypatch.setattr("unienc_core.view_synthesis.move", None)  # no rigid motion is computed
    view = made(values, "complete", wanted=("warped_scales",))
    assert set(view) == {*values, "warped", "warped_scales"}
    with pytest.raises(TypeError):
        made(values, "final", wanted=("warped_scales",))


def test_what_views_are_made_from_follows_the_warp():
    def views(warp):
        return set(made_from(warp)["warped_scales"])

    shared = {"source_images", "K", "disparity_scales"}
    assert views("ego") == shared | {"T_source_target"}
    assert views("complete") == shared | {"complete_flow_scales"}
    assert views("final") == views("ego") | views("complete") | {"motion_logits_scales"}
    for warp in ("ego", "complete", "final"):
        assert made_from(warp)["in_view"] == made_from(warp)["warped"]
        assert set(made(motion_stream(0), warp)) == {*motion_stream(0), *made_from(warp)}


def test_autocast_does_not_coarsen_flows():
    values = motion_stream(8, dtype=torch.float32)
    plain = made(values)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = made(values)
    for key in ("final_flow", "warped"):
        assert torch.equal(cast[key], plain[key])


def test_faults_are_named():
    values = motion_stream(9)
    for key in ("complete_flow", "motion_logits"):
        wrong = [x[:, 0] for x in values[f"{key}_scales"]]
        with pytest.raises(ShapeError, match=key):
            made(values | {f"{key}_scales": wrong})
    with pytest.raises(PresetError, match="compose is for warp: final"):
        load_preset("unified-tiny", ["stages.0.compose=rotate_independent"])
