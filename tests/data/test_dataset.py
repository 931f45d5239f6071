"""Triplets: exact order, one jitter an item, and flips that keep the geometry true."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from fake_drives import SIZE, frame, spec, write_fake_store

from unienc_core.classes import LABELS
from unienc_core.data.dataset import TripletDataset
from unienc_core.data.keys import standard_keys
from unienc_core.data.loader import StepLoader
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import DataError, UsageError, WiringError
from unienc_core.presets import AugmentSpec, StreamSpec

WANTED = (
    "depth_gt",
    "motion_mask_gt",
    "semantic_labels",
    "instance_ids",
    "T_source_target_gt",
    "speed",
    "curvature",
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_fake_store(tmp_path_factory.mktemp("data") / "s", count=4, num_frames=6)


def stream(batch_size=3, labels=(), **augment):
    return StreamSpec(
        kind="triplets", batch_size=batch_size, labels=labels, augment=AugmentSpec(**augment)
    )


def items(dataset, steps):
    return [dataset.item(step, slot) for step in steps for slot in range(dataset.batch_size)]


def equal(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[key], b[key]) for key in a)


def test_an_item_is_what_the_store_holds(path):
    dataset = TripletDataset(Store(path), stream(labels=WANTED), SIZE, train=False)
    item = dataset.item(1, 2)  # the sixth triplet: drive 1, target 2
    truth = [frame(1, i) for i in (2, 1, 3)]
    images = [torch.from_numpy(t["image"]).permute(2, 0, 1) / 255 for t in truth]
    assert torch.equal(item["target_image"], images[0])
    assert torch.equal(item["source_images"], torch.stack(images[1:]))
    assert item["source_offsets"].tolist() == [-1, 1]
    assert item["K"].dtype == torch.float32
    np.testing.assert_allclose(item["K"], truth[0]["K"], rtol=1e-7)
    assert item["depth_gt"].shape == (1, *SIZE)
    np.testing.assert_array_equal(item["depth_gt"][0], truth[0]["depth"])
    np.testing.assert_array_equal(item["motion_mask_gt"][0], truth[0]["motion_mask"])
    train_ids = {label.id: label.train_id for label in LABELS}
    expected = np.vectorize(train_ids.get)(truth[0]["semantic"])
    np.testing.assert_array_equal(item["semantic_labels"], expected)
    assert item["semantic_labels"].dtype == torch.int64
    np.testing.assert_array_equal(item["instance_ids"], truth[0]["instance"])
    for s, source in enumerate(truth[1:]):
        expected = np.linalg.inv(source["T_world_camera"]) @ truth[0]["T_world_camera"]
        np.testing.assert_allclose(item["T_source_target_gt"][s], expected, atol=1e-6)
    assert item["speed"].shape == ()
    assert item["curvature"] == 2.0
    assert not any(key.endswith("_aug") for key in item)


def reprojection_error(item, s):
    """Mean colour difference after moving target pixels to a source by depth, pose and K."""
    K, pose = item["K"].double().numpy(), item["T_source_target_gt"][s].double().numpy()
    depth = item["depth_gt"][0].double().numpy()
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(float)
    points = np.linalg.inv(K) @ np.stack((u, v, np.ones_like(u))).reshape(3, -1) * depth.ravel()
    seen = K @ (pose[:3, :3] @ points + pose[:3, 3:])
    x, y = seen[0] / seen[2], seen[1] / seen[2]
    inside = (x > 0) & (x < depth.shape[1] - 1) & (y > 0) & (y < depth.shape[0] - 1)
    x, y = x[inside], y[inside]
    x0, y0 = x.astype(int), y.astype(int)
    source = item["source_images"][s].numpy()
    value = sum(
        source[:, y0 + dy, x0 + dx] * (abs(1 - dx - (x - x0)) * abs(1 - dy - (y - y0)))
        for dx in (0, 1)
        for dy in (0, 1)
    )
    target = item["target_image"].numpy().reshape(3, -1)[:, inside]
    assert inside.mean() > 0.6
    return np.abs(value - target).mean()


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("size", [SIZE, (48, 72)])
def test_points_keep_their_colour_through_flip_and_resize(path, flip, size):
    """K, depth and pose of the item agree, with cx off the centre; a wrong flip does not."""
    labels = ("depth_gt", "T_source_target_gt", "curvature")
    dataset = TripletDataset(
        Store(path), stream(labels=labels, flip=flip, jitter=0.0), size, seed=1
    )
    for item in items(dataset, range(2)):
        for s in (0, 1):
            assert reprojection_error(item, s) < 0.006
        wrong = {**item, "K": item["K"].clone()}
        wrong["K"][0, 2] = size[1] - 1 - item["K"][0, 2]
        assert reprojection_error(wrong, 0) > 0.012
        assert (item["curvature"] < 0) == bool(flip)


def test_flip_mirrors_everything(path):
    plain, flipped = (
        TripletDataset(Store(path), stream(labels=WANTED, flip=p, jitter=0.0), SIZE)
        for p in (0.0, 1.0)
    )
    for a, b in zip(items(plain, [0]), items(flipped, [0]), strict=True):
        maps = ("depth_gt", "motion_mask_gt", "semantic_labels", "instance_ids")
        for key in ("target_image", "source_images", *maps):
            assert torch.equal(a[key], b[key].flip(-1))
        assert b["K"][0, 2] == SIZE[1] - 1 - a["K"][0, 2]
        F = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
        torch.testing.assert_close(b["T_source_target_gt"], F @ a["T_source_target_gt"] @ F)
        assert torch.equal(a["speed"], b["speed"])
        assert torch.equal(a["curvature"], -b["curvature"])


def test_one_jitter_for_the_triplet_and_none_for_the_losses(path):
    jittered = TripletDataset(Store(path), stream(flip=0.0, jitter=1.0), SIZE)
    plain = TripletDataset(Store(path), stream(flip=0.0, jitter=0.0), SIZE)
    maps = []
    for a, b in zip(items(jittered, [0]), items(plain, [0]), strict=True):
        assert torch.equal(a["target_image"], b["target_image"])
        assert torch.equal(a["source_images"], b["source_images"])
        before = torch.cat((a["target_image"][None], a["source_images"])).double()
        after = torch.cat((a["target_image_aug"][None], a["source_images_aug"])).double()
        # One affine colour map, fitted on the target alone, explains the sources too.
        x = torch.cat((before, torch.ones_like(before[:, :1])), 1).transpose(0, 1).flatten(2)
        y = after.transpose(0, 1).flatten(2)
        inner = (y > 2 / 255).all(0) & (y < 253 / 255).all(0)
        keep = inner[0]
        fit = torch.linalg.lstsq(x[:, 0, keep].T, y[:, 0, keep].T).solution.T
        for n in range(3):
            error = (fit @ x[:, n] - y[:, n])[:, inner[n]].abs()
            assert error.max() < 1.5 / 255
        assert (fit[:, :3] - torch.eye(3)).abs().max() > 0.01
        maps.append(fit)
    assert (maps[0] - maps[1]).abs().max() > 0.02


def test_half_of_the_items_are_jittered_and_flipped(path):
    dataset = TripletDataset(Store(path), stream(batch_size=16), SIZE)
    found = items(dataset, range(10))
    changed = sum(not torch.equal(i["target_image"], i["target_image_aug"]) for i in found)
    mirrored = sum(float(i["K"][0, 2]) > SIZE[1] / 2 for i in found)
    assert 50 < changed < 110
    assert 50 < mirrored < 110


def test_an_item_depends_on_seed_stream_step_and_slot_alone(path):
    spec_ = stream(labels=("depth_gt",))
    first = TripletDataset(Store(path), spec_, SIZE, seed=5)
    again = pickle.loads(pickle.dumps(TripletDataset(Store(path), spec_, SIZE, seed=5)))
    backwards = [again.item(step, slot) for step in (7, 3) for slot in (2, 1, 0)]
    forwards = [first.item(step, slot) for step in (3, 7) for slot in (0, 1, 2)]
    assert all(equal(a, b) for a, b in zip(forwards, backwards[::-1], strict=True))
    others = (
        TripletDataset(Store(path), spec_, SIZE, seed=6),
        TripletDataset(Store(path), spec_, SIZE, seed=5, name="other"),
    )
    for other in others:
        assert not all(
            equal(a, b) for a, b in zip(items(first, [3]), items(other, [3]), strict=True)
        )


def batches_equal(a, b):
    return len(a) == len(b) and all(
        i == j and equal(x, y) for (i, x), (j, y) in zip(a, b, strict=True)
    )


def test_any_worker_count_and_any_start_give_the_same_bits(path):
    def dataset():
        return TripletDataset(Store(path), stream(labels=("depth_gt",)), SIZE, seed=2)

    expected = list(StepLoader(dataset()).steps(0, 6))
    assert [step for step, _ in expected] == list(range(6))
    assert expected[0][1]["target_image"].shape == (3, 3, *SIZE)
    for workers in (1, 2):
        loader = StepLoader(dataset(), workers=workers)
        assert batches_equal(list(loader.steps(0, 6)), expected)
        assert batches_equal(list(loader.steps(4, 6)), expected[4:])  # the same processes
        assert batches_equal([next(loader.steps(1, 6))], expected[1:2])  # left half-way
        assert batches_equal(list(loader.steps(2, 4)), expected[2:4])


def test_threads_load_the_same_bits_while_shards_are_closed_and_opened(path, monkeypatch):
    monkeypatch.setattr("unienc_core.data.store.MAX_OPEN_SHARDS", 1)
    places = [(step, slot) for step in range(20) for slot in range(12)]
    expected = TripletDataset(Store(path), stream(batch_size=12), SIZE)
    shared = TripletDataset(Store(path), stream(batch_size=12), SIZE)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(shared.__getitem__, places))
    assert all(equal(item, expected[place]) for item, place in zip(found, places, strict=True))


def test_a_loading_thread_changes_no_setting_and_ends_with_its_loader(path):
    usual, threads = torch.get_num_threads(), threading.active_count()
    steps = StepLoader(TripletDataset(Store(path), stream(), SIZE)).steps(0, 9)
    next(steps)
    assert torch.get_num_threads() == usual
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == usual
    steps.close()
    assert threading.active_count() == threads


def test_two_ranks_share_what_one_would_load(path):
    dataset = TripletDataset(Store(path), stream(batch_size=4), SIZE)
    (_, expected), *_ = StepLoader(dataset).steps(3, 4)
    loaders = [StepLoader(dataset, rank=rank, processes=2) for rank in range(2)]
    found = [next(loader.steps(3, 4))[1] for loader in loaders]
    for key, value in expected.items():
        assert torch.equal(torch.cat([part[key] for part in found]), value)


def test_a_batch_that_does_not_divide_is_refused(path):
    dataset = TripletDataset(Store(path), stream(batch_size=4), SIZE)
    with pytest.raises(UsageError, match=r"batch_size: 4 items .* among 3 processes; .* of 3"):
        StepLoader(dataset, processes=3)


def test_loading_draws_from_no_shared_generator(path):
    dataset = TripletDataset(Store(path), stream(), SIZE)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    list(StepLoader(dataset).steps(0, 2))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_frame_is_named_wherever_it_is_read(path, workers, monkeypatch):
    def broken(data, size, where):
        raise DataError(f"{where}: the image is damaged")

    dataset = TripletDataset(Store(path), stream(), SIZE)
    monkeypatch.setattr("unienc_core.data.shard_read.decode_image", broken)
    with pytest.raises(DataError, match=r"^[^\n]*drive drive-\d, frame \d, image: [^\n]*$"):
        list(StepLoader(dataset, workers=workers).steps(0, 1))


def test_several_stores_are_one_stream_and_missing_labels_are_marked(path, tmp_path):
    keys = standard_keys("image", "K", "T_world_camera")
    with StoreWriter(tmp_path / "bare", spec(keys=keys, image_size=(64, 96))) as writer:
        frames = ({k: frame(9, i, (64, 96))[k] for k in keys} for i in range(5))
        writer.add_drive("bare", frames)
    both = [Store(path), Store(tmp_path / "bare")]
    dataset = TripletDataset(both, stream(labels=("depth_gt", "speed")), SIZE)
    assert len(dataset) == 16 + 3
    (_, batch), *_ = StepLoader(dataset).steps(0, 1)
    assert batch["target_image"].shape == (3, 3, *SIZE)
    found = items(dataset, range(7))[: len(dataset)]
    valid = torch.stack([item["valid_depth_gt"] for item in found])
    assert valid.sum() == 16
    for item in found:
        assert (item["depth_gt"].max() > 0) == item["valid_depth_gt"]
        assert item["valid_speed"] == item["valid_depth_gt"]
    with pytest.raises(DataError, match="no 'depth'"):
        TripletDataset(both[1], stream(labels=("depth_gt",)), SIZE)


def test_refusals(path, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'depth_gt'"):
        TripletDataset(Store(path), stream(labels=("depth_gy",)), SIZE)
    with pytest.raises(WiringError, match="labels"):
        TripletDataset(Store(path), StreamSpec(kind="labels", batch_size=1), SIZE)
    short = write_fake_store(tmp_path / "short", count=1, num_frames=2)
    with pytest.raises(DataError, match="no triplet"):
        TripletDataset(Store(short), stream(), SIZE)
