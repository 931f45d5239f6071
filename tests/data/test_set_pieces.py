"""What all adapters share: runs of frames, pictures with their K, listings and their errors."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unienc_core.data.clip_scan import Window
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.sets.listing import Listing, listing_digest, missing_tree
from unienc_core.data.sets.pictures import View, picture_size, read_codes, read_picture, whole_view
from unienc_core.data.sets.runs import cut, runs
from unienc_core.data.sets.standing import StandingWatch
from unienc_core.data.shard_build import DrivePlan
from unienc_core.data.transforms import resize_value
from unienc_core.errors import DataError
from unienc_core.geometry.camera import crop_K, resize_K


def triplets_of(found):
    return sorted(tuple(run[i - 1 : i + 2]) for run in found for i in range(1, len(run) - 1))


def test_a_snippet_of_thirty_frames_at_gap_two_has_26_triplets():
    found = runs(range(30), 2)
    assert found == [list(range(0, 30, 2)), list(range(1, 30, 2))]
    assert [t[1] for t in triplets_of(found)] == sorted(range(2, 28))


def test_touching_snippets_join_and_holes_part():
    assert len(triplets_of(runs(range(60), 2))) == 56
    assert runs([50, 52, 54], 2) == [[50, 52, 54]]
    assert runs([0, 1, 2, 4, 5, 6, 7], 1) == [[0, 1, 2], [4, 5, 6, 7]]
    assert runs([0, 1, 3, 4], 1) == []


@given(st.sets(st.integers(0, 60)), st.integers(1, 4))
@settings(deadline=None)
def test_every_frame_with_both_neighbours_is_a_target_once_and_no_frame_lies_in_two_runs(
    numbers, gap
):
    found = runs(numbers, gap)
    expected = [(n - gap, n, n + gap) for n in sorted(numbers) if {n - gap, n + gap} <= numbers]
    assert triplets_of(found) == sorted(expected)
    frames = [frame for run in found for frame in run]
    assert len(frames) == len(set(frames))


@given(st.integers(3, 50), st.integers(3, 12))
@settings(deadline=None)
def test_cutting_loses_no_triplet(length, most):
    run = list(range(7, 7 + length))
    pieces = cut(run, most)
    assert all(3 <= len(piece) <= most for piece in pieces)
    assert triplets_of(pieces) == triplets_of([run])


def test_pictures_come_as_rgb_and_grey_ones_too(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "colour.png"), colour[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), colour[..., 0])
    np.testing.assert_array_equal(read_picture(tmp_path / "colour.png"), colour)
    grey = read_picture(tmp_path / "grey.png")
    np.testing.assert_array_equal(grey, np.repeat(colour[..., :1], 3, axis=2))
    assert picture_size(tmp_path / "colour.png") == (5, 7)


def test_codes_keep_their_bits(tmp_path):
    codes = np.array([[0, 1, 255], [256, 26001, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / "codes.png"), codes)
    np.testing.assert_array_equal(read_codes(tmp_path / "codes.png", np.uint16), codes)
    with pytest.raises(DataError, match="a PNG of 16 bits.*expected a grey PNG of 8 bits"):
        read_codes(tmp_path / "codes.png", np.uint8)
    with pytest.raises(DataError, match="a PNG of 16 bits, expected a picture of 8"):
        read_picture(tmp_path / "codes.png")


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"no picture at all, but long enough" * 4])
def test_files_that_are_no_pictures_are_one_line(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for read in (read_picture, picture_size, lambda p: read_codes(p, np.uint16)):
        with pytest.raises(DataError, match="no PNG or JPEG") as found:
            read(path)
        assert "\n" not in str(found.value)


def test_damage_inside_a_code_image_is_found(tmp_path):
    codes = np.random.default_rng(1).integers(0, 65536, (40, 40), np.uint16)
    path = tmp_path / "codes.png"
    cv2.imwrite(str(path), codes)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        read_codes(path, np.uint16)
    with pytest.raises(DataError, match="cannot be read"):
        read_codes(tmp_path / "absent.png", np.uint16)


def test_K_through_crop_and_resize_by_hand():
    """Cityscapes' typical camera: the lower quarter off, then a quarter of the size."""
    K = np.array([[2262.52, 0, 1096.98], [0, 2265.3, 513.137], [0, 0, 1]])
    view = View((1024, 2048), Window(0, 0, 2048, 768), (192, 512))
    by_hand = [
        [2262.52 / 4, 0, (1096.98 + 0.5) / 4 - 0.5],
        [0, 2265.3 / 4, (513.137 + 0.5) / 4 - 0.5],
        [0, 0, 1],
    ]
    np.testing.assert_allclose(view.K(K), by_hand, rtol=1e-14)


@given(
    st.integers(0, 30), st.integers(0, 20), st.integers(8, 60), st.integers(8, 60), st.floats(-2, 2)
)
def test_K_agrees_with_the_geometry_room(left, top, height, width, skew):
    K = np.array([[70.0, skew, 41.3], [0, 65.0, 22.7], [0, 0, 1]])
    view = View((100, 120), Window(left, top, 115, 90), (height, width))
    expected = resize_K(crop_K(torch.from_numpy(K), left, top), view.window.size, (height, width))
    np.testing.assert_allclose(view.K(K), expected.numpy(), rtol=1e-12, atol=1e-12)


def test_a_view_cuts_and_resizes_as_training_does():
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 256, (40, 60, 3), np.uint8)
    labels = rng.integers(0, 34, (40, 60), np.uint8)
    view = View((40, 60), Window(4, 2, 52, 32), (10, 16))
    part = np.ascontiguousarray(picture[2:32, 4:52])
    np.testing.assert_array_equal(
        view.image(picture, "it"), resize_value(part, "image", (30, 48), (10, 16))
    )
    # Three pixels to one: the middle one of each.
    np.testing.assert_array_equal(view.map(labels, "it"), labels[2:32, 4:52][1::3, 1::3])
    assert whole_view((40, 60)).image(picture, "it").shape == (40, 60, 3)
    with pytest.raises(DataError, match="it: a picture of 39x60, expected 40x60"):
        view.image(picture[1:], "it")


def test_a_tree_that_is_not_there_is_shown_with_what_is(tmp_path):
    (tmp_path / "leftimg8bit" / "train").mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    line = str(missing_tree(tmp_path, "Cityscapes", ["leftImg8bit/<split>/<city>"]))
    assert "expected under it leftImg8bit/<split>/<city>" in line
    assert line.endswith("found leftimg8bit/{train}, notes.txt")
    assert str(missing_tree(tmp_path / "x", "it", ["y"])).endswith("found no such folder")


def test_a_jpeg_may_say_much_before_its_size(tmp_path):
    data = cv2.imencode(".jpg", np.full((48, 64, 3), 200, np.uint8))[1].tobytes()

    def segment(marker, length):
        return bytes([0xFF, marker]) + (length + 2).to_bytes(2, "big") + b"\xff" * length

    heads = {
        "long": segment(0xE1, 65000) + segment(0xE2, 60000),  # EXIF and a colour profile
        "fill": b"\xff",
        "both": segment(0xE1, 65533) + b"\xff\xff\xff" + segment(0xE2, 10),
    }
    for name, head in heads.items():
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(data[:2] + head + data[2:])
        assert picture_size(path) == (48, 64), name
        assert abs(read_picture(path).astype(int) - 200).max() < 3, name
    for rest in (data[:2], data[:2] + heads["long"], data[:2] + b"\xff" * 90):
        (tmp_path / "cut.jpg").write_bytes(rest)
        for read in (picture_size, read_picture):
            with pytest.raises(DataError, match="no PNG or JPEG picture"):
                read(tmp_path / "cut.jpg")


def test_dropped_names_count_once(tmp_path):
    listing = Listing(tmp_path)
    listing.drop("no reason", [])
    listing.drop("late", ["b", "a"])
    listing.drop("late", ["a", "c", "d"])
    (entry,) = listing.dropped_report()
    assert entry == {"reason": "late", "count": 4, "examples": ["a", "b", "c"]}


def test_dropping_names_one_by_one_costs_no_more_than_at_once(tmp_path):
    class Name(str):
        looked_at = 0

        def __hash__(self):
            Name.looked_at += 1
            return super().__hash__()

    listing = Listing(tmp_path)
    for number in range(1000):
        listing.drop("late", [Name(number)])
    assert len(listing.dropped["late"]) == 1000
    assert Name.looked_at < 10_000
    assert listing.dropped_in_words() == "1000: late"


def test_the_digest_tells_listings_apart():
    plans = [DrivePlan("a", 3, attrs={"x": 1}), DrivePlan("b", 4)]
    assert listing_digest(plans) == listing_digest(list(plans))
    assert listing_digest(plans) != listing_digest(plans[:1])
    assert listing_digest(plans) != listing_digest([DrivePlan("a", 3, attrs={"x": 2}), plans[1]])


def test_a_standing_camera_has_no_targets():
    rng = np.random.default_rng(3)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (90, 400), np.uint8), (0, 0), 3)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    shifts = (0, 4, 8, 8, 8, 12)
    watch, awake = StandingWatch(0.001), StandingWatch(0.0)
    for shift in shifts:
        picture = np.repeat(wide[:, shift : shift + 320, None], 3, axis=2)
        watch.add(picture)
        awake.add(picture)
    assert watch.standing == {2, 3, 4}
    assert awake.standing == frozenset()


def test_what_a_source_found_standing_is_no_target_of_the_store(tmp_path):
    from unienc_core.data.keys import standard_keys
    from unienc_core.data.store import Store
    from unienc_core.data.store_writer import StoreWriter

    class Frames:
        standing = frozenset({2, 3})

        def __iter__(self):
            return ({"K": np.eye(3)} for _ in range(6))

    spec = StoreSpec(source="toy", image_size=(4, 4), keys=standard_keys("K"))
    with StoreWriter(tmp_path / "store", spec) as writer:
        writer.add_shards([[DrivePlan("a", 6)]], lambda plan: Frames())
    assert Store(tmp_path / "store").triplets()[:, 1].tolist() == [1, 4]
