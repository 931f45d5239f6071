"""Sequences: consecutive frames of one drive, inside their span, a function of their place."""

import pickle

import numpy as np
import pytest
import torch
from sequence_toys import SIZE, label_of, write_drives

from unienc_core.data.folds import Span, block_folds, takes_of
from unienc_core.data.loader import StepLoader
from unienc_core.data.sequence_dataset import SequenceDataset
from unienc_core.errors import DataError, WiringError
from unienc_core.presets import AugmentSpec, StreamSpec

PLAIN = AugmentSpec(flip=0, jitter=0)


def stream(**changes) -> StreamSpec:
    given = {"kind": "sequences", "batch_size": 2, "labels": ("curvature_gt",), "frames": 4}
    return StreamSpec(**(given | {"augment": PLAIN} | changes))


def dataset(stores, *, image_size=SIZE, train=False, **options) -> SequenceDataset:
    changes = {k: options.pop(k) for k in list(options) if k in StreamSpec.model_fields}
    return SequenceDataset(stores, stream(**changes), image_size, seed=5, train=train, **options)


def labels_of(made: SequenceDataset) -> list[list[float]]:
    return [
        made.item(*divmod(i, made.batch_size))["curvature_gt"].tolist() for i in range(len(made))
    ]


def test_windows_are_consecutive_frames_of_one_drive(tmp_path):
    store = write_drives(tmp_path / "s", [6, 3, 4])
    made = dataset(store)
    starts = [(0, 0), (0, 1), (0, 2), (2, 0)]  # the second drive is too short
    assert labels_of(made) == [[label_of(d, s + i) for i in range(4)] for d, s in starts]
    item = made.item(0, 1)
    assert item["sequence_images"].shape == (4, 3, *SIZE)
    for i, image in enumerate(item["sequence_images"]):
        stored = store.frame(0, 1 + i, ["image"])["image"] / np.float32(255)
        np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), stored, atol=1e-6)
    assert "drive-0 frame 4" in made.describe(0, 1)


def test_chunks_do_not_overlap(tmp_path):
    made = dataset(write_drives(tmp_path / "s", [10, 4]), stride=4)
    starts = [(0, 0), (0, 4), (1, 0)]
    assert labels_of(made) == [[label_of(d, s + i) for i in range(4)] for d, s in starts]


def test_a_window_needs_the_label_of_its_last_frame(tmp_path):
    made = dataset(write_drives(tmp_path / "s", [7], unknown=[(0, 1), (0, 5)]))
    found = labels_of(made)
    assert [row[-1] for row in found] == [label_of(0, 3), label_of(0, 4), label_of(0, 6)]
    assert np.isnan(found[0][1])


def test_spans_count_drives_through_all_stores(tmp_path):
    stores = [write_drives(tmp_path / "a", [5, 5]), write_drives(tmp_path / "b", [8])]
    made = dataset(stores, spans=[Span(1, 1, 5), Span(2, 2, 7)])
    assert labels_of(made) == [
        [label_of(1, 1 + i) for i in range(4)],
        [label_of(0, 2 + i) for i in range(4)],
        [label_of(0, 3 + i) for i in range(4)],
    ]


def test_windows_of_a_fold_share_no_frame(tmp_path):
    store = write_drives(tmp_path / "s", [150, 60])
    for fold in block_folds(takes_of([store]), 2, border=4):
        used = [
            {label for row in labels_of(dataset(store, spans=part)) for label in row}
            for part in (fold.train, fold.validation, fold.test)
        ]
        assert (
            all(used) and not used[0] & used[2] and not used[1] & used[2] and not used[0] & used[1]
        )
        tested = np.array(sorted(used[2]))
        for label in used[0]:  # frame numbers of one drive differ by one
            assert np.abs(tested - label).min() > 4


def test_an_item_depends_on_its_place_alone(tmp_path):
    store = write_drives(tmp_path / "s", [12, 9])
    augment = AugmentSpec(flip=0.5, jitter=0.5)
    made = dataset(store, train=True, augment=augment)
    again = pickle.loads(pickle.dumps(dataset(store, train=True, augment=augment)))
    for place in [(3, 1), (0, 0), (40, 1)]:
        first, second = made.item(*place), again.item(*place)
        assert all(torch.equal(first[k], second[k]) for k in first)
    late = dict(StepLoader(made, workers=1).steps(2, 4))
    for step, batch in StepLoader(again).steps(0, 4):
        if step in late:
            assert all(torch.equal(batch[k], late[step][k]) for k in batch)
    epoch = len(made) / 2
    assert epoch == 7.5
    seen = [made._index(step, slot) for step in range(15) for slot in range(2)]
    assert sorted(seen[:15]) == sorted(seen[15:]) == list(range(15))


def test_a_flip_mirrors_all_frames_and_negates_the_labels(tmp_path):
    store = write_drives(tmp_path / "s", [4])
    plain = dataset(store).item(0, 0)
    flipped = dataset(store, train=True, augment=AugmentSpec(flip=1, jitter=0)).item(0, 0)
    assert torch.equal(flipped["sequence_images"], plain["sequence_images"].flip(-1))
    assert torch.equal(flipped["curvature_gt"], -plain["curvature_gt"])


def test_one_change_of_colours_for_all_frames_on_copies(tmp_path):
    store = write_drives(tmp_path / "s", [4])
    made = dataset(store, train=True, augment=AugmentSpec(flip=0, jitter=1)).item(0, 0)
    plain = dataset(store).item(0, 0)
    assert torch.equal(made["sequence_images"], plain["sequence_images"])
    assert (made["sequence_images_aug"] - plain["sequence_images"]).abs().max() > 0.01


def test_what_cannot_be_is_refused(tmp_path):
    store = write_drives(tmp_path / "s", [5])
    with pytest.raises(DataError, match="no 6 consecutive frames with curvature_gt"):
        dataset(store, frames=6)
    with pytest.raises(DataError, match="holds no 'steering_unit'"):
        dataset(store, labels=("steering_unit_gt",))
    with pytest.raises(WiringError, match="'T_source_target_gt' is for streams of kind triplets"):
        dataset(store, labels=("T_source_target_gt",))
    with pytest.raises(ValueError, match="frames and stride are for streams of kind sequences"):
        StreamSpec(kind="triplets", batch_size=1, frames=4)
