"""Terms of scene motion against NumPy, from raw predictions to the number."""

import numpy as np
import numpy_oracles as oracle
import pytest
import torch

from unienc_core.contracts import StepContext
from unienc_core.geometry import camera, se3
from unienc_core.geometry.ground import fit_ground_plane
from unienc_core.losses import (
    AboveGround,
    Consistency,
    FlowSmooth,
    MaskSmooth,
    Photometric,
    Sparsity,
)
from unienc_core.presets import DepthSpec
from unienc_core.view_synthesis import synthesise

F64 = torch.float64
SIZE = (31, 45)
SCALES = (SIZE, (16, 23), (8, 12))
SPEC = DepthSpec(min=0.5, max=40.0)
B, S = 2, 2


def stream(seed: int = 0) -> dict:
    """Cameras that turn and go, flows and masks of noise; the first sample has points behind."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=F64)

    K = torch.tensor([[40.0, 0.2, 21.0], [0, 38.0, 14.0], [0, 0, 1]], dtype=F64).repeat(B, 1, 1)
    K[:, 0, 0] += 10 * rand(B)
    motion = 2 * rand(B, S, 6) - 1
    motion[0, 0, 5] = -3.0  # m, past the nearest points
    return {
        "target_image": rand(B, 3, *SIZE),
        "source_images": rand(B, S, 3, *SIZE),
        "K": K,
        "T_source_target": se3.make_T(0.05 * motion[..., :3], 0.3 * motion[..., 3:]),
        "disparity_scales": [rand(B, 1, *size) ** 3 for size in SCALES],
        "complete_flow_scales": [rand(B, S, 3, *size) - 0.5 for size in SCALES],
        "motion_logits_scales": [4 * rand(B, S, 1, *size) - 2 for size in SCALES],
    }


def enlarge(maps: np.ndarray) -> np.ndarray:
    return np.concatenate([oracle.upsample(channel[None], SIZE) for channel in maps])


def numpy_scene(values: dict, b: int, s: int, i: int) -> dict[str, np.ndarray]:
    """The algebra of one sample, source and scale."""
    K, T_st = values["K"][b].numpy(), values["T_source_target"][b, s].numpy()
    d = enlarge(values["disparity_scales"][i][b].numpy())
    points = oracle.backproject(oracle.disparity_to_depth(d, SPEC.min, SPEC.max), K)
    rigid = oracle.transform(T_st, points) - points
    complete = enlarge(values["complete_flow_scales"][i][b, s].numpy())
    logits = values["motion_logits_scales"][i][b, s].numpy()
    mask = enlarge(1 / (1 + np.exp(-logits)))
    return {
        "K": K,
        "d": d,
        "points": points,
        "rigid": rigid,
        "complete": complete,
        "mask": mask,
        "final": rigid + mask * (complete - rigid),
    }


def consistency(scene: dict, i: int) -> float:
    counted = (scene["d"] > 0.03) * (1 - scene["mask"])
    return (counted * np.abs(scene["complete"] - scene["rigid"])).mean() / 2**i


def distances(scene: dict, size: tuple[int, int]) -> np.ndarray:
    """Mean squared distance of both grids in each pixel of `size`; NaN where one is unknown."""
    grids, known = [], True
    for flow in (scene["rigid"], scene["complete"]):
        pixels, z = oracle.project(scene["points"] + flow, scene["K"])
        known = known & (z > oracle.MIN_Z)
        grids.append(2 * pixels / np.array([SIZE[1] - 1, SIZE[0] - 1])[:, None, None] - 1)
    squared = ((grids[0] - grids[1]) ** 2).sum(0)
    return oracle.shrink(np.where(known, squared, np.nan)[None], size)[0]


def found(term, values: dict, **context) -> np.ndarray:
    made = synthesise(values, "final", SPEC, SIZE, wanted=term.requires)
    return term(made, StepContext(**context)).numpy()


def expected(of_scene) -> list[float]:
    """Mean over sources and scales, of each sample."""
    return [
        float(np.mean([of_scene(b, s, i) for s in range(S) for i in range(len(SCALES))]))
        for b in range(B)
    ]


@pytest.mark.parametrize("seed", [0, 1])
def test_consistency(seed):
    values = stream(seed)
    far = (values["disparity_scales"][0] < 0.03).double().mean()
    assert 0.1 < far < 0.9
    np.testing.assert_allclose(
        found(Consistency(), values),
        expected(lambda b, s, i: consistency(numpy_scene(values, b, s, i), i)),
        rtol=1e-6,
    )


@pytest.mark.parametrize("threshold", ["image", "batch"])
@pytest.mark.parametrize("seed", [0, 1])
def test_sparsity(seed, threshold):
    values = stream(seed)
    values["complete_flow_scales"] = [
        flow * torch.tensor([0.2, 1.0], dtype=F64).view(B, 1, 1, 1, 1)
        for flow in values["complete_flow_scales"]
    ]
    maps = {
        (b, s, i): distances(numpy_scene(values, b, s, i), SCALES[i])
        for b in range(B)
        for s in range(S)
        for i in range(len(SCALES))
    }
    assert np.isnan(maps[0, 0, 0]).any()
    assert not all(np.isnan(m).all() for m in maps.values())

    def of_scene(b, s, i):
        pooled = [maps[b, s, i]] if threshold == "image" else [maps[k, s, i] for k in range(B)]
        static = maps[b, s, i] < np.nanmean(np.stack(pooled))
        logits = values["motion_logits_scales"][i][b, s, 0].numpy()
        return np.log1p(np.exp(logits))[static].mean() / 2**i

    result = found(Sparsity(threshold=threshold), values)
    np.testing.assert_allclose(result, expected(of_scene), rtol=1e-6)


@pytest.mark.parametrize(
    ("term", "maps"),
    [
        (FlowSmooth(), lambda values, i: values["complete_flow_scales"][i]),
        (MaskSmooth(), lambda values, i: values["motion_logits_scales"][i].sigmoid()),
    ],
)
def test_smoothness_of_flow_and_mask(term, maps):
    values = stream()

    def of_scene(b, s, i):
        image = values["target_image"][b].numpy()
        return oracle.edge_aware(maps(values, i)[b, s].numpy(), image) / 2**i

    np.testing.assert_allclose(found(term, values), expected(of_scene), rtol=1e-10)


def test_above_ground():
    """A bumpy road under each of two cameras; the plane comes from where it is tested itself."""
    values = stream()
    K = values["K"] = torch.tensor(
        [[40.0, 0.2, 21.0], [0, 38.0, 9.0], [0, 0, 1]], dtype=F64
    ).repeat(B, 1, 1)
    generator = torch.Generator().manual_seed(3)
    small = [camera.resize_K(K, SIZE, size) for size in SCALES]
    scales = []
    for own, size in zip(small, SCALES, strict=True):
        rays = camera.backproject(torch.ones(B, 1, *size, dtype=F64), own)
        road = (rays[:, 1:2] / torch.tensor([1.2, 2.0]).view(B, 1, 1, 1)).clamp(min=0.04)
        bumps = 1 + 0.05 * torch.randn(B, 1, *size, generator=generator, dtype=F64)
        scales.append(camera.depth_to_disparity(1 / (road * bumps), SPEC.min, SPEC.max))
    values |= {"disparity_scales": scales, "depth_spec": SPEC}
    losses = np.zeros(B)
    for i, disparity in enumerate(scales):
        depth = camera.disparity_to_depth(disparity, SPEC.min, SPEC.max)
        plane = fit_ground_plane(camera.backproject(depth, small[i]), tolerance=0.05, seed=7)
        assert plane.found.tolist() == [i < 2] * B  # the coarsest has too few points
        for b in range(B):
            rays = oracle.backproject(np.ones((1, *SCALES[i])), small[i][b].numpy())
            # n . (z r) + h = 0 lies at 1/z = -(n . r) / h, and what counts as on it 5% farther.
            fall = -np.tensordot(plane.normal[b].numpy(), rays, 1)
            inverse = fall / (1.05 * plane.height[b].item() or np.inf)
            of_plane = (inverse - 1 / SPEC.max) / (1 / SPEC.min - 1 / SPEC.max)
            lost = np.maximum(of_plane - disparity[b, 0].numpy(), 0)
            losses[b] += np.where(inverse >= 1 / SPEC.max, lost, 0).mean() / 2**i / len(SCALES)
    result = AboveGround(tolerance=0.05)(values, StepContext(generator_seed=7))
    assert (losses > 1e-4).all()
    np.testing.assert_allclose(result.numpy(), losses, rtol=1e-9)


@pytest.mark.parametrize("warp", ["complete", "final"])
def test_the_photometric_chain_through_flows(warp):
    values = stream()
    result = Photometric(automask=False)(synthesise(values, warp, SPEC, SIZE), StepContext())
    for b in range(B):
        target, scales = values["target_image"][b].numpy(), []
        for i in range(len(SCALES)):
            errors = []
            for s in range(S):
                scene = numpy_scene(values, b, s, i)
                pixels, _ = oracle.project(scene["points"] + scene[warp], scene["K"])
                view = oracle.sample(values["source_images"][b, s].numpy(), pixels)
                errors.append(oracle.photometric_error(view, target))
            scales.append(np.min(errors, 0).mean())
        assert result[b].item() == pytest.approx(np.mean(scales), rel=1e-6)
