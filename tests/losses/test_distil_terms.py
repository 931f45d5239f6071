"""L_distil: by hand, against NumPy, where its gradient goes, and maps that differ in size."""

import math

import numpy as np
import pytest
import torch

from unienc_core.contracts import StepContext
from unienc_core.errors import PresetError, ShapeError
from unienc_core.losses import DistilFlow, DistilMask
from unienc_core.registry import build

F64 = torch.float64
SIZES = ((8, 12), (4, 6), (2, 3))


def maps(seed, channels, sizes=SIZES, B=2, S=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, S, channels, h, w, generator=generator, dtype=F64) for h, w in sizes]


def flows(ours, theirs, **more):
    return {"complete_flow_scales": ours, "teacher/complete_flow_scales": theirs, **more}


def masks(ours, theirs):
    return {"motion_logits_scales": ours, "teacher/motion_logits_scales": theirs}


def test_flow_by_hand():
    """Axes 1, 2 and 6 wrong: 3 on average; half a scale further, and a quarter, so much less."""
    wrong = torch.tensor([1.0, -2.0, 6.0], dtype=F64).view(1, 1, 3, 1, 1)
    theirs = maps(0, 3)
    found = DistilFlow()(flows([t + wrong for t in theirs], theirs), StepContext())
    assert found.tolist() == pytest.approx([3 * (1 + 1 / 2 + 1 / 4) / 3] * 2)


def test_mask_by_hand():
    """Logits of 3 to 1 and 1 to 3 are probabilities of 3/4 and 1/4."""
    ours = [torch.full((1, 2, 1, 4, 6), math.log(3), dtype=F64)]
    found = DistilMask()(masks(ours, [-ours[0]]), StepContext())
    assert found.tolist() == pytest.approx([0.5])
    half = [torch.cat((-ours[0][..., :3], ours[0][..., 3:]), -1)]
    assert DistilMask()(masks(ours, half), StepContext()).tolist() == pytest.approx([0.25])


def test_each_sample_has_its_own_loss():
    theirs = maps(0, 3)
    shift = torch.tensor([0.5, 2.0], dtype=F64).view(2, 1, 1, 1, 1)
    found = DistilFlow()(flows([t + shift for t in theirs], theirs), StepContext())
    assert (found[1] / found[0]).item() == pytest.approx(4)


def numpy_distance(ours, theirs) -> np.ndarray:
    """Written from the formula: mean over scales of the mean absolute difference over 2^i."""
    losses = np.zeros(len(ours[0]))
    for i, (own, other) in enumerate(zip(ours, theirs, strict=True)):
        for b in range(len(own)):
            losses[b] += np.abs(other[b] - own[b]).sum() / own[b].size / 2.0**i
    return losses / len(ours)


@pytest.mark.parametrize("seed", [0, 1])
def test_against_numpy(seed):
    ours, theirs = maps(seed, 3), maps(seed + 10, 3)
    expected = numpy_distance(*([x.numpy() for x in group] for group in (ours, theirs)))
    found = DistilFlow()(flows(ours, theirs), StepContext())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)

    ours, theirs = maps(seed, 1), maps(seed + 10, 1)
    seen = ([1 / (1 + np.exp(-x.numpy())) for x in group] for group in (ours, theirs))
    found = DistilMask()(masks(ours, theirs), StepContext())
    np.testing.assert_allclose(found.numpy(), numpy_distance(*seen), rtol=1e-12)


def test_in_the_unit_of_the_depth_against_numpy():
    """Of an even number of pixels the lower of the two in the middle counts."""
    ours, theirs = maps(0, 3), maps(10, 3)
    generator = torch.Generator().manual_seed(4)
    depth, taught = (torch.rand(2, 1, 8, 12, generator=generator, dtype=F64) + c for c in (1, 5))
    term = DistilFlow(unit="depth")
    found = term(flows(ours, theirs, depth=depth, **{"teacher/depth": taught}), StepContext())
    middles = [
        np.sort(d.numpy().reshape(2, -1))[:, (d[0].numel() - 1) // 2] for d in (depth, taught)
    ]
    ratio = (middles[0] / middles[1])[:, None, None, None, None]
    expected = numpy_distance([x.numpy() for x in ours], [ratio * x.numpy() for x in theirs])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    assert term.logs["unit"].item() == pytest.approx(ratio.mean())


def test_another_unit_costs_nothing_in_the_unit_of_the_depth():
    """The same scene, which the teacher believes seven times as large."""
    ours = maps(0, 3)
    depth = torch.rand(2, 1, 8, 12, dtype=F64) + 0.5
    values = flows(ours, [7 * f for f in ours], depth=depth, **{"teacher/depth": 7 * depth})
    assert DistilFlow(unit="depth")(values, StepContext()).abs().max() < 1e-15
    assert DistilFlow()(values, StepContext()).min() > 1


def test_gradients_reach_the_students_maps_alone():
    for term, key, channels in (
        (DistilFlow(unit="depth"), "complete_flow_scales", 3),
        (DistilMask(), "motion_logits_scales", 1),
    ):
        values = {key: maps(0, channels), f"teacher/{key}": maps(1, channels)}
        values |= {name: [torch.rand(2, 1, 8, 12) + 1] for name in ("depth", "teacher/depth")}
        for group in values.values():
            for leaf in group:
                leaf.requires_grad_()
        read = {k: v if "scales" in k else v[0] for k, v in values.items()}
        term(read, StepContext()).sum().backward()
        assert all(leaf.grad is not None and leaf.grad.any() for leaf in values[key])
        others = [leaf for name, group in values.items() if name != key for leaf in group]
        assert [leaf.grad for leaf in others] == [None] * len(others)


def test_gradients_match_finite_differences():
    def flow(*ours):
        return DistilFlow()(flows(list(ours), maps(1, 3)), StepContext())

    def mask(*ours):
        return DistilMask()(masks(list(ours), maps(1, 1)), StepContext())

    for loss, channels in ((flow, 3), (mask, 1)):
        assert torch.autograd.gradcheck(loss, [x.requires_grad_() for x in maps(0, channels)])


def test_the_scales_that_both_have_count():
    ours, theirs = maps(0, 3), maps(1, 3)
    two = DistilFlow()(flows(ours[:2], theirs[:2]), StepContext())
    assert torch.equal(DistilFlow()(flows(ours, theirs[:2]), StepContext()), two)
    assert torch.equal(DistilFlow()(flows(ours[:2], theirs), StepContext()), two)


def test_maps_of_other_sizes_are_brought_to_the_students():
    """A ramp is a ramp at any size, away from the borders; each pixel shrunk is that of an area."""
    wide = torch.arange(12, dtype=F64).expand(1, 1, 3, 8, 12)
    narrow = wide.unflatten(-1, (6, 2)).mean(-1)[..., ::2, :]
    assert DistilFlow()(flows([narrow], [wide]), StepContext()).item() == pytest.approx(0)
    enlarged = DistilFlow()(flows([wide], [narrow]), StepContext())
    assert enlarged.item() == pytest.approx(2 * 0.5 / 12)  # the two columns at the borders
    with pytest.raises(ShapeError, match="teacher"):
        DistilFlow()(flows([wide], [wide[:, :, :2]]), StepContext())


def test_half_precision_is_compared_in_single():
    ours, theirs = maps(0, 1), maps(1, 1)
    values = masks([x.bfloat16() for x in ours], [x.bfloat16() for x in theirs])
    found = DistilMask()(values, StepContext())
    assert found.dtype == torch.float32


def test_what_they_read_and_their_option():
    assert build("term", "distil_flow", options={}).requires == (
        "complete_flow_scales",
        "teacher/complete_flow_scales",
    )
    assert build("term", "distil_flow", options={"unit": "depth"}).requires == (
        "complete_flow_scales",
        "depth",
        "teacher/complete_flow_scales",
        "teacher/depth",
    )
    with pytest.raises(PresetError, match="unit"):
        build("term", "distil_flow", options={"unit": "metres"})
