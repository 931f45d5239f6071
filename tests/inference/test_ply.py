"""Point clouds, read back by a parser of their own, against back-projection in float64."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clip_toys import facts, make_result

from unienc_core.inference.moving import Moving
from unienc_core.inference.results import ClipFacts, FrameResult
from unienc_core.inference.seen import Seen
from unienc_core.inference.sinks.ply import PlySink
from unienc_core.segmentation import Instance, Segment, Segmentation

SIZE = (24, 32)
K = np.array([[30.0, 0.5, 15.0], [0, 28.0, 11.0], [0, 0, 1]])
NUMPY = {"float": "<f4", "uchar": "u1"}  # of the format's own names


def read_ply(path: Path) -> tuple[np.ndarray, list[str]]:
    """Vertices and comments of a binary little-endian PLY, by the format's description."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    comments = [line[8:] for line in lines if line.startswith("comment ")]
    (count,) = (int(line.split()[2]) for line in lines if line.startswith("element vertex "))
    properties = [line.split()[1:] for line in lines if line.startswith("property ")]
    assert len(lines) == 3 + len(comments) + len(properties)
    vertices = np.frombuffer(body, [(name, NUMPY[kind]) for kind, name in properties])
    assert len(vertices) == count
    return vertices, comments


def about(unit: str = "m", **more: object) -> ClipFacts:
    return replace(facts(SIZE, unit), K=K, **more)


def write(folder: Path, given: ClipFacts, *results: FrameResult) -> Path:
    sink = PlySink(folder / "clip_ply", given)
    sink.open()
    for result in results:
        sink.write(result)
    sink.close()
    return sink.finish()


def coloured(result: FrameResult) -> FrameResult:
    image = np.random.default_rng(3).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    return replace(result, frame=replace(result.frame, image=image))


def stacked(vertices: np.ndarray, *names: str) -> np.ndarray:
    return np.stack([vertices[name] for name in names], -1)


def test_points_are_back_projected_pixels_with_their_colours(tmp_path) -> None:
    result = coloured(make_result(7, scale=3.0, size=SIZE))
    vertices, comments = read_ply(write(tmp_path, about(max_depth=1e9), result) / "000007.ply")
    v, u = np.meshgrid(np.arange(24.0), np.arange(32.0), indexing="ij")
    rays = np.linalg.inv(K) @ np.stack([u, v, np.ones(SIZE)]).reshape(3, -1)
    expected = (rays * result.depth.astype(np.float64).reshape(-1)).T
    np.testing.assert_allclose(stacked(vertices, "x", "y", "z"), expected, rtol=1e-6, atol=1e-6)
    colours = stacked(vertices, "red", "green", "blue")
    np.testing.assert_array_equal(colours, result.frame.image.reshape(-1, 3))
    assert vertices.dtype.names == ("x", "y", "z", "red", "green", "blue")
    assert "camera coordinates: x right, y down, z forward" in comments
    assert any(comment.startswith("unit: m;") for comment in comments)
    assert "frame 7, 0.280000 s" in comments


def test_points_lie_at_the_network_s_size_where_the_picture_is_larger(tmp_path) -> None:
    result = coloured(make_result(0, size=SIZE))
    given = about(network_size=(12, 8), max_depth=1e9)
    vertices, _ = read_ply(write(tmp_path, given, result) / "000000.ply")
    assert len(vertices) == 96
    u, v = (np.arange(8) + 0.5) * 4 - 0.5, (np.arange(12) + 0.5) * 2 - 0.5  # in the picture
    y = (v - K[1, 2]) / K[1, 1]
    x = (u[None] - K[0, 2] - K[0, 1] * (v[:, None] - K[1, 2]) / K[1, 1]) / K[0, 0]
    z = vertices["z"].reshape(12, 8)
    np.testing.assert_allclose(z, result.depth_at((12, 8)), rtol=1e-6)
    np.testing.assert_allclose(vertices["x"].reshape(12, 8), x * z, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(vertices["y"].reshape(12, 8), y[:, None] * z, rtol=1e-4, atol=1e-6)
    means = result.frame.image.reshape(12, 2, 8, 4, 3).mean((1, 3))
    red = vertices["red"].reshape(12, 8)
    assert np.abs(red - means[..., 0]).max() <= 1


def test_the_far_is_left_out(tmp_path) -> None:
    near = make_result(0, scale=1.0, size=SIZE)
    limit = float(np.median(near.depth))
    folder = write(tmp_path, about(max_depth=limit), near)
    vertices, _ = read_ply(folder / "000000.ply")
    assert 0 < len(vertices) == (near.depth <= np.float32(limit)).sum() < near.depth.size
    assert json.loads((folder / "unienc.json").read_text())["max_depth"] == limit


@pytest.mark.parametrize(("unit", "limit"), [("m", 80.0), ("up to scale", None)])
def test_a_limit_that_suits(tmp_path, unit, limit) -> None:
    """80 m; up to scale, what the first frame says, for all of the clip."""
    disparity = np.full((12, 16), 0.4, np.float32)
    disparity[:3] = 0.0005
    first, later = (make_result(i, d, scale=9.0) for i, d in enumerate((disparity, disparity / 2)))
    folder = write(tmp_path, about(unit), first, later)
    found = json.loads((folder / "unienc.json").read_text())
    limit = limit or 8 * float(np.median(first.depth))
    assert found["max_depth"] == pytest.approx(limit)
    assert found["unit"] == unit
    for i, result in enumerate((first, later)):
        vertices, comments = read_ply(folder / f"00000{i}.ply")
        assert 0 < len(vertices) == (result.depth <= limit).sum() < result.depth.size
        assert f"unit: {unit}; points up to z = {limit:.6g}" in comments


def moving() -> Moving:
    rng = np.random.default_rng(5)
    own = rng.normal(size=(3, *SIZE)).astype(np.float32)
    return Moving(own, rng.random(SIZE).astype(np.float32), 0.04, 0.5, 1.0)


def test_flow_and_mask_are_there_and_unknown_without_a_neighbour(tmp_path) -> None:
    given = about(outputs=("depth", "flow", "mask"), max_depth=1e9)
    results = [make_result(0), replace(make_result(1, scale=2.0), moving=moving())]
    folder = write(tmp_path, given, *results)
    first, comments = read_ply(folder / "000000.ply")
    second, _ = read_ply(folder / "000001.ply")
    assert first.dtype == second.dtype
    names = ("own_flow_x", "own_flow_y", "own_flow_z")
    assert np.isnan(stacked(first, *names, "motion_mask")).all()
    expected = 2 * np.moveaxis(moving().own_flow, 0, -1).reshape(-1, 3)
    np.testing.assert_allclose(stacked(second, *names), expected, rtol=1e-6)
    np.testing.assert_array_equal(second["motion_mask"], moving().mask.reshape(-1))
    assert any("since the previous frame" in comment for comment in comments)


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_classes_come_from_the_segmentation_there_is(tmp_path, task) -> None:
    ids = np.full(SIZE, 7, np.int32)
    ids[4:9, 10:20] = 26003
    box = ids == 26003
    found = {
        "semantic": Segmentation(label_ids=np.where(box, 26, 7).astype(np.uint8)),
        "panoptic": Segmentation(ids, (Segment(7, 7), Segment(26003, 26))),
        "instance": Segmentation(instances=(Instance(26, 0.9, box, 26003),)),
    }[task]
    result = replace(make_result(0), seen=Seen.of(found, SIZE))
    given = about(outputs=("depth", task), max_depth=1e9)
    vertices, _ = read_ply(write(tmp_path, given, result) / "000000.ply")
    elsewhere = 0 if task == "instance" else 7
    np.testing.assert_array_equal(vertices["label_id"].reshape(SIZE), np.where(box, 26, elsewhere))


def test_a_frame_of_unknown_depth_has_no_points(tmp_path) -> None:
    given = about(outputs=("depth", "flow"))
    vertices, _ = read_ply(write(tmp_path, given, make_result(0, scale=None)) / "000000.ply")
    assert len(vertices) == 0
    assert "own_flow_z" in vertices.dtype.names
