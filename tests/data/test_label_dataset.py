"""Labelled frames: what an item is, which stores and frames serve, zoom, and ragged batches."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from fake_drives import K, frame, spec, write_fake_store

from unienc_core.class_tables import ClassEntry, ClassTable, cityscapes_table
from unienc_core.classes import TRAIN_NAMES, id_to_train_id
from unienc_core.data.dataset import TripletDataset
from unienc_core.data.keys import TRAIN_ID, standard_keys
from unienc_core.data.label_dataset import LabelDataset
from unienc_core.data.loader import StepLoader
from unienc_core.data.mask_targets import mask_targets
from unienc_core.data.sampler import uniforms
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import DataError, PresetError, UsageError, WiringError
from unienc_core.presets import AugmentSpec, StreamSpec, load_preset
from unienc_core.sentences import TASKS

SIZE = (32, 48)
MASKS = ("task", "target_masks", "target_classes")
FRAME = ("semantic_labels", "instance_ids", "depth_gt")
TABLE = cityscapes_table()
CAR = TRAIN_NAMES.index("car")


def stream(batch_size=3, labels=MASKS, tasks="drawn", **augment):
    return StreamSpec(
        kind="labels",
        batch_size=batch_size,
        labels=labels,
        tasks=tasks,
        augment=AugmentSpec(**augment),
    )


def cars(seed: int) -> dict[str, np.ndarray]:
    """A frame of road and void, with as many cars as the seed says, and a crowd of them."""
    instance = np.full(SIZE, 7, np.int32)
    instance[:4] = 0
    for n in range(seed):
        instance[8:14, 6 * n : 6 * n + 4] = 26000 + n
    instance[20:24, 10:30] = 26
    semantic = np.where(instance >= 1000, instance // 1000, instance).astype(np.uint8)
    image = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
    return {"image": image, "K": K, "semantic": semantic, "instance": instance}


def write_images(path, frames, **changes):
    """Write a store of single images, as labelled Cityscapes are one."""
    keys = standard_keys(*frames[0])
    with StoreWriter(path, spec(kind="images", keys=keys, **changes)) as writer:
        for number, content in enumerate(frames):
            writer.add_drive(f"image-{number}", [content])
    return path


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    return write_fake_store(tmp_path_factory.mktemp("data") / "drives", count=2, num_frames=5)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "images"
    return write_images(folder, [cars(n) for n in range(8)])


def equal(a, b):
    assert a.keys() == b.keys()
    return all(
        len(a[k]) == len(b[k]) and all(torch.equal(x, y) for x, y in zip(a[k], b[k], strict=True))
        if isinstance(a[k], list)
        else torch.equal(a[k], b[k])
        for k in a
    )


def test_an_item_is_what_the_store_holds(drives):
    dataset = LabelDataset(Store(drives), stream(labels=FRAME + MASKS), SIZE, train=False)
    assert len(dataset) == 10
    item = dataset.item(2, 0)  # the seventh frame
    truth = frame(1, 1)
    assert torch.equal(item["image"], torch.from_numpy(truth["image"]).permute(2, 0, 1) / 255)
    np.testing.assert_allclose(item["K"], truth["K"], rtol=1e-7)
    np.testing.assert_array_equal(item["depth_gt"][0], truth["depth"])
    train_ids = id_to_train_id()[truth["semantic"]]
    np.testing.assert_array_equal(item["semantic_labels"], train_ids)
    assert (item["task"].dtype, item["task"].shape) == (torch.int64, ())
    masks, classes = mask_targets(TASKS[item["task"]], train_ids, truth["instance"], TABLE)
    assert item["target_masks"].dtype == torch.bool
    np.testing.assert_array_equal(item["target_masks"], masks)
    assert item["target_classes"].tolist() == classes.tolist() != []
    assert set(item) == {"image", "K", *FRAME, *MASKS}
    assert dataset.describe(2, 0) == f"{drives}/drive-1 frame 1"


def test_masks_are_made_only_where_they_are_asked_for(images):
    assert set(LabelDataset(Store(images), stream(labels=()), SIZE).item(0, 0)) == {
        "image",
        "image_aug",
        "K",
    }
    task = LabelDataset(Store(images), stream(labels=("task",), jitter=0.0), SIZE).item(0, 0)
    assert set(task) == {"image", "K", "task"}


def test_a_flip_mirrors_masks_and_a_smaller_size_drops_what_is_gone(images):
    plain, flipped = (
        LabelDataset(Store(images), stream(flip=p, jitter=0.0), SIZE) for p in (0.0, 1.0)
    )
    for step in range(3):
        a, b = plain.item(step, 0), flipped.item(step, 0)
        assert a["task"] == b["task"]
        assert torch.equal(a["target_masks"].sum((1, 2)), b["target_masks"].sum((1, 2)))
        assert torch.equal(a["target_masks"].any(0), b["target_masks"].any(0).flip(-1))
    tiny = LabelDataset(Store(images), stream(labels=(*MASKS, "instance_ids")), (4, 6))
    for step in range(8):
        item = tiny.item(step, 0)
        assert item["target_masks"].flatten(1).any(1).all()
        assert item["target_masks"].sum(0).max() <= 1


def test_zoom_keeps_image_maps_and_intrinsics_together(drives):
    """A pixel sees the same ray, depth and label, wherever the part that is kept lies."""
    labels = ("depth_gt", "semantic_labels", "instance_ids", *MASKS)
    zoomed = LabelDataset(Store(drives), stream(labels=labels, zoom=2.0, jitter=0.0), SIZE)
    focal, corners = [], set()
    for step in range(8):
        item = zoomed.item(step, 1)
        place = zoomed.describe(step, 1)
        truth = frame(int(place.split("drive-")[1][0]), int(place.split()[-1]))
        fx, _, cx = item["K"][0].tolist()
        fy, cy = item["K"][1, 1:].tolist()
        mirrored = zoomed._augmentation(step, 1).flip
        y, x = np.mgrid[: SIZE[0], : SIZE[1]]
        ray_x, ray_y = (x - cx) / fx * (-1 if mirrored else 1), (y - cy) / fy
        u, v = ray_x * K[0, 0] + K[0, 2], ray_y * K[1, 1] + K[1, 2]
        column, row = (np.rint(n - 1e-9).astype(int) for n in (u, v))
        inner = (abs(u - column) < 0.4) & (abs(v - row) < 0.4)  # not between two pixels
        np.testing.assert_array_equal(
            item["depth_gt"][0].numpy()[inner], truth["depth"][row[inner], column[inner]]
        )
        np.testing.assert_array_equal(
            item["instance_ids"].numpy()[inner], truth["instance"][row[inner], column[inner]]
        )
        image = item["image"].permute(1, 2, 0).numpy() * 255
        assert np.abs(image[inner] - truth["image"][row[inner], column[inner]]).mean() < 8
        masks, classes = mask_targets(
            TASKS[item["task"]],
            item["semantic_labels"].numpy().astype(np.uint8),
            item["instance_ids"].numpy(),
            TABLE,
        )
        np.testing.assert_array_equal(item["target_masks"], masks)
        assert item["target_classes"].tolist() == classes.tolist()
        focal.append(fx / K[0, 0])
        corners.add((round(cx), round(cy)))
    assert 1.0 <= min(focal) < 1.4 < 1.6 < max(focal) <= 2.0
    assert len(corners) > 5


def test_tasks_are_drawn_or_go_round(images):
    drawn = LabelDataset(Store(images), stream(batch_size=4, jitter=0.0), SIZE)
    found = [int(drawn.item(step, slot)["task"]) for step in range(30) for slot in range(4)]
    assert set(Counter(found)) == {0, 1, 2}
    assert min(Counter(found).values()) > 24
    spec_ = stream(batch_size=3, tasks="in_turn", labels=("task",))
    turn = LabelDataset(Store(images), spec_, SIZE)
    assert [[int(turn.item(step, n)["task"]) for n in range(3)] for step in (0, 7)] == [
        [0, 1, 2]
    ] * 2


def test_more_draws_leave_those_before_them_as_they_were():
    few, many = (uniforms(3, "triplets", 5, 1, count) for count in (7, 11))
    assert few.tolist() == many[:7].tolist()


def test_the_order_is_its_own_and_an_item_depends_on_its_place_alone(drives):
    labels = LabelDataset(Store(drives), stream(), SIZE, seed=5)
    again = pickle.loads(pickle.dumps(LabelDataset(Store(drives), stream(), SIZE, seed=5)))
    backwards = [again.item(step, slot) for step in (7, 3) for slot in (2, 1, 0)]
    forwards = [labels.item(step, slot) for step in (3, 7) for slot in (0, 1, 2)]
    assert all(equal(a, b) for a, b in zip(forwards, backwards[::-1], strict=True))
    other = LabelDataset(Store(drives), stream(), SIZE, seed=5, name="other")
    order = [[d.describe(s, 0) for s in range(10)] for d in (labels, other)]
    assert order[0] != order[1]
    assert sorted(labels.describe(s, n) for s in range(10) for n in range(3)) == sorted(
        [other.describe(s, n) for s in range(10) for n in range(3)]
    )


def batches_equal(a, b):
    return len(a) == len(b) and all(
        i == j and equal(x, y) for (i, x), (j, y) in zip(a, b, strict=True)
    )


def test_ragged_batches_are_the_same_bits_for_any_worker_count_and_start(images):
    def dataset():
        return LabelDataset(Store(images), stream(zoom=1.5), SIZE, seed=2)

    expected = list(StepLoader(dataset()).steps(0, 6))
    batch = expected[0][1]
    assert batch["task"].shape == (3,)
    assert [mask.dtype for mask in batch["target_masks"]] == [torch.bool] * 3
    lengths = [[len(x) for x in b[key]] for _, b in expected for key in MASKS[1:]]
    assert lengths[::2] == lengths[1::2]
    assert len({n for part in lengths for n in part}) > 2
    for workers in (1, 2):
        loader = StepLoader(dataset(), workers=workers)
        assert batches_equal(list(loader.steps(0, 6)), expected)
        assert batches_equal(list(loader.steps(4, 6)), expected[4:])


def test_two_ranks_share_what_one_would_load(images):
    dataset = LabelDataset(Store(images), stream(batch_size=4, tasks="in_turn"), SIZE)
    (_, expected), *_ = StepLoader(dataset).steps(3, 4)
    loaders = [StepLoader(dataset, rank=rank, processes=2) for rank in range(2)]
    parts = [next(loader.steps(3, 4))[1] for loader in loaders]
    joined = {
        key: parts[0][key] + parts[1][key]
        if isinstance(value, list)
        else torch.cat([part[key] for part in parts])
        for key, value in expected.items()
    }
    assert equal(joined, expected)


def test_each_stream_uses_the_stores_that_serve_it(drives, images, tmp_path):
    bare_keys = standard_keys("image", "K")
    with StoreWriter(tmp_path / "bare", spec(keys=bare_keys)) as writer:
        writer.add_drive("bare", [{k: frame(9, i)[k] for k in bare_keys} for i in range(4)])
    stores = [Store(tmp_path / "bare"), Store(images)]
    labels = LabelDataset(stores, stream(), SIZE)
    triplets = TripletDataset(stores, StreamSpec(kind="triplets", batch_size=1), SIZE)
    assert [s.path for s in labels.stores] == [images]
    assert [s.path for s in triplets.stores] == [tmp_path / "bare"]
    assert (len(labels), len(triplets)) == (8, 2)
    both = LabelDataset([Store(drives), *stores], stream(), SIZE)
    assert len(both) == 18
    assert len(LabelDataset([Store(drives), *stores], stream(labels=FRAME), SIZE)) == 10
    with pytest.raises(DataError, match=r"^stream 'seg' needs a store .*bare lacks instance, sem"):
        LabelDataset(stores[0], stream(), SIZE, name="seg")
    with pytest.raises(DataError, match=r"bare lacks depth, .*images lacks depth$"):
        LabelDataset(stores, stream(labels=FRAME), SIZE)


def test_drives_of_which_nothing_is_known_are_left_out(tmp_path):
    void = {**cars(1), "semantic": np.zeros(SIZE, np.uint8), "instance": np.zeros(SIZE, np.int32)}
    known, unknown = np.full(SIZE, 5, np.float32), np.zeros(SIZE, np.float32)
    frames = [cars(1) | {"depth": unknown}, void | {"depth": known}, cars(3) | {"depth": known}]
    store = Store(write_images(tmp_path / "s", frames))
    for labels, names in {
        MASKS: ["image-0", "image-2"],
        ("semantic_labels", "depth_gt"): ["image-0", "image-2"],
        ("depth_gt",): ["image-1", "image-2"],
        ("task",): ["image-0", "image-1", "image-2"],
    }.items():
        dataset = LabelDataset(store, stream(labels=labels), SIZE, train=False)
        found = [dataset.item_name(n).split("/")[-1].split()[0] for n in range(len(dataset))]
        assert found == names
    nothing = Store(write_images(tmp_path / "void", [void]))
    with pytest.raises(DataError, match="has no labelled frame"):
        LabelDataset(nothing, stream(), SIZE)


def test_training_ids_are_those_of_the_table(images, tmp_path):
    entries = [
        ClassEntry(26, "automobile", (0, 0, 9), "all", has_instances=True),
        ClassEntry(7, "street", (0, 9, 0), "all", ignored=True),
        ClassEntry(99, "boat", (9, 0, 0), "all", has_instances=True),
    ]
    table = ClassTable("own", tuple(sorted(entries, key=lambda e: e.id)))
    spec_ = stream(labels=("semantic_labels", *MASKS), flip=0.0)
    dataset = LabelDataset(Store(images), spec_, SIZE, train=False, classes=table)
    item = dataset.item(0, 2)
    assert set(item["semantic_labels"].unique().tolist()) == {0, 255}
    assert set(item["target_classes"].tolist()) == {0}
    np.testing.assert_array_equal(TABLE.train_ids, id_to_train_id())


def test_a_table_of_other_ids_is_refused_before_it_teaches_nothing(images):
    table = ClassTable("rooms", (ClassEntry(1, "wall", (9, 0, 0), "all"),))
    with pytest.raises(DataError, match=r"holds the ids .*26.* evaluated class of 'rooms'"):
        LabelDataset(Store(images), stream(labels=MASKS), SIZE, classes=table)
    LabelDataset(Store(images), stream(labels=("instance_ids",)), SIZE, classes=table)


def test_stores_of_training_ids_mean_the_same(images, tmp_path):
    frames = [cars(n) for n in range(3)]
    keys = standard_keys(*frames[0])
    keys["semantic"] = keys["semantic"].model_copy(update={"unit": TRAIN_ID, "invalid": 255.0})
    with StoreWriter(tmp_path / "s", spec(kind="images", keys=keys)) as writer:
        for number, content in enumerate(frames):
            changed = {**content, "semantic": id_to_train_id()[content["semantic"]]}
            writer.add_drive(f"image-{number}", [changed])
    labels = stream(labels=("semantic_labels", *MASKS))
    theirs, ours = (
        LabelDataset(Store(path), labels, SIZE, train=False, name="x")
        for path in (tmp_path / "s", images)
    )
    assert all(equal(theirs.item(0, n), ours.item(0, n)) for n in range(3))


def test_refusals(drives):
    with pytest.raises(WiringError, match="expected 'labels'"):
        LabelDataset(Store(drives), StreamSpec(kind="triplets", batch_size=1), SIZE)
    with pytest.raises(UsageError, match="did you mean 'target_masks'"):
        LabelDataset(Store(drives), stream(labels=("target_mask",)), SIZE)
    with pytest.raises(WiringError, match=r"'T_source_target_gt' is for streams of kind triplets"):
        LabelDataset(Store(drives), stream(labels=("T_source_target_gt",)), SIZE)
    with pytest.raises(WiringError, match=r"'task' is for streams of kind labels"):
        triplets = StreamSpec(kind="triplets", batch_size=1, labels=("task",))
        TripletDataset(Store(drives), triplets, SIZE)
    for override, message in {
        "streams.triplets.augment.zoom=1.5": "zoom is for streams of kind labels",
        "streams.triplets.tasks=in_turn": "in_turn is for streams with 'task'",
    }.items():
        with pytest.raises(PresetError, match=message):
            load_preset("unified-tiny", [override])
