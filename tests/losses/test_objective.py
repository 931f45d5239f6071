"""The objective: streams, masks, weights, logs, learned parameters, and wiring faults."""

import pytest
import torch
from torch import nn

from unienc_core.contracts import StepContext, Term
from unienc_core.errors import PresetError, ShapeError, WiringError
from unienc_core.geometry import camera, se3
from unienc_core.losses import Balancing, Objective
from unienc_core.presets import load_preset, preset_from_dict
from unienc_core.registry import register
from unienc_core.view_synthesis import synthesise


@register("term", "test_value")
class ValueTerm(Term):
    """The per-sample values under `key`."""

    def __init__(self, *, key: str = "x") -> None:
        super().__init__()
        self.requires = (key,)

    def forward(self, values, context):
        loss = values[self.requires[0]]
        self.logs = {"largest": loss.max()}
        return loss


@register("term", "test_scalar")
class ScalarTerm(Term):
    """A scalar with a learned temperature."""

    requires = ("x",)

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, values, context):
        return values["x"].sum() * self.temperature


@register("term", "test_matmul")
class MatmulTerm(Term):
    """A product that autocast would compute in bfloat16."""

    requires = ("x",)

    def forward(self, values, context):
        return values["x"] @ values["x"]


class LearnedBalancing(Balancing):
    """Test-only: one learned log-variance per term, after Kendall et al."""

    def __init__(self, terms) -> None:
        super().__init__(terms)
        self.log_variance = nn.Parameter(torch.zeros(len(self.terms)))

    def forward(self, losses):
        active = {name: self.log_variance[self.terms.index(name)] for name in losses}
        return sum(torch.exp(-s) * losses[name] + s for name, s in active.items())


def preset(terms, streams=("triplets",), **changes):
    raw = {
        "name": "test",
        "image_size": [32, 32],
        "network": {
            "encoders": {"main": {"type": "timm"}},
            "heads": {"depth": {"type": "unet", "reads": ["main"]}},
        },
        "streams": {name: {"kind": "triplets", "batch_size": 2} for name in streams},
        "terms": terms,
        "stages": [{"name": "one", "steps": 1, "terms": list(terms)}],
    }
    return preset_from_dict(raw | changes)


def geometry_values(B=2, H=32, W=40):
    return {
        "target_image": torch.rand(B, 3, H, W),
        "source_images": torch.rand(B, 2, 3, H, W),
        "K": camera.K_from_fov(60, H, W).expand(B, 3, 3),
        "disparity_scales": [torch.rand(B, 1, H // 2, W // 2, requires_grad=True)],
        "T_source_target": se3.make_T(torch.zeros(B, 2, 3), 0.1 * torch.rand(B, 2, 3)),
    }


def values_of(x, **more):
    return {"triplets": {"x": torch.tensor(x), **more}}


def test_weights_ramps_and_logs():
    terms = {
        "a": {"type": "test_value", "weight": 3.0},
        "b": {"type": "test_value", "weight": 0.5, "ramp": True, "options": {"key": "y"}},
    }
    objective = Objective(preset(terms))
    values = values_of([1.0, 2.0], y=torch.tensor([10.0, 30.0]))
    # ramp = clip(3 * 100 / 600)
    total, logs = objective(values, ["a", "b"], StepContext(step=100, steps_per_ramp=600))
    assert total.item() == pytest.approx(3.0 * 1.5 + 0.5 * 0.5 * 20.0)
    assert {k: v.item() for k, v in logs.items()} == pytest.approx(
        {
            "loss/a": 1.5,
            "loss/b": 20.0,
            "loss/total": total.item(),
            "a/largest": 2.0,
            "b/largest": 30.0,
        }
    )
    full, _ = objective(values, ["a", "b"], StepContext(step=200, steps_per_ramp=600))
    assert full.item() == pytest.approx(4.5 + 10.0)


def test_only_the_active_terms_are_computed():
    objective = Objective(preset({"a": {"type": "test_value"}, "b": {"type": "test_scalar"}}))
    total, logs = objective(values_of([1.0, 2.0]), ["a"], StepContext())
    assert total.item() == 1.5
    assert set(logs) == {"loss/a", "loss/total", "a/largest"}


def test_a_term_runs_on_every_stream_that_offers_its_keys_pooled_over_samples():
    streams = ("triplets", "labels", "other")
    objective = Objective(preset({"a": {"type": "test_value"}}, streams))
    values = {
        "triplets": {"x": torch.tensor([1.0, 2.0, 6.0])},
        "labels": {"x": torch.tensor([11.0])},
        "other": {"z": torch.tensor([100.0])},
    }
    total, _ = objective(values, ["a"], StepContext())
    assert total.item() == pytest.approx(20.0 / 4)
    bound = Objective(preset({"a": {"type": "test_value", "streams": ["labels"]}}, streams))
    assert bound(values, ["a"], StepContext())[0].item() == 11.0


def test_a_listed_stream_that_lacks_a_key_is_an_error():
    term = {"type": "test_value", "streams": ["triplets", "other"]}
    objective = Objective(preset({"a": term}, ("triplets", "other")))
    values = {"triplets": {"x": torch.tensor([1.0])}, "other": {"z": torch.tensor([1.0])}}
    with pytest.raises(WiringError, match=r"terms.a.streams: 'other' lacks x, which the term"):
        objective(values, ["a"], StepContext())


def test_invalid_samples_do_not_count_and_send_no_gradient():
    objective = Objective(preset({"a": {"type": "test_value"}}))
    x = torch.tensor([1.0, float("nan"), 5.0], requires_grad=True)
    values = {"triplets": {"x": x, "valid_x": torch.tensor([True, False, True])}}
    total, _ = objective(values, ["a"], StepContext())
    assert total.item() == 3.0
    total.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.5, 0.0, 0.5]


def test_a_batch_without_a_valid_sample_is_zero_and_still_differentiable():
    objective = Objective(preset({"a": {"type": "test_value"}}))
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    values = {"triplets": {"x": x, "valid_x": torch.zeros(2, dtype=torch.bool)}}
    total, _ = objective(values, ["a"], StepContext())
    assert total.item() == 0.0
    total.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0]


def test_masks_of_what_a_synthesised_key_is_made_from_count_too():
    spec = preset({"photometric": {}})
    objective = Objective(spec)
    values = synthesise(geometry_values(B=3), "ego", spec.depth, (32, 40))
    context = StepContext(generator_seed=3)
    losses = objective.terms["photometric"](values, context).detach()
    values["valid_K"] = torch.tensor([True, True, False])
    values["valid_source_images"] = torch.tensor([False, True, True])
    total, _ = objective({"triplets": values}, ["photometric"], context)
    assert total.item() == pytest.approx(losses[1].item())


def test_teacher_keys_are_keys_like_others():
    objective = Objective(preset({"a": {"type": "test_value", "options": {"key": "teacher/x"}}}))
    values = {"triplets": {"teacher/x": torch.tensor([4.0, 6.0])}}
    assert objective(values, ["a"], StepContext())[0].item() == 5.0


def test_a_missing_key_is_named_with_the_stream_that_lacks_it():
    spec = preset({"photometric": {}}, streams=("triplets", "labels"))
    objective = Objective(spec)
    values = geometry_values()
    del values["T_source_target"]
    values = synthesise(values, "ego", spec.depth, (32, 40))
    streams = {"triplets": values, "labels": {"target_image": values["target_image"]}}
    with pytest.raises(WiringError) as caught:
        objective(streams, ["photometric"], StepContext())
    message = str(caught.value)
    assert "terms.photometric" in message
    assert "'triplets' lacks T_source_target;" in message
    assert "'labels' lacks source_images, K, disparity_scales, T_source_target" in message
    assert "\n" not in message


def test_wiring_can_be_checked_from_keys_alone():
    objective = Objective(preset({"photometric": {}, "smooth": {}}))
    smooth = {"target_image", "disparity_scales"}
    photometric = {*smooth, "source_images", "K", "T_source_target"}
    offered = {"triplets": photometric, "single": smooth, "labels": {"image"}}
    read = objective.reads(["photometric", "smooth"], offered)
    assert read == {"triplets": photometric, "single": smooth, "labels": set()}
    assert objective.reads(["smooth"], offered)["triplets"] == smooth
    assert objective.streams_of("photometric", offered) == ["triplets"]
    with pytest.raises(WiringError, match="'labels' lacks target_image, disparity_scales"):
        objective.streams_of("smooth", {"labels": {"image"}})


def test_what_the_photometric_term_reads_follows_the_warp():
    objective = Objective(preset({"photometric": {"options": {"automask": False}}}))
    shared = {"target_image", "source_images", "K", "disparity_scales"}
    flow, mask = "complete_flow_scales", "motion_logits_scales"
    offered = {"triplets": {*shared, "T_source_target", flow, mask, "motion_mask"}}
    expected = {
        "ego": {*shared, "T_source_target"},
        "complete": {*shared, flow},
        "final": {*shared, "T_source_target", flow, mask},
    }
    for warp, keys in expected.items():
        assert objective.reads(["photometric"], offered, warp)["triplets"] == keys
    with pytest.raises(WiringError, match="'triplets' lacks motion_logits_scales; add a head"):
        objective.streams_of("photometric", {"triplets": expected["final"] - {mask}}, "final")
    assert objective.requires(["photometric"]) == {"target_image", "warped_scales"}


def test_faults_of_a_preset_are_one_line_with_the_place():
    with pytest.raises(PresetError, match=r"terms.a: unknown term type 'photometrik' \(did you"):
        Objective(preset({"a": {"type": "photometrik"}}))
    with pytest.raises(PresetError, match=r"terms.photometric.options: .*'automask'"):
        Objective(preset({"photometric": {"options": {"automasks": True}}}))
    for name in ("keys", "a.b", ""):
        with pytest.raises(PresetError, match="cannot name a term"):
            Objective(preset({name: {"type": "smooth"}}))
    for strategy in ("dwa", "uncertainty"):
        with pytest.raises(PresetError, match=f"'{strategy}' is not available yet"):
            Objective(preset({"smooth": {}}, balancing={"type": strategy}))
    with pytest.raises(PresetError, match="balancing.options: 'fixed' has none, found rate"):
        Objective(preset({"smooth": {}}, balancing={"options": {"rate": 1}}))
    objective = Objective(preset({"smooth": {}}))
    with pytest.raises(WiringError, match="no term 'smoth' .*did you mean 'smooth'"):
        objective({"triplets": {}}, ["smoth"], StepContext())


def test_a_result_that_is_neither_scalar_nor_per_sample_is_refused():
    objective = Objective(preset({"a": {"type": "test_value"}}))
    with pytest.raises(ShapeError, match=r"terms.a returned a loss of shape \(2, 2\)"):
        objective(values_of([[1.0, 2.0], [3.0, 4.0]]), ["a"], StepContext())
    with pytest.raises(ShapeError, match="valid_x"):
        objective(values_of([1.0, 2.0], valid_x=torch.tensor([True])), ["a"], StepContext())


def test_what_a_term_learns_is_a_parameter_of_the_objective():
    objective = Objective(preset({"a": {"type": "test_scalar"}}))
    total, _ = objective(values_of([1.0, 2.0]), ["a"], StepContext())
    total.backward()
    named = dict(objective.named_parameters())
    assert named["terms.a.temperature"].grad.item() == 3.0


def test_what_a_balancing_learns_is_optimised_and_saved_with_the_objective():
    terms = {"a": {"type": "test_value", "weight": 2.0}, "b": {"type": "test_scalar"}}
    objective = Objective(preset(terms))
    objective.balancing = LearnedBalancing(list(terms))
    total, _ = objective(values_of([1.0, 2.0]), ["a"], StepContext())
    total.backward()
    name = "balancing.log_variance"
    gradient = dict(objective.named_parameters())[name].grad
    # d/ds (exp(-s) 2 * 1.5 + s) at 0; the term that is off gets none.
    assert gradient.tolist() == [pytest.approx(1 - 3.0), 0.0]
    assert name in objective.state_dict()


def test_losses_are_computed_in_full_precision_under_autocast():
    objective = Objective(preset({"a": {"type": "test_matmul"}}))
    values = values_of([1.0 + 2**-12, 1.0, 3.0])
    plain, _ = objective(values, ["a"], StepContext())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = objective(values, ["a"], StepContext())
    assert total.dtype == torch.float32
    assert torch.equal(total, plain)


def test_the_shipped_preset_trains_depth_and_pose_with_it():
    spec = load_preset("unified-tiny")
    objective = Objective(spec)
    values = geometry_values()
    pose = torch.zeros(2, 2, 6, requires_grad=True)
    values["T_source_target"] = se3.make_T(pose[..., :3], pose[..., 3:])
    values = synthesise(values, "ego", spec.depth, (32, 40))
    total, logs = objective({"triplets": values}, spec.stages[0].terms, StepContext())
    total.backward()
    assert logs["loss/total"].item() == pytest.approx(
        logs["loss/photometric"].item() + 1e-3 * logs["loss/smooth"].item()
    )
    assert {"photometric/identity", "photometric/warped", "photometric/automask_keep"} <= set(logs)
    assert all(note.dim() == 0 and not note.requires_grad for note in logs.values())
    for leaf in (pose, values["disparity_scales"][0]):
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().sum() > 0
