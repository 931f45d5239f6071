"""Checkpoints: written at once or not at all, and nothing damaged is ever loaded."""

import errno
import json
import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from training_toys import toy_preset

from unienc_core import checkpoint as cp
from unienc_core.errors import CheckpointError, DataError, ResourceError, UsageError
from unienc_core.sealing import seal
from unienc_core.tensors import MAX_HEADER_BYTES, read_tensors, write_tensors


def save(folder, step=3, model=None):
    model = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(2)} if model is None else model
    return cp.save_checkpoint(
        folder,
        preset=toy_preset(),
        model=model,
        optimizer={"adamw/a": torch.ones(2)},
        state={"step": step, "loss": 0.1 + 0.2},
    )


def test_round_trip_is_exact(tmp_path):
    path = save(tmp_path)
    assert path.name == "step-0000003"
    assert sorted(p.name for p in path.iterdir()) == sorted(
        ["model.safetensors", "optimizer.safetensors", "preset.yaml", "state.json"]
    )
    loaded = cp.load_checkpoint(path)
    assert loaded.step == 3
    assert loaded.state["loss"] == 0.1 + 0.2
    assert loaded.preset == toy_preset()
    tensors = loaded.model_tensors()
    assert torch.equal(tensors["a"], torch.arange(6.0).view(2, 3))
    assert tensors["b"].dtype == torch.int64
    assert torch.equal(loaded.optimizer_tensors()["adamw/a"], torch.ones(2))


def test_tied_and_strided_tensors_are_saved(tmp_path):
    shared = torch.arange(6.0).view(2, 3)
    write_tensors(tmp_path / "t", {"a": shared, "same": shared, "turned": shared.T})
    read = read_tensors(tmp_path / "t")
    assert torch.equal(read["a"], shared)
    assert torch.equal(read["same"], shared)
    assert torch.equal(read["turned"], shared.T)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "preset.yaml", "state.json"]
)
@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "missing"])
def test_every_damage_is_noticed(tmp_path, name, damage):
    older, newer = save(tmp_path, 3), save(tmp_path, 6)
    victim = newer / name
    if damage == "flipped bit":
        flip_a_bit(victim)
    elif damage == "truncated":
        os.truncate(victim, victim.stat().st_size // 2)
    else:
        victim.unlink()
    said = []
    assert cp.newest_checkpoint(tmp_path, say=said.append).path == older
    assert len(said) == 1
    assert str(victim) in said[0]
    with pytest.raises(CheckpointError, match=name):
        loaded = cp.load_checkpoint(newer)
        loaded.model_tensors()
        loaded.optimizer_tensors()


def test_inference_reads_only_the_model(tmp_path):
    run = tmp_path / "run"
    path = save(run / "checkpoints")
    (path / "optimizer.safetensors").unlink()
    for named in (run, path, path / "model.safetensors"):
        assert set(cp.load_checkpoint(named).model_tensors()) == {"a", "b"}


def test_no_intact_checkpoint(tmp_path):
    flip_a_bit(save(tmp_path) / "model.safetensors")
    with pytest.raises(CheckpointError, match="no intact checkpoint"):
        cp.newest_checkpoint(tmp_path)


def test_other_format_is_named(tmp_path):
    path = save(tmp_path)
    state = {**cp.load_checkpoint(path).state, "format": 99}
    (path / "state.json").write_bytes(seal(state))
    with pytest.raises(CheckpointError, match="format 99, this version reads 1"):
        cp.load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8 + b"{}",
        (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * (MAX_HEADER_BYTES + 2),
        (2).to_bytes(8, "little") + b"[]",
        b"a text file named .safetensors",
    ],
    ids=["empty", "huge claim", "huge header", "not a mapping", "text"],
)
def test_hostile_tensor_files_are_refused(tmp_path, content):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(CheckpointError, match=str(tmp_path / "t")):
        read_tensors(tmp_path / "t")


def test_too_many_tensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("unienc_core.tensors.MAX_TENSORS", 2)
    write_tensors(tmp_path / "t", {str(i): torch.zeros(1) for i in range(3)})
    with pytest.raises(CheckpointError, match="3 tensors, at most 2"):
        read_tensors(tmp_path / "t")


def test_other_shapes_are_named_with_both():
    network = nn.Linear(3, 2)
    with pytest.raises(CheckpointError, match=r"weight is \[2, 4\], the network has \[2, 3\]"):
        cp.load_tensors(network, {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, "ckpt")
    with pytest.raises(CheckpointError, match="bias is missing; extra is not in the network"):
        cp.load_tensors(network, {"weight": torch.zeros(2, 3), "extra": torch.zeros(1)}, "ckpt")


def test_failed_save_leaves_nothing(tmp_path, monkeypatch):
    older = save(tmp_path)

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(cp, "write_synced", full)
    with pytest.raises(ResourceError, match="disk full"):
        save(tmp_path, 6)
    assert list(tmp_path.iterdir()) == [older]
    cp.load_checkpoint(older).model_tensors()


def test_too_little_space_is_said_with_both_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=7_000_000))
    with pytest.raises(ResourceError, match="8.0 MB are needed, 7.0 MB are free"):
        save(tmp_path / "new", model={"a": torch.zeros(2_000_000)})
    assert not (tmp_path / "new").exists()
    save(tmp_path)


def test_a_full_disk(tmp_path):
    """A real one, where the machine lets us mount it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        older = save(disk)
        (disk / "fill").write_bytes(b"x" * (64 * 1024))
        with pytest.raises(ResourceError, match="disk full"):
            save(disk, 6, model={"a": torch.zeros(48 * 1024)})
        assert cp.list_checkpoints(disk) == [older]
        assert torch.equal(cp.load_checkpoint(older).model_tensors()["b"], torch.tensor(2))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_a_killed_writer_left_is_removed(tmp_path):
    path = save(tmp_path)
    (tmp_path / ".tmp-step-0000006-123").mkdir()
    (tmp_path / ".tmp-step-0000006-123" / "model.safetensors").write_bytes(b"half")
    assert cp.newest_checkpoint(tmp_path).path == path
    assert cp.remove_unfinished(tmp_path) == [".tmp-step-0000006-123"]
    assert list(tmp_path.iterdir()) == [path]


def test_pruning_keeps_the_newest(tmp_path):
    paths = [save(tmp_path, step) for step in (5, 10, 100)]
    cp.prune_checkpoints(tmp_path, 2)
    assert cp.list_checkpoints(tmp_path) == paths[1:]


def finished_run(runs, name, when, step):
    save(runs / name / "checkpoints", step)
    (runs / name / "run.json").write_text(json.dumps({"finished_at": when}))


def test_where_a_checkpoint_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv(cp.ENVIRONMENT_VARIABLE, raising=False)
    runs = tmp_path / "runs"
    with pytest.raises(UsageError, match="no finished run"):
        cp.find_checkpoint(runs=runs)
    finished_run(runs, "old", 1.0, 1)
    finished_run(runs, "new", 2.0, 2)
    finished_run(runs, "unfinished", None, 3)
    assert cp.find_checkpoint(runs=runs).step == 2
    monkeypatch.setenv(cp.ENVIRONMENT_VARIABLE, str(runs / "unfinished"))
    assert cp.find_checkpoint(runs=runs).step == 3
    assert cp.find_checkpoint(runs / "old", runs=runs).step == 1
    with pytest.raises(DataError, match="no such checkpoint"):
        cp.find_checkpoint(tmp_path / "nowhere", runs=runs)
    with pytest.raises(DataError, match="no checkpoint lies here; expected .* a run folder"):
        cp.find_checkpoint(runs, runs=runs)
