"""The head `masks`: its promises, its texts, its sizes, and what inference goes without."""

import pytest
import torch

from unienc_core import registry
from unienc_core.checkpoint import load_checkpoint, save_checkpoint
from unienc_core.class_tables import ClassEntry, ClassTable, cityscapes_table
from unienc_core.contracts import FeaturePyramid, NodeInputs, PyramidSpec, StepContext
from unienc_core.errors import CheckpointError, PresetError, ShapeError, WiringError
from unienc_core.inference.predictor import predictor_from
from unienc_core.losses.objective import Objective
from unienc_core.models.network import build_network
from unienc_core.models.site import NodeSite
from unienc_core.presets import load_preset
from unienc_core.sentences import CLIP_TOKENS, closed_vocabulary
from unienc_core.training.module import TrainModule
from unienc_core.training.stages import apply_stage, set_modes

SPEC = PyramidSpec((2, 4, 8, 16, 32), (4, 6, 8, 10, 12))
SIZE = (64, 96)
SMALL = {
    "width": 16,
    "heads": 2,
    "dropout": 0.0,
    "pixel_layers": 1,
    "pixel_points": 2,
    "pixel_hidden": 16,
    "queries": 8,
    "query_layers": 1,
    "layers": 2,
    "hidden": 16,
    "context": 2,
    "text_width": 16,
    "text_layers": 1,
    "text_heads": 2,
    "train_points": 32,
}


def head(classes: ClassTable | None = None, spec: PyramidSpec = SPEC, view="frame", **options):
    site = NodeSite("masks", view, SIZE, 3, (spec,), (1,), (False,), classes or cityscapes_table())
    torch.manual_seed(0)
    return registry.build("head", "masks", site, options=SMALL | options)


def inputs(task, classes=((3, 3, 13), ()), batch=2, training=True) -> NodeInputs:
    torch.manual_seed(1)
    levels = [
        torch.randn(batch, c, SIZE[0] // s, SIZE[1] // s)
        for s, c in zip(SPEC.strides, SPEC.channels, strict=True)
    ]
    values = {
        "task": torch.tensor(task),
        "target_classes": [torch.tensor(c, dtype=torch.long) for c in classes],
        "target_masks": [torch.rand(len(c), *SIZE) > 0.5 for c in classes],
    }
    images = torch.rand(batch, 3, *SIZE)
    return NodeInputs([FeaturePyramid(levels, SPEC.strides)], images, values, batch, training)


def sentences(made, tasks, *classes) -> list[list[str]]:
    """What is said of each image, in words."""
    words = {v: k for k, v in closed_vocabulary().words.items()}
    ids = made._sentences_about(torch.tensor(tasks), [torch.tensor(c) for c in classes])

    def spell(row: list[int]) -> str:
        told, current = [], []
        for token in row[1 : row.index(49407)]:
            current.append(token)
            if tuple(current) in words:
                told.append(words[tuple(current)])
                current = []
        return " ".join(told)

    return [[spell(row) for row in image] for image in ids.tolist()]


def test_it_makes_what_it_promises():
    made = head().train()
    assert (made.requires, made.train_requires) == (("task",), ("target_masks", "target_classes"))
    found = made(inputs([0, 2]))
    assert set(found) == {*made.produces, *made.train_produces}
    assert found["class_logits"].shape == (2, 8, 20)
    assert found["mask_logits"].shape == (2, 8, 16, 24)
    assert [x.shape for x in found["class_logits_layers"]] == [(2, 8, 20)] * 3
    assert torch.equal(found["class_logits_layers"][-1], found["class_logits"])
    for wanted in found["query_classes_layers"]:
        assert wanted.dtype == torch.int64
        assert sorted(wanted[0].tolist()) == [3, 3, 13, *[19] * 5]
        assert wanted[1].tolist() == [19] * 8
    points = found["point_logits_layers"] + found["point_targets_layers"]
    assert [x.shape for x in points] == [(3, 32)] * 6
    assert found["object_queries"].shape == found["text_queries"].shape == (2, 8, 16)


def test_every_parameter_learns():
    made = head().train()
    found = made(inputs([0, 1]))
    total = sum(x.square().sum() for key in made.train_produces for x in found[key])
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_several_tasks_at_once_are_those_one_by_one():
    made = head().eval()
    with torch.no_grad():
        whole = made(inputs([[0, 1, 2], [2, 0, 1]], training=False))
        assert whole["class_logits"].shape == (2, 3, 8, 20)
        assert whole["mask_logits"].shape == (2, 3, 8, 16, 24)
        for i, tasks in enumerate([[0, 2], [1, 0], [2, 1]]):
            alone = made(inputs(tasks, training=False))
            assert set(alone) == set(made.produces)
            for key in alone:
                torch.testing.assert_close(whole[key][:, i], alone[key], rtol=1e-4, atol=1e-5)
        same = made(inputs([[0, 0, 0], [0, 0, 0]], training=False))
    assert (whole["class_logits"][0, 1] - same["class_logits"][0, 1]).abs().max() > 1e-4


def test_training_takes_one_task_per_image():
    with pytest.raises(ShapeError, match="task in training has shape"):
        head().train()(inputs([[0, 1, 2], [2, 0, 1]]))


def test_each_segment_is_named_by_class_and_the_rest_names_the_task():
    found = sentences(head(), [0, 1, 2], [13, 0], [], [6, 6])
    assert found[0] == ["a photo with a road", "a photo with a car", *["a semantic photo"] * 4]
    assert found[1] == ["an instance photo"] * 6
    assert found[2] == [*["a photo with a traffic light"] * 2, *["a panoptic photo"] * 4]


def test_sentences_stop_where_the_slots_end():
    (found,) = sentences(head(), [2], [18, *range(9)])
    assert found == [f"a photo with a {entry.name}" for entry in cityscapes_table().evaluated[:6]]


def orchard() -> ClassTable:
    entries = [
        ClassEntry(3, "apple tree", (0, 1, 0), "tree", has_instances=True),
        ClassEntry(5, "soil", (1, 1, 0), "ground", ignored=True),
        ClassEntry(9, "car", (0, 0, 1), "vehicle", has_instances=True),
    ]
    return ClassTable("orchard", tuple(entries))


def test_classes_of_ones_own_have_learned_names():
    made = head(orchard()).train()
    ids = made._sentences_about(torch.tensor([1]), [torch.tensor([0, 1])])
    own = ids[0, 0][ids[0, 0] >= CLIP_TOKENS]
    assert len(own) == 2 and not (ids[0, 1] >= CLIP_TOKENS).any()
    found = made(inputs([1, 0], ((0, 1), (1,))))
    assert found["class_logits"].shape == (2, 8, 3)
    found["text_queries"].square().sum().backward()
    rows = torch.searchsorted(made.text_queries.tokens, own)
    assert (made.text_queries.embed.weight.grad[rows].abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spec": PyramidSpec((4, 8, 16), (4, 4, 4))}, r"'masks' reads the strides \[4, 8, 16, 32"),
        ({"spec": PyramidSpec((4, 8, 16, 16), (4,) * 4)}, r"found a pyramid of \[4, 8, 16, 16\]"),
        ({"view": "pair"}, "'masks' sees single frames, found view: pair"),
        ({"context": 8}, "'masks': context = 8 leaves no sentence of 8 queries"),
        ({"width": 18}, "width = 18, expected a multiple of heads = 2 and of 4"),
        ({"text_width": 15}, "text_width = 15, expected a multiple of text_heads = 2"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(options, words):
    with pytest.raises(WiringError, match=words) as caught:
        head(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "option", [{"importance": 1.5}, {"oversample": 0.5}, {"train_points": 0}, {"cost_bce": -1.0}]
)
def test_options_out_of_range(option):
    with pytest.raises(PresetError, match=next(iter(option))):
        head(**option)


def test_sizes_of_the_published_network():
    network = build_network(load_preset("oneformer-cityscapes"), load_pretrained=False)
    temperature = 1
    training = sum(network.parameter_counts().values()) + temperature
    left_out = (CLIP_TOKENS - len(closed_vocabulary().tokens)) * 256
    assert f"{training / 1e6:.1f} {(training + left_out) / 1e6:.2f}" == "55.6 68.25"
    assert network.drop_training_parts() == ("heads.masks.text_queries.",)
    assert f"{sum(network.parameter_counts().values()) / 1e6:.2f}" == "50.70"


def tiny_checkpoint(folder, without: str = "nothing"):
    preset = load_preset("oneformer-tiny", ["image_size=[64, 96]"])
    network = build_network(preset)
    kept = {k: v for k, v in network.state_dict().items() if without not in k}
    path = save_checkpoint(folder, preset=preset, model=kept, optimizer={}, state={"step": 1})
    return network, load_checkpoint(path)


@pytest.mark.parametrize("without", ["nothing", "text_queries"])
def test_inference_needs_no_texts(tmp_path, without):
    whole, checkpoint = tiny_checkpoint(tmp_path, without)
    predictor = predictor_from(checkpoint, "cpu")
    left = dict(predictor.network.named_parameters())
    assert left and not any("text_queries" in name for name in left)
    batch = {"labels": {"image": torch.rand(1, 3, *SIZE), "task": torch.tensor([[0, 2]])}}
    with torch.no_grad():
        found, expected = predictor.network(batch), whole.eval()(batch)
    for key in ("class_logits", "mask_logits"):
        assert torch.equal(found["labels"][key], expected["labels"][key])


def test_a_decoder_without_weights_is_refused(tmp_path):
    _, checkpoint = tiny_checkpoint(tmp_path, "query_decoder")
    with pytest.raises(CheckpointError, match="query_decoder.* is missing"):
        predictor_from(checkpoint, "cpu")


def test_a_frozen_head_teaches_the_encoder():
    overrides = ["stages.0.trains=[encoders.*]", f"network.heads.masks.options={SMALL}"]
    preset = load_preset("oneformer-tiny", [*overrides, "image_size=[64, 96]"])
    module = TrainModule(build_network(preset), Objective(preset), preset).train()
    apply_stage(module.network, preset.stages[0])
    set_modes(module.network)
    assert not module.network.heads["masks"].training
    batch = {"image": torch.rand(2, 3, *SIZE), **inputs([0, 2]).values}
    loss, _ = module({"labels": batch}, preset.stages[0], StepContext())
    loss.backward()
    assert all(p.grad is None for p in module.network.heads.parameters())
    assert any(p.grad is not None for p in module.network.encoders.parameters())
