"""Losses against NumPy from raw predictions to the number, and who wins each pixel."""

import numpy as np
import numpy_oracles as oracle
import pytest
import torch

from unienc_core.contracts import StepContext
from unienc_core.geometry import se3
from unienc_core.losses import Photometric, Smooth
from unienc_core.losses.photometric import TIE_NOISE
from unienc_core.presets import DepthSpec
from unienc_core.view_synthesis import synthesise

F32, F64 = torch.float32, torch.float64
SIZE = (97, 131)
SCALES = (SIZE, (49, 66), (25, 33))
SPEC = DepthSpec(min=0.5, max=40.0)
SEED = 17
KEYS = ("target_image", "source_images", "K", "T_source_target", "disparity_scales")


def stream(B: int, dtype: torch.dtype, S: int = 2, still: bool = True) -> dict:
    """A smooth texture seen by moving cameras, with noise; poses and depths are wrong, as early on.

    Where something is `still`, the last quarter of every image is the same in all frames.
    """
    H, W = SIZE
    generator = torch.Generator().manual_seed(10 * B + S)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=F64)

    v, u = torch.meshgrid(torch.arange(H, dtype=F64), torch.arange(W, dtype=F64), indexing="ij")
    shift = 4 * rand(B, S + 1, 3, 1, 1)
    images = 0.5 + 0.2 * torch.sin((u + shift) / 7) + 0.2 * torch.cos((v - 2 * shift) / 5)
    images = (images + 0.1 * rand(B, S + 1, 3, H, W)).clamp(0, 1)
    if still:
        images[..., -W // 4 :] = images[:, :1, :, :, -W // 4 :]
    K = torch.tensor([[90.0, 0.3, 63.0], [0, 85.0, 50.0], [0, 0, 1]], dtype=F64).repeat(B, 1, 1)
    K[:, 0, 0] += 20 * rand(B)
    motion = 2 * rand(B, S, 6) - 1
    values = {
        "target_image": images[:, 0],
        "source_images": images[:, 1:],
        "K": K,
        "T_source_target": se3.make_T(0.02 * motion[..., :3], 0.1 * motion[..., 3:]),
    }
    values = {key: value.to(dtype) for key, value in values.items()}
    return values | {"disparity_scales": [rand(B, 1, *size).to(dtype) for size in SCALES]}


def numpy_candidates(values: dict, b: int, automask: bool, noise: np.ndarray) -> list[np.ndarray]:
    """Errors of all candidates of a sample, per scale `S H W` or `2S H W`: warped, unwarped."""
    own = {key: values[key][b].double().numpy() for key in KEYS[:-1]}
    target, scales = own["target_image"], []
    for disparity in values["disparity_scales"]:
        full = oracle.upsample(disparity[b].double().numpy(), SIZE)
        depth = oracle.disparity_to_depth(full, SPEC.min, SPEC.max)
        errors = [
            oracle.photometric_error(oracle.warp(source, depth, own["K"], T_st)[0], target)
            for source, T_st in zip(own["source_images"], own["T_source_target"], strict=True)
        ]
        if automask:
            errors += [
                oracle.photometric_error(source, target) + TIE_NOISE * n
                for source, n in zip(own["source_images"], noise[b], strict=True)
            ]
        scales.append(np.stack(errors))
    return scales


def tie_noise(B: int, dtype: torch.dtype, S: int = 2) -> np.ndarray:
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(B, S, *SIZE, generator=generator, dtype=dtype).double().numpy()


@pytest.mark.parametrize("automask", [True, False])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_the_whole_photometric_chain(dtype, automask):
    """One term for a batch of 3, then the last one of 1: nothing of a batch is left in it."""
    term = Photometric(automask=automask)
    for B in (3, 1):
        values = stream(B, dtype)
        found = term(synthesise(values, "ego", SPEC, SIZE), StepContext(generator_seed=SEED))
        assert found.dtype == dtype
        noise = tie_noise(B, dtype)
        for b in range(B):
            scales = numpy_candidates(values, b, automask, noise)
            expected = np.mean([errors.min(0).mean() for errors in scales])
            assert found[b].item() == pytest.approx(expected, rel=1e-4 if dtype == F32 else 1e-6)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_the_whole_smoothness_chain(dtype):
    """Scales that do not divide the image: the area average of odd sizes overlaps."""
    term = Smooth()
    for B in (3, 1):
        values = stream(B, dtype)
        found = term(values, StepContext())
        assert found.dtype == dtype
        for b in range(B):
            image = values["target_image"][b].double().numpy()
            maps = [d[b].double().numpy() for d in values["disparity_scales"]]
            expected = np.mean([oracle.smoothness(d, image) / 2**i for i, d in enumerate(maps)])
            assert found[b].item() == pytest.approx(expected, rel=1e-4 if dtype == F32 else 1e-9)


@pytest.mark.parametrize("automask", [True, False])
@pytest.mark.parametrize("S", [1, 2, 3])
def test_each_pixel_teaches_the_candidate_that_wins_it(S, automask):
    """The gradient is that of each view's error, in NumPy, over the pixels that it wins there."""
    B = 2
    # Without the mask a still part would make ties: both sources show it alike.
    values = stream(B, F64, S, still=automask)
    made = synthesise(values, "ego", SPEC, SIZE)
    views = [warped.detach().requires_grad_() for warped in made["warped_scales"]]
    context = StepContext(generator_seed=SEED)
    loss = Photometric(automask=automask)(made | {"warped_scales": views}, context)
    gradients = torch.autograd.grad(loss.sum(), views)

    noise = tie_noise(B, F64, S)
    winners = [numpy_candidates(values, b, automask, noise) for b in range(B)]
    target = values["target_image"].numpy()
    rng = np.random.default_rng(S)
    shares = np.zeros(2 * S)
    for i, (view, gradient) in enumerate(zip(views, gradients, strict=True)):
        won = np.stack([winners[b][i].argmin(0) for b in range(B)])
        shares += np.bincount(won.ravel(), minlength=2 * S) / won.size / len(views)
        mine = won[:, None] == np.arange(S)[:, None, None]  # B S H W

        def part(images, mine=mine):
            errors = [[oracle.photometric_error(v, target[b]) for v in images[b]] for b in range(B)]
            return (np.array(errors) * mine).sum() / (SIZE[0] * SIZE[1] * len(views))

        # Along one random way, which a wrong gradient agrees with by no chance.
        array, way = view.numpy(force=True), rng.normal(size=view.shape)
        expected = (part(array + 1e-7 * way) - part(array - 1e-7 * way)) / 2e-7
        assert (gradient.numpy() * way).sum() == pytest.approx(expected, rel=1e-4)
        lost = ~(mine | np.roll(mine, 1, -1) | np.roll(mine, -1, -1))
        lost &= np.roll(lost, 1, -2) & np.roll(lost, -1, -2)  # no window of a pixel that it wins
        assert np.abs(gradient.numpy() * lost[:, :, None]).max() == 0
    # Every kind of candidate has to win somewhere, or this test could not fail.
    assert (shares[: 2 * S if automask else S] > 0.02).all()


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("B", [1, 3])
def test_a_static_pair_is_masked_altogether(dtype, B):
    values = stream(B, dtype)
    values["source_images"] = values["target_image"].unsqueeze(1).repeat(1, 2, 1, 1, 1)
    leaves = [*values["disparity_scales"], values["T_source_target"]]
    for leaf in leaves:
        leaf.requires_grad_()
    term = Photometric()
    made = synthesise(values, "ego", SPEC, SIZE)
    loss = term(made, StepContext(generator_seed=SEED))
    assert term.logs["automask_keep"] == 0
    assert term.logs["warped"] > 0.05  # depth and pose are wrong, and yet
    assert loss.detach().abs().max() < TIE_NOISE
    for gradient in torch.autograd.grad(loss.sum(), leaves):
        assert gradient.abs().max() == 0
    taught = Photometric(automask=False)(synthesise(values, "ego", SPEC, SIZE), StepContext())
    gradients = torch.autograd.grad(taught.sum(), leaves)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_the_standing_part_of_an_image_is_masked_and_the_rest_is_not():
    values = stream(2, F64)
    made = synthesise(values, "ego", SPEC, SIZE)
    views = made["warped_scales"][0].detach().requires_grad_()
    loss = Photometric()(made | {"warped_scales": [views]}, StepContext(generator_seed=SEED))
    (gradient,) = torch.autograd.grad(loss.sum(), views)
    still = SIZE[1] - SIZE[1] // 4 + 2  # two pixels of window beside the seam
    assert gradient[..., still:].abs().max() == 0
    assert (gradient[..., : still - 4].abs().amax((1, 2)) > 0).double().mean() > 0.1
