"""The photometric term against a float64 NumPy re-implementation."""

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from torch.autograd import gradcheck

from unienc_core.contracts import StepContext
from unienc_core.errors import PresetError, ShapeError
from unienc_core.losses.photometric import Photometric, PhotometricReference
from unienc_core.losses.ssim import SsimReference
from unienc_core.registry import bind_options

F64 = torch.float64


def numpy_error(view: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The error `H W` of one `3 H W` view in float64, by SciPy's mirrored box filter."""
    total = 0.0
    for x, y in zip(view.astype(np.float64), target.astype(np.float64), strict=True):

        def mean(a):
            return uniform_filter(a, size=3, mode="mirror")

        mx, my = mean(x), mean(y)
        vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
        ssim = (2 * mx * my + 1e-4) * (2 * cov + 9e-4)
        ssim /= (mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)
        total += 0.85 * np.clip((1 - ssim) / 2, 0, 1) + 0.15 * np.abs(x - y)
    return total / 3


def numpy_loss(values, *, automask: bool, seed: int = 0) -> np.ndarray:
    """The whole term, sample by sample and scale by scale, `B`."""
    target, sources = (values[k].detach().numpy() for k in ("target_image", "source_images"))
    B, S, _, H, W = sources.shape
    noise = torch.randn(
        B, S, H, W, generator=torch.Generator().manual_seed(seed), dtype=values["K"].dtype
    ).numpy()
    losses = np.zeros(B)
    for b in range(B):
        for warped in values["warped_scales"]:
            views = warped.detach().numpy()[b]
            candidates = [numpy_error(view, target[b]) for view in views]
            if automask:
                candidates += [
                    numpy_error(sources[b, s], target[b]) + 1e-5 * noise[b, s] for s in range(S)
                ]
            losses[b] += np.min(candidates, 0).mean() / len(values["warped_scales"])
    return losses


def random_values(B=3, S=2, H=19, W=23, scales=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    target = rand(B, 3, H, W)
    near = [(target[:, None] + 0.4 * (rand(B, S, 3, H, W) - 0.5)).clamp(0, 1) for _ in range(4)]
    return {
        "target_image": target,
        "source_images": near[3],
        "warped_scales": near[:scales],
        "K": rand(B, 3, 3),
    }


@pytest.mark.parametrize(("H", "W"), [(2, 2), (7, 5), (16, 24)])
def test_error_equals_numpy_in_float64(H, W):
    values = random_values(H=H, W=W, dtype=F64)
    found = PhotometricReference(values["target_image"]).error(values["source_images"])
    for b in range(3):
        for s in range(2):
            expected = numpy_error(
                values["source_images"][b, s].numpy(), values["target_image"][b].numpy()
            )
            np.testing.assert_allclose(found[b, s].numpy(), expected, rtol=0, atol=1e-12)


def test_error_in_float32_keeps_five_digits_on_flat_and_textured_images():
    flat = torch.full((1, 3, 20, 30), 0.8)
    for target in (flat, flat + 0.002 * torch.rand(1, 3, 20, 30), torch.rand(1, 3, 20, 30)):
        view = (target + 0.001)[:, None]
        found = PhotometricReference(target).error(view)[0, 0].numpy()
        expected = numpy_error(view[0, 0].numpy(), target[0].numpy())
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


def test_two_flat_images_by_hand():
    """Without structure SSIM is (2ab + C1) / (a^2 + b^2 + C1)."""
    target, view = torch.full((1, 3, 4, 4), 0.2, dtype=F64), torch.full((1, 1, 3, 4, 4), 0.6)
    ssim = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    error = PhotometricReference(target).error(view.double())
    expected = 0.85 * (1 - ssim) / 2 + 0.15 * 0.4
    assert error.flatten().tolist() == pytest.approx([expected] * 16)


def test_the_same_image_has_no_error():
    target = torch.rand(2, 3, 9, 11)
    error = PhotometricReference(target).error(target[:, None])
    assert error.abs().max() < 1e-6


@pytest.mark.parametrize("automask", [True, False])
@pytest.mark.parametrize("B", [1, 3])
def test_the_term_equals_numpy(automask, B):
    values = random_values(B=B, dtype=F64)
    found = Photometric(automask=automask)(values, StepContext(generator_seed=11))
    assert found.shape == (B,)
    expected = numpy_loss(values, automask=automask, seed=11)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def test_the_mask_competes_at_every_scale():
    values = random_values(scales=3)
    one_by_one = [
        Photometric()(values | {"warped_scales": [warped]}, StepContext())
        for warped in values["warped_scales"]
    ]
    together = Photometric()(values, StepContext())
    torch.testing.assert_close(together, torch.stack(one_by_one).mean(0))


def test_the_better_source_counts_pixel_by_pixel():
    target = torch.rand(1, 3, 12, 20)
    left, right = torch.rand_like(target), torch.rand_like(target)
    left[..., :10], right[..., 10:] = target[..., :10], target[..., 10:]
    values = {"target_image": target, "warped_scales": [torch.stack((left, right), 1)]}
    both = Photometric(automask=False)(values, StepContext())
    values["warped_scales"] = [left[:, None]]
    one = Photometric(automask=False)(values, StepContext())
    # Only windows that straddle the seam see any error.
    assert both < 0.2 * one


def test_a_partial_last_batch_gives_the_same_losses():
    term, values = Photometric(automask=False), random_values(B=3)
    whole = term(values, StepContext())
    last = {k: v[2:] for k, v in values.items() if k != "warped_scales"}
    last["warped_scales"] = [w[2:] for w in values["warped_scales"]]
    torch.testing.assert_close(term(last, StepContext()), whole[2:], rtol=0, atol=1e-7)


def test_jittered_copies_are_not_read():
    values = random_values()
    jittered = {
        "target_image_aug": torch.rand_like(values["target_image"]),
        "source_images_aug": torch.rand_like(values["source_images"]),
    }
    plain = Photometric()(values, StepContext())
    assert torch.equal(Photometric()(values | jittered, StepContext()), plain)


def test_noise_comes_from_the_seed_alone():
    values = random_values()
    flat = values | {"source_images": values["target_image"].unsqueeze(1).expand(3, 2, 3, 19, 23)}
    first = Photometric()(flat, StepContext(generator_seed=7))
    torch.rand(5)  # the global generator plays no part
    assert torch.equal(Photometric()(flat, StepContext(generator_seed=7)), first)
    assert not torch.equal(Photometric()(flat, StepContext(generator_seed=8)), first)


def test_similarity_has_the_derivative_it_writes_out():
    image, views = (
        torch.rand(2, n, 2, 4, 5, generator=torch.Generator().manual_seed(n), dtype=F64)
        for n in (1, 3)
    )
    reference = SsimReference(image)
    assert gradcheck(reference.similarity, (views.requires_grad_(),))


def test_gradient_matches_finite_differences():
    values = random_values(B=1, H=5, W=6, dtype=F64)

    def loss(warped):
        return Photometric()(values | {"warped_scales": [warped]}, StepContext())

    assert gradcheck(loss, (values["warped_scales"][0].requires_grad_(),))


def test_autocast_does_not_coarsen_the_error():
    values = random_values()
    plain = Photometric()(values, StepContext())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(Photometric()(values, StepContext()), plain)


def test_required_keys_follow_the_mask():
    assert Photometric().requires == ("target_image", "source_images", "warped_scales")
    assert Photometric(automask=False).requires == ("target_image", "warped_scales")


def test_options_are_bound_to_the_signature():
    assert bind_options("term", "photometric", {}) == {"automask": True}
    assert bind_options("term", "photometric", {"automask": False}) == {"automask": False}
    with pytest.raises(PresetError, match="did you mean 'automask'"):
        bind_options("term", "photometric", {"auto_mask": True}, "terms.photometric")
    with pytest.raises(PresetError, match=r"terms.photometric.options.automask: .*bool"):
        bind_options("term", "photometric", {"automask": "perhaps"}, "terms.photometric")
    assert bind_options("term", "smooth", {}) == {}
    with pytest.raises(PresetError, match="options: none"):
        bind_options("term", "smooth", {"scales": 4})


def test_wrong_shapes_are_named():
    values = random_values()
    with pytest.raises(ShapeError, match="target_image"):
        PhotometricReference(values["source_images"])
    with pytest.raises(ShapeError, match="views"):
        PhotometricReference(values["target_image"]).error(values["source_images"][..., :-1])
