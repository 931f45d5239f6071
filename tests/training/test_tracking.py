"""TensorBoard: the curves of ``metrics.jsonl``, pictures of fixed items, no trace in weights."""

import ast
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_store import write_tiny_store
from training_runs import Crash, smallest

from unienc_cli.main import run
from unienc_core.checkpoint import list_checkpoints
from unienc_core.errors import UsageError
from unienc_core.inference.overlays import DepthRange
from unienc_core.workflows import panels
from unienc_core.workflows.tracking import TensorBoard, check_tracker

ROOT = Path(__file__).resolve().parents[2]
TENSORBOARD = importlib.util.find_spec("tensorboard") is not None
needs_tensorboard = pytest.mark.skipif(not TENSORBOARD, reason="tensorboard is not installed")

DUE = [4, 8, 12, 16, 20, 24, 25]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_tiny_store(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture
def pictures_every_four_steps(monkeypatch):
    monkeypatch.setattr(panels, "SHORTEST_WAIT", 4)


def events(run: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    found = events(run)
    tags = found.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in tags}


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves of ``metrics.jsonl``, as float32, which is what TensorBoard keeps."""
    found: dict[str, list[tuple[int, float]]] = {}
    for text in (run / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        for name in line.keys() - {"step", "stage", "time"}:
            found.setdefault(name, []).append((line["step"], float(np.float32(line[name]))))
    return found


def weights(run: Path) -> list[bytes]:
    last = list_checkpoints(run / "checkpoints")[-1]
    return [(last / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]


@needs_tensorboard
def test_tracking_draws_what_was_logged_and_moves_no_weight(
    tmp_path, store, pictures_every_four_steps
):
    smallest(tmp_path, store, tmp_path / "plain")
    smallest(tmp_path, store, tmp_path / "tracked", track="tensorboard")
    assert weights(tmp_path / "tracked") == weights(tmp_path / "plain")
    assert not (tmp_path / "plain" / "tensorboard").exists()
    found = curves(tmp_path / "tracked")
    assert found == logged(tmp_path / "tracked")
    assert [step for step, _ in found["loss/photometric"]] == [10, 12, 20, 25]
    images = events(tmp_path / "tracked")
    assert images.Tags()["images"] == ["panels/1", "panels/2"]
    for tag in ("panels/1", "panels/2"):
        assert [event.step for event in images.Images(tag)] == DUE
    first, *_, last = images.Images("panels/1")
    drawn = [
        cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        for event in (first, last)
    ]
    assert drawn[0].shape[1] == 2 * panels.TILE_WIDTH
    tile = drawn[0].shape[0] // 4
    assert np.array_equal(drawn[0][40:tile], drawn[1][40:tile]), "the items are not the same"
    assert not np.array_equal(*drawn), "the network has learnt, its depth is drawn anew"


@needs_tensorboard
def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path, store, pictures_every_four_steps):
    smallest(tmp_path, store, tmp_path / "whole", track="tensorboard")
    out = tmp_path / "torn"
    for crash in (11, 20):  # after lines and pictures that the last checkpoint knows nothing of
        with pytest.raises(Crash):
            smallest(tmp_path, store, out, crash=crash, track="tensorboard", checkpoint_every=7)
    smallest(tmp_path, store, out, track="tensorboard", checkpoint_every=7)
    assert weights(out) == weights(tmp_path / "whole")
    assert curves(out) == logged(out)
    assert [event.step for event in events(out).Images("panels/1")] == DUE


@needs_tensorboard
def test_steps_without_tracking_are_made_up_for(tmp_path, store):
    out = tmp_path / "run"
    with pytest.raises(Crash):
        smallest(tmp_path, store, out, crash=15, checkpoint_every=11, track="tensorboard")
    with pytest.raises(Crash):
        smallest(tmp_path, store, out, crash=24, checkpoint_every=11)
    smallest(tmp_path, store, out, track="tensorboard", checkpoint_every=11)
    assert [step for step, _ in curves(out)["lr"]] == [10, 12, 20, 25]
    assert curves(out) == logged(out)


@needs_tensorboard
def test_numbers_that_are_none_are_left_out(tmp_path):
    with TensorBoard(tmp_path / "tensorboard", tmp_path / "metrics.jsonl", 0) as board:
        board.add_line({"step": 1, "stage": "s", "time": 5.0, "lr": 0.5, "loss/total": None})
        board.add_line({"step": 2, "stage": "s", "time": 6.0, "lr": float("nan"), "warnings": []})
    found = events(tmp_path)
    assert found.Tags()["scalars"] == ["lr"]
    assert [(e.step, e.value, e.wall_time) for e in found.Scalars("lr")] == [(1, 0.5, 5.0)]


def test_a_missing_package_is_one_line_with_the_remedy(tmp_path, store, monkeypatch, capsys):
    monkeypatch.setattr("unienc_core.workflows.tracking.find_spec", lambda name: None)
    words = ["train-student", str(store), "--out", str(tmp_path / "run"), "--track", "tensorboard"]
    assert run([*words, "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "pip install 'unienc[track]'" in error
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused():
    check_tracker(None)
    with pytest.raises(UsageError, match="did you mean 'tensorboard'"):
        check_tracker("tensorbord")


def test_the_core_imports_no_tensorboard_at_top_level():
    for path in sorted((ROOT / "unienc_core").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "tensorboard" not in ast.unparse(node), f"{path}:{node.lineno}"


def test_the_tiles_of_a_static_pair():
    """Where nothing moved, no warped pixel is better; where the warp is right, all are."""
    torch.manual_seed(0)
    target = torch.rand(1, 3, 8, 12)
    values = {"target_image": target, "source_images": target[:, None].repeat(1, 2, 1, 1, 1)}
    assert list(panels._tiles(values)) == ["target", "source"]
    values["warped"] = torch.stack([target.flip(3), target.flip(2)], 1)
    tiles = panels._tiles(values)
    assert not tiles["kept by the auto-mask"].any()
    values["warped"] = values["warped"].clone()
    values["warped"][:, 1] = target
    values["source_images"] = 1 - values["source_images"]
    tiles = panels._tiles(values)
    assert tiles["kept by the auto-mask"].all()
    assert tiles["photometric error, 0 to 0.5"].abs().max() < 1e-6


def test_colours_of_a_panel():
    error = torch.tensor([[[0.0, 0.25], [0.5, 9.0]]])
    grey = panels._colour("photometric error", error.numpy(), DepthRange(1, 10))
    assert grey[..., 0].tolist() == [[0, 128], [255, 255]]
    mask = panels._colour("kept", torch.tensor([[[True, False]]]).numpy(), DepthRange(1, 10))
    assert mask[..., 0].tolist() == [[255, 0]]
    near, far = (
        panels._colour("depth", np.full((1, 2, 2), depth, np.float32), DepthRange(1, 10)).mean()
        for depth in (1.0, 10.0)
    )
    assert near > far
