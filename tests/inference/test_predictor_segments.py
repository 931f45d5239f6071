"""Segmentation by the predictor: label ids and Cityscapes ids, one pass, only what is asked for."""

import numpy as np
import pytest
import torch
from untrained import MASKS, save_untrained

import unienc_core
from unienc_core.class_tables import ClassEntry, ClassTable, cityscapes_table
from unienc_core.errors import IntegrityError, PresetError, UsageError, WiringError
from unienc_core.inference.predictor import Predictor
from unienc_core.inference.segmenting import segment_pixels
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset
from unienc_core.segmentation import Segment, Segmentation

SIZE = (60, 80)
EVERYTHING = ("depth", "motion", "semantic", "instance", "panoptic")
ROAD, CAR = 0, 13  # training ids


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(build_network(MASKS), MASKS)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)


def calls_of(predictor: Predictor, run) -> dict[str, int]:
    network = predictor.network
    parts = {
        "encoder": network.encoders["main"],
        "pixels": network.heads["masks"].pixel_decoder,
        "queries": network.heads["masks"].query_decoder,
        "depth": network.heads["depth"],
        "pose": network.heads["pose"],
    }
    calls = dict.fromkeys(parts, 0)

    def count(name: str):
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    hooks = [part.register_forward_hook(count(name)) for name, part in parts.items()]
    run()
    for hook in hooks:
        hook.remove()
    return calls


def test_three_tasks_share_one_pass_and_others_cost_nothing(predictor, image) -> None:
    once = {"encoder": 1, "pixels": 1, "queries": 1, "depth": 0, "pose": 0}
    assert calls_of(predictor, lambda: predictor.segment(image)) == once
    assert calls_of(predictor, lambda: predictor.predict(image, ("semantic",))) == once
    everything = calls_of(predictor, lambda: list(predictor.stream([image] * 3, EVERYTHING)))
    assert everything == {"encoder": 3, "pixels": 3, "queries": 3, "depth": 3, "pose": 2}
    plain = calls_of(predictor, lambda: list(predictor.stream([image] * 3)))
    assert plain == {"encoder": 3, "pixels": 0, "queries": 0, "depth": 3, "pose": 2}
    still = calls_of(predictor, lambda: list(predictor.stream([image] * 3, ("motion",))))
    assert still == {"encoder": 3, "pixels": 0, "queries": 0, "depth": 0, "pose": 2}


def test_a_frame_holds_what_was_asked_for(predictor, image) -> None:
    assert predictor.outputs == EVERYTHING
    whole = predictor.predict(image, EVERYTHING)
    assert whole.segmentation.label_ids.shape == SIZE
    assert whole.segmentation.panoptic_ids.shape == SIZE
    plain = predictor.predict(image)
    assert plain.segmentation == Segmentation()
    np.testing.assert_array_equal(plain.depth, whole.depth)
    blind = predictor.predict(image, ("panoptic",))
    assert blind.segmentation.label_ids is None
    assert blind.segmentation.instances is None
    with pytest.raises(UsageError, match="depth is not among"):
        blind.depth  # noqa: B018


def test_tasks_alone_and_together_agree(predictor, image) -> None:
    together = predictor.segment(image)
    assert together.label_ids.dtype == np.uint8
    np.testing.assert_array_equal(
        predictor.segment(image, ("semantic",)).label_ids, together.label_ids
    )
    alone = predictor.segment(image, ("instance",))
    assert len(alone.instances) == len(together.instances) > 0
    for one, other in zip(alone.instances, together.instances, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-4)
    assert alone.label_ids is alone.panoptic_ids is None


def test_a_network_without_a_head_says_what_it_has(image) -> None:
    preset = load_preset("unified-tiny")
    predictor = Predictor(build_network(preset), preset)
    assert predictor.outputs == ("depth", "motion")
    with pytest.raises(UsageError, match="no semantic segmentation; it has depth, motion"):
        predictor.segment(image)
    with pytest.raises(UsageError, match="no panoptic segmentation"):
        predictor.predict(image, ("depth", "panoptic"))
    masks_only = load_preset("oneformer-tiny")
    with pytest.raises(UsageError, match="has no depth; it has semantic, instance, panoptic"):
        Predictor(build_network(masks_only), masks_only).predict(image)


def test_a_network_gone_mad_is_named(predictor, image, monkeypatch) -> None:
    made = {"class_logits": torch.zeros(1, 3, 4, 20), "mask_logits": torch.zeros(1, 3, 4, 8, 8)}
    made["mask_logits"][0, 1, 2, 3, 4] = torch.inf
    monkeypatch.setattr(predictor.network, "decode_frame", lambda *_, **__: made)
    with pytest.raises(IntegrityError, match="NaN"):
        predictor.segment(image)


def test_the_library_segments(tmp_path, image) -> None:
    save_untrained(tmp_path / "run" / "checkpoints", MASKS)
    found = unienc_core.load(tmp_path / "run", "cpu").segment(image)
    assert found.panoptic_ids.shape == found.label_ids.shape == SIZE


def test_an_evaluation_size_must_suit_the_encoder() -> None:
    with pytest.raises(WiringError, match=r"eval_size: \[100, 96\] cannot be halved"):
        build_network(load_preset("oneformer-tiny", ["eval_size=[100, 96]"]))
    with pytest.raises(PresetError, match=r"eval_size is \[height, width\], at least 32"):
        load_preset("oneformer-tiny", ["eval_size=[0, 96]"])


def sure(*named: tuple[int, tuple[slice, slice]], num: int = 20) -> tuple[torch.Tensor, ...]:
    """Queries that are sure of a class and of a box, `1 Q ...`."""
    classes, masks = torch.zeros(len(named), num), torch.full((len(named), *SIZE), -9.0)
    for query, (label, box) in enumerate(named):
        classes[query, label], masks[query][box] = 12.0, 9.0
    return classes[None], masks[None]


BOXES = [np.s_[:20, :40], np.s_[:20, 40:], np.s_[20:, :30], np.s_[20:, 30:]]


def test_segments_are_called_as_cityscapes_does() -> None:
    logits = sure((CAR, BOXES[0]), (ROAD, BOXES[1]), (CAR, BOXES[2]), (ROAD, BOXES[3]))
    found = segment_pixels(*logits, ["panoptic"], SIZE, SIZE, cityscapes_table())
    assert found.segments == (
        Segment(26000, 26, area=800), Segment(7, 7, area=2800), Segment(26001, 26, area=1200)
    )  # fmt: skip
    assert found.panoptic_ids.dtype == np.int32
    for box, expected in zip(BOXES, (26000, 7, 26001, 7), strict=True):
        assert (found.panoptic_ids[box] == expected).all()


def test_training_ids_become_label_ids() -> None:
    classes, masks = sure((CAR, BOXES[0]), (ROAD, BOXES[1]), (18, BOXES[2]), (10, BOXES[3]))
    found = segment_pixels(
        classes.expand(2, -1, -1), masks.expand(2, -1, -1, -1), ["semantic", "instance"],
        SIZE, SIZE, cityscapes_table(),
    )  # fmt: skip
    for box, expected in zip(BOXES, (26, 7, 33, 23), strict=True):
        assert (found.label_ids[box] == expected).all()
    sure_ones = [one for one in found.instances if one.score > 0.5]
    assert sorted(one.label_id for one in sure_ones) == [26, 33]
    shown = segment_pixels(
        classes, masks, ["instance"], SIZE, SIZE, cityscapes_table(), instance_threshold=0.8
    )
    assert sorted(one.label_id for one in shown.instances) == [26, 33]


@pytest.mark.parametrize("is_thing", [False, True])
def test_a_class_of_label_id_0_is_not_void(is_thing) -> None:
    wall = ClassEntry(0, "wall", (9, 9, 9), "wall", has_instances=is_thing)
    chair = ClassEntry(1, "chair", (90, 9, 9), "chair", has_instances=True)
    table = ClassTable("rooms", (wall, chair), instance_factor=256)
    logits = sure((0, BOXES[0]), (1, BOXES[1]), num=3)
    found = segment_pixels(*logits, ["panoptic"], SIZE, SIZE, table)
    assert [segment.id for segment in found.segments] == [256 * 256, 256]
    assert (found.panoptic_ids[BOXES[0]] == 256 * 256).all()
    assert (found.panoptic_ids[BOXES[2]] == 0).all()
