"""The teacher: what it says of a batch, what never happens to it, and who may teach whom."""

from pathlib import Path

import pytest
import torch
from teacher_toys import student_dict, teacher_dict

from unienc_core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from unienc_core.contracts import StepContext
from unienc_core.errors import UsageError, WiringError
from unienc_core.geometry.camera import K_from_fov, disparity_to_depth
from unienc_core.losses import Objective
from unienc_core.models.network import build_network
from unienc_core.presets import Preset, load_preset, preset_from_dict
from unienc_core.training.distillation import check_teacher, taught_terms, without_teacher
from unienc_core.training.module import TrainModule
from unienc_core.training.optim import build_optimizer, parameter_groups
from unienc_core.training.stages import apply_stage, check_stages
from unienc_core.training.step import StageStepper
from unienc_core.training.teacher import Teacher
from unienc_core.workflows.inspect_preset import check_preset

SIZE = (64, 96)
STUDENT = preset_from_dict(student_dict())
LABELS = {"kind": "labels", "batch_size": 2, "labels": ["task"]}


def save(folder: Path, preset: Preset) -> Checkpoint:
    """Save a network whose weights and statistics tell layers apart."""
    network = build_network(preset)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.add_(0.05 * torch.rand(value.shape, generator=generator))
    state = {"step": 3}
    path = save_checkpoint(
        folder, preset=preset, model=network.state_dict(), optimizer={}, state=state
    )
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Checkpoint:
    return save(tmp_path_factory.mktemp("teacher"), preset_from_dict(teacher_dict()))


@pytest.fixture
def teacher(saved) -> Teacher:
    return Teacher(saved)


def triplets(seed=0, B=2) -> dict:
    """A batch whose augmented images are not its images."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"target_image": (B, 3, *SIZE), "source_images": (B, 2, 3, *SIZE)}
    images = {
        key + end: torch.rand(shape, generator=generator)
        for key, shape in shapes.items()
        for end in ("", "_aug")
    }
    offsets = torch.tensor([[-1, 1]]).repeat(B, 1)
    return {**images, "source_offsets": offsets, "K": K_from_fov(60, *SIZE).expand(B, 3, 3)}


def module_of(preset: Preset, teacher: Teacher | None) -> TrainModule:
    return TrainModule(build_network(preset, seed=1), Objective(preset), preset, teacher)


def flat(values) -> list[torch.Tensor]:
    return [x for v in values.values() for x in (v if isinstance(v, list) else [v])]


def test_it_says_what_its_network_says_of_the_students_own_batch(teacher):
    batch, seen = triplets(), []
    teacher.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    wanted = {"triplets": {"teacher/complete_flow_scales", "teacher/motion_logits_scales"}}
    said = teacher.predict({"triplets": batch}, wanted)["triplets"]
    assert set(said) == wanted["triplets"]
    assert seen[0]["triplets"] is batch
    with torch.no_grad():
        made = teacher.network({"t": batch}, ["complete_flow_scales", "motion_logits_scales"])["t"]
        other = {**batch, "target_image_aug": batch["target_image"]}
        plain = teacher.network({"t": other}, ["complete_flow_scales"])["t"]
    for key in wanted["triplets"]:
        for told, own in zip(said[key], made[key.removeprefix("teacher/")], strict=True):
            assert torch.equal(told, own)
            assert not told.requires_grad
    assert not torch.equal(said["teacher/complete_flow_scales"][0], plain["complete_flow"])


def test_its_depth_is_in_its_own_range(tmp_path):
    raw = {**teacher_dict(), "depth": {"min": 2.0, "max": 30.0}}
    teacher = Teacher(save(tmp_path, preset_from_dict(raw)))
    batch = triplets()
    depth = teacher.predict({"t": batch}, {"t": {"teacher/depth"}})["t"]["teacher/depth"]
    disparity = teacher.network({"t": batch}, ["disparity"])["t"]["disparity"]
    assert depth.shape == (2, 1, *SIZE)
    assert torch.equal(depth, disparity_to_depth(disparity, 2.0, 30.0))


def test_it_runs_where_a_term_listens_and_nowhere_else(teacher):
    """Not in the first stage, and not on labelled frames, of which it could tell the depth."""
    raw = student_dict()
    raw["streams"]["labels"] = LABELS
    raw["terms"]["distil_flow"]["options"] = {"unit": "depth"}
    preset = preset_from_dict(raw)
    module, seen = module_of(preset, teacher), []
    teacher.network.register_forward_pre_hook(lambda _, inputs: seen.append(set(inputs[0])))
    labelled = {"image": torch.rand(2, 3, *SIZE), "K": triplets()["K"], "task": torch.zeros(2)}
    streams = {"triplets": triplets(), "labels": labelled}
    assert "teacher/depth" in teacher.possible(streams)["labels"]
    for stage in preset.stages:
        apply_stage(module.network, stage)
        module(streams, stage, StepContext(5, 9))
    assert seen == [{"triplets"}] * 3


def test_no_step_touches_it(teacher):
    """Neither gradient, nor optimiser, nor batch statistics; and the student does not hold it."""
    before = {key: value.clone() for key, value in teacher.network.state_dict().items()}
    assert any("running_mean" in key for key in before)
    module = module_of(STUDENT, teacher)
    alone = module_of(STUDENT, None)
    assert module.state_dict().keys() == alone.state_dict().keys()
    assert len(list(module.parameters())) == len(list(alone.parameters()))
    module.train()
    for index, stage in enumerate(STUDENT.stages):
        apply_stage(module.network, stage)
        spec = STUDENT.optimizer
        groups = parameter_groups(module.network, module.objective, spec, 1e-2)
        stepper = StageStepper(module, build_optimizer(module, groups), stage, spec, seed=0)
        result = stepper.take([{"triplets": triplets()}], index, 0)
        assert result.taken
        assert ("loss/distil_flow" in result.logs) == (index > 0)
    assert not any(m.training for m in teacher.network.modules())
    for parameter in teacher.network.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
    after = teacher.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_what_it_says_moves_the_student(teacher):
    """The gradient of distil_flow alone is that of the formula, through the student's heads."""
    raw = student_dict()
    raw["stages"][1] |= {"terms": ["distil_flow"], "trains": ["heads.scene_flow.*"]}
    preset = preset_from_dict(raw)
    module, stage, batch = module_of(preset, teacher), preset.stages[1], triplets()
    apply_stage(module.network, stage)
    total, logs = module({"triplets": batch}, stage, StepContext())
    total.backward()
    found = [p.grad.clone() for p in module.network.heads["scene_flow"].parameters()]
    module.zero_grad()
    own = module.network({"t": batch}, ["complete_flow_scales"])["t"]["complete_flow_scales"]
    told = teacher.network({"t": batch}, ["complete_flow_scales"])["t"]["complete_flow_scales"]
    pairs = zip(own, told, strict=True)
    loss = sum((o - t).abs().mean() / 2**i for i, (o, t) in enumerate(pairs)) / len(own)
    (0.1 * loss).backward()
    assert logs["loss/distil_flow"].item() == pytest.approx(loss.item(), rel=1e-5)
    for mine, theirs in zip(found, module.network.heads["scene_flow"].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.grad, rtol=1e-4, atol=1e-9)


def test_in_bf16_the_terms_still_compare_in_single_precision(teacher):
    raw = student_dict()
    raw["optimizer"]["precision"] = "bf16"
    preset = preset_from_dict(raw)
    module, seen = module_of(preset, teacher), []
    term = module.objective.terms["distil_mask"]
    term.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    stage = preset.stages[2]
    apply_stage(module.network, stage)
    module({"triplets": triplets()}, stage, StepContext(5, 9))
    told = seen[0]["teacher/motion_logits_scales"]
    with torch.no_grad():
        exact = teacher.network({"t": triplets()}, ["motion_logits"])["t"]["motion_logits"]
    assert told[0].dtype == torch.float32
    assert not torch.equal(told[0], exact)
    torch.testing.assert_close(told[0], exact, rtol=0.1, atol=0.05)


def test_without_a_teacher_its_terms_are_left_out():
    alone = without_teacher(STUDENT)
    assert set(taught_terms(STUDENT)) == {"distil_flow", "distil_mask"}
    assert set(alone.terms) == set(STUDENT.terms) - {"distil_flow", "distil_mask"}
    for ours, theirs in zip(alone.stages, STUDENT.stages, strict=True):
        kept = tuple(term for term in theirs.terms if "distil" not in term)
        assert ours == theirs.model_copy(update={"terms": kept})
    assert alone.network == STUDENT.network
    assert without_teacher(alone) is alone
    module = module_of(alone, None)
    check_stages(module.network, module.objective, alone)


def test_a_stage_of_nothing_else_needs_a_teacher():
    raw = student_dict()
    raw["stages"][1]["terms"] = ["distil_flow"]
    with pytest.raises(WiringError, match=r"stages\.flow: all of its terms \(distil_flow\) need a"):
        without_teacher(preset_from_dict(raw))


def test_a_preset_with_such_terms_can_be_checked_without_a_teacher():
    assert check_preset(STUDENT)["heads.scene_flow"] > 0


def test_a_forgotten_teacher_is_one_line():
    module, stage = module_of(STUDENT, None), STUDENT.stages[1]
    with pytest.raises(WiringError, match="'triplets' lacks teacher/complete_flow_scales"):
        module({"triplets": triplets()}, stage, StepContext())


def changed(raw: dict, **changes) -> Preset:
    return preset_from_dict({**raw, **changes})


def with_masks(raw: dict, **changes) -> Preset:
    options = {"width": 16, "heads": 2, "pixel_layers": 1, "queries": 4, "layers": 2, "hidden": 16}
    options |= {
        "query_layers": 1,
        "text_width": 16,
        "text_layers": 1,
        "text_heads": 2,
        "context": 2,
    }
    raw["network"]["heads"]["masks"] = {"type": "masks", "reads": ["main"], "options": options}
    labels = [*LABELS["labels"], "target_masks", "target_classes"]
    raw["streams"]["labels"] = {**LABELS, "labels": labels}
    return changed(raw, **changes)


def test_another_size_is_refused(teacher):
    wide = changed(student_dict(), image_size=[64, 128])
    with pytest.raises(UsageError, match=r"64x96, the student student of 64x128.*\[64, 96\]"):
        check_teacher(teacher, wide, Path("run"))


def test_a_teacher_that_cannot_say_it_is_refused(tmp_path):
    raw = student_dict()
    for head in ("scene_flow", "motion_mask"):
        del raw["network"]["heads"][head]
    raw["terms"] = {"start": raw["terms"]["start"]}
    raw["stages"] = [{"name": "only", "steps": 1, "terms": ["start"]}]
    plain = Teacher(save(tmp_path, preset_from_dict(raw)))
    with pytest.raises(UsageError, match=r"distil_flow reads complete_flow_scales.*makes disp"):
        check_teacher(plain, STUDENT, Path("run"))
    larger = changed(student_dict(), image_size=[96, 320])
    with pytest.raises(UsageError, match=r"networks of these presets do:.* teacher-tiny"):
        check_teacher(plain, larger, Path("run"))


def test_what_would_is_said_to_one_that_does_not_tell_depth_either(tmp_path):
    """Depth is made of what a head says; the preset that `distill` takes by default reads it."""
    raw = with_masks(student_dict()).model_dump(mode="json")
    raw["network"]["heads"] = {"masks": raw["network"]["heads"]["masks"]}
    raw["terms"] = {"cls": {}}
    raw["stages"] = [{"name": "only", "steps": 1, "terms": ["cls"]}]
    segmenting = Teacher(save(tmp_path, preset_from_dict(raw)))
    student = load_preset("unified-all-tiny")
    message = r"complete_flow_scales, depth, which .* presets do: .*teacher-tiny"
    with pytest.raises(UsageError, match=message):
        check_teacher(segmenting, student, Path("run"))


def test_a_preset_that_does_not_listen_is_refused(teacher):
    with pytest.raises(UsageError, match="no stage of preset student has a term that listens"):
        check_teacher(teacher, without_teacher(STUDENT), Path("run"))
    silent = student_dict()
    for stage in silent["stages"]:
        stage["terms"] = [term for term in stage["terms"] if "distil" not in term]
    with pytest.raises(UsageError, match="no stage of preset student"):
        check_teacher(teacher, preset_from_dict(silent), Path("run"))


def test_other_classes_are_refused_where_both_segment(tmp_path):
    classes = [{"id": 1, "name": "floor"}, {"id": 2, "name": "chair"}]
    rooms = {"name": "rooms", "classes": classes}
    segmenting = Teacher(save(tmp_path, with_masks(teacher_dict(), class_table=rooms)))
    with pytest.raises(UsageError, match="segments 2 classes of the table 'rooms'.* 19 of 'citys"):
        check_teacher(segmenting, with_masks(student_dict()), Path("run"))
    check_teacher(segmenting, with_masks(student_dict(), class_table=rooms), Path("run"))
    check_teacher(segmenting, STUDENT, Path("run"))  # which does not segment


def test_inputs_that_the_student_does_not_have_are_refused(tmp_path):
    raw = teacher_dict()
    raw["network"]["encoders"]["main"]["reads"] = ["image", "depth_gt"]
    raw["network"]["encoders"]["motion"] |= {"reads": ["image", "depth_gt"], "starts_as": None}
    raw["streams"]["triplets"]["labels"] = ["depth_gt"]
    sparse = Teacher(save(tmp_path, preset_from_dict(raw)))
    with pytest.raises(UsageError, match=r"cannot say .*stream triplets: the batch has no 'depth_"):
        check_teacher(sparse, STUDENT, Path("run"))
    given = student_dict()
    given["streams"]["triplets"]["labels"] = ["depth_gt"]
    check_teacher(sparse, preset_from_dict(given), Path("run"))
