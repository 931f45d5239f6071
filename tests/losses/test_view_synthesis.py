"""View synthesis: exact shifts, exact scenes, scales, and streams that lack something."""

import pytest
import torch
from analytic_scenes import plane_values

from unienc_core.errors import ShapeError, WiringError
from unienc_core.geometry import camera, se3
from unienc_core.geometry.warp import warp_ego
from unienc_core.presets import DepthSpec
from unienc_core.view_synthesis import check_warp, full_size_depths, made_from, synthesise

F64 = torch.float64
SPEC = DepthSpec(min=0.1, max=100.0)


def stream(B=2, S=2, H=37, W=53, scales=((37, 53), (19, 27), (10, 14)), dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    fields_of_view = [60.0 - 10 * b for b in range(B)]  # one camera per sample
    return {
        "target_image": rand(B, 3, H, W),
        "source_images": rand(B, S, 3, H, W),
        "K": torch.stack([camera.K_from_fov(fov, H, W) for fov in fields_of_view]).to(dtype),
        "disparity_scales": [rand(B, 1, h, w) for h, w in scales],
        "T_source_target": se3.make_T(0.02 * rand(B, S, 3), 0.1 * rand(B, S, 3)),
    }


def test_identity_pose_gives_the_source_whatever_the_depth():
    for dtype, atol in ((torch.float32, 2e-5), (F64, 1e-12)):
        values = stream(dtype=dtype)
        values["T_source_target"] = torch.eye(4, dtype=dtype).expand(2, 2, 4, 4)
        made = synthesise(values, "ego", SPEC, (37, 53))
        for warped, seen in zip(made["warped_scales"], made["in_view_scales"], strict=True):
            torch.testing.assert_close(warped, values["source_images"], rtol=0, atol=atol)
            assert seen.all()


@pytest.mark.parametrize("shift", [3, -2])
def test_sideways_translation_over_a_frontal_plane_shifts_by_whole_pixels(shift):
    """All points at depth z move fx tx / z pixels; beyond the border the last column repeats."""
    source = torch.rand(1, 1, 3, 9, 16, dtype=F64)
    K = torch.tensor([[[20.0, 0.0, 6.5], [0.0, 21.0, 4.0], [0.0, 0.0, 1.0]]], dtype=F64)
    z = 5.0
    T_st = torch.eye(4, dtype=F64).view(1, 1, 4, 4).clone()
    T_st[..., 0, 3] = shift * z / 20.0
    warped, seen = warp_ego(source, torch.full((1, 1, 9, 16), z, dtype=F64), K, T_st)
    columns = torch.arange(16) + shift
    expected = source[..., columns.clamp(0, 15)]
    torch.testing.assert_close(warped, expected, rtol=0, atol=1e-12)
    inside = (columns >= 0) & (columns < 16)
    assert torch.equal(seen, inside.expand_as(seen))


def test_true_depth_and_pose_rebuild_the_target_of_an_exact_scene():
    values = plane_values()
    args = values["depth_gt"], values["K"], values["T_source_target"]
    warped, seen = warp_ego(values["source_images"], *args)
    target = values["target_image"].unsqueeze(1)
    assert seen.double().mean() > 0.75
    error = (warped - target).abs().amax(2, keepdim=True)[seen]
    unwarped = (values["source_images"] - target).abs().amax(2, keepdim=True)[seen]
    assert error.quantile(0.95) < 0.008  # what bilinear sampling of a curved signal leaves
    assert error.max() < 0.05  # on the outer half of the border pixels
    assert unwarped.mean() > 20 * error.mean()


def test_disparity_not_depth_is_upsampled():
    values = stream()
    made = synthesise(values, "ego", SPEC, (37, 53))
    for depth in made["depth_scales"]:
        assert depth.shape == (2, 1, 37, 53)
    finest = camera.disparity_to_depth(values["disparity_scales"][0], 0.1, 100.0)
    torch.testing.assert_close(made["depth"], finest)

    ramp = torch.tensor([0.2, 0.6]).view(1, 1, 1, 2).expand(1, 1, 2, 2)
    (depth,) = full_size_depths([ramp], SPEC, (4, 4))
    # Pixel centres of the fine grid lie at -1/4, 1/4, 3/4, 5/4 of the coarse one.
    expected = camera.disparity_to_depth(torch.tensor([0.2, 0.3, 0.5, 0.6]), 0.1, 100.0)
    torch.testing.assert_close(depth, expected.expand(1, 1, 4, 4))


def test_both_depth_conventions_reach_the_depth():
    flat = [torch.full((1, 1, 2, 2), 0.25)]
    (scaled,) = full_size_depths(flat, SPEC, (4, 6))
    (inverse,) = full_size_depths(flat, DepthSpec(min=1, max=100, convention="inverse"), (4, 6))
    assert scaled.unique().item() == pytest.approx(1 / (0.01 + 9.99 * 0.25))
    assert inverse.unique().item() == pytest.approx(4.0)


def test_all_made_keys_are_there_finest_first_and_nothing_is_lost():
    values = stream()
    made = synthesise(values, "ego", SPEC, (37, 53))
    expected = {k for k, made in made_from("ego").items() if set(made) <= set(values)}
    assert expected > {"depth", "depth_scales", "warped", "in_view_scales", "rigid_flow"}
    assert set(made) == set(values) | expected
    for name in ("depth", "warped", "in_view", "rigid_flow"):
        assert len(made[f"{name}_scales"]) == 3
        assert made[name] is made[f"{name}_scales"][0]
    assert made["warped"].shape == (2, 2, 3, 37, 53)
    assert made["in_view"].shape == (2, 2, 1, 37, 53)
    assert made["in_view"].dtype == torch.bool


def test_a_stream_without_sources_gets_depth_and_one_without_depth_nothing():
    values = stream()
    labels = {k: values[k] for k in ("target_image", "disparity_scales")}
    made = synthesise(labels, "ego", SPEC, (37, 53))
    assert set(made) == set(labels) | {"depth", "depth_scales", "depth_spec"}
    assert synthesise({"image": values["target_image"]}, "ego", SPEC, (37, 53)).keys() == {"image"}


@pytest.mark.parametrize(("B", "S"), [(1, 1), (3, 2), (2, 3)])
def test_every_sample_and_source_is_warped_on_its_own(B, S):
    values = stream(B, S)
    made = synthesise(values, "ego", SPEC, (37, 53))
    for b in range(B):
        for s in range(S):
            alone, _ = warp_ego(
                values["source_images"][b : b + 1, s : s + 1],
                made["depth"][b : b + 1],
                values["K"][b : b + 1],
                values["T_source_target"][b : b + 1, s : s + 1],
            )
            torch.testing.assert_close(made["warped"][b, s], alone[0, 0])


def test_gradients_reach_depth_and_pose_and_stay_finite_behind_the_camera():
    values = stream()
    for disparity in values["disparity_scales"]:
        disparity.requires_grad_()
    v = torch.zeros(2, 2, 3, requires_grad=True)
    t = torch.zeros(2, 2, 3)
    t[0, 0, 2] = -0.4  # past the nearest points of the first sample
    t.requires_grad_()
    values["T_source_target"] = se3.make_T(v, t)
    made = synthesise(values, "ego", SPEC, (37, 53))
    sum(w.square().sum() for w in made["warped_scales"]).backward()
    for leaf in (*values["disparity_scales"], v, t):
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().sum() > 0


def test_autocast_and_half_precision_disparity_do_not_coarsen_the_warp():
    values = stream()
    halves = [d.bfloat16() for d in values["disparity_scales"]]
    values["disparity_scales"] = [d.float() for d in halves]
    plain = synthesise(values, "ego", SPEC, (37, 53))
    values["disparity_scales"] = halves
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = synthesise(values, "ego", SPEC, (37, 53))
    for found, expected in zip(made["warped_scales"], plain["warped_scales"], strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


def test_what_cannot_be_done_is_said():
    for warp, heads in (("complete", "a scene flow head,"), ("final", "head and a motion mask")):
        with pytest.raises(WiringError, match=heads):
            check_warp(warp, ["disparity_scales", "T_source_target"])
    with pytest.raises(WiringError, match="final' needs a motion mask head.*motion_logits_scales;"):
        check_warp("final", ["complete_flow_scales"])
    check_warp("complete", ["complete_flow_scales"])
    check_warp("ego", [])
    with pytest.raises(ShapeError, match="source_images"):
        synthesise(stream(), "ego", SPEC, (36, 53))
    values = stream()
    values["T_source_target"] = values["T_source_target"][:, :1]
    with pytest.raises(ShapeError, match="T_source_target"):
        synthesise(values, "ego", SPEC, (37, 53))
