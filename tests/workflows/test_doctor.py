"""`doctor`: each fault is found, told apart from what is merely absent, and has a remedy."""

import builtins
import json
from importlib import metadata
from types import SimpleNamespace

import pytest

from unienc_cli.main import run
from unienc_core import machine
from unienc_core.workflows import doctor_machine, doctor_trials
from unienc_core.workflows.doctor import Finding, run_check


def only(check):
    (finding,) = check()
    return finding


def test_a_healthy_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNIENC_CHECKPOINT", raising=False)
    assert run(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verb"] == "doctor"
    assert document["ok"]
    states = {finding["name"]: finding["state"] for finding in document["findings"]}
    for name in (
        "Python",
        "packages",
        "torch",
        "memory",
        "store",
        "HDF5 files",
        "network",
        "video",
    ):
        assert states[name] == "ok"
    assert all(f["remedy"] for f in document["findings"] if f["state"] != "ok")
    assert not list(tmp_path.iterdir()), "something was left behind"


def test_a_problem_is_exit_3_and_what_is_absent_is_not(monkeypatch, capsys):
    found = [Finding("a", "ok", "fine"), Finding("bee", "missing", "none", "get one")]
    monkeypatch.setattr(doctor_machine, "CHECKS", {"x": lambda: found})
    monkeypatch.setattr(doctor_trials, "CHECKS", {})
    assert run(["doctor"]) == 0
    assert "this machine can do the work" in capsys.readouterr().out
    found.append(Finding("c", "problem", "broken", "mend it"))
    assert run(["doctor"]) == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "OK       a    fine",
        "missing  bee  none",
        "              -> get one",
        "problem  c    broken",
        "              -> mend it",
        "",
        "1 problem, to be solved first",
    ]
    assert err == ""


def test_a_check_that_dies_is_a_problem_and_the_others_go_on(monkeypatch):
    real = builtins.__import__

    def broken(name, *rest):
        if name == "torch":
            raise ImportError("libcudart.so.13: cannot open\nshared object file")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    (finding,) = run_check("torch", doctor_machine.check_torch)
    assert finding.state == "problem"
    assert finding.found == "ImportError: libcudart.so.13: cannot open shared object file"
    assert run_check("Python", doctor_machine.check_python)[0].state == "ok"


def installed(monkeypatch, requires, versions):
    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor_machine.metadata, "requires", lambda name: requires)
    monkeypatch.setattr(doctor_machine.metadata, "version", version)


def test_packages(monkeypatch, tmp_path):
    (tmp_path / "constraints.txt").write_text("# tested\ntorch==2.13.0\nnumpy==2.4.6\n")
    monkeypatch.setattr(doctor_machine, "_CONSTRAINTS", tmp_path / "constraints.txt")
    requires = ["torch>=2.10", "numpy>=2.0", 'tensorboard>=2.20; extra == "track"']
    installed(monkeypatch, requires, {"torch": "2.13.0+cpu", "numpy": "2.4.6"})
    assert only(doctor_machine.check_packages).found == "2 as required, 2 of them exactly as tested"
    installed(monkeypatch, requires, {"torch": "2.14.0", "numpy": "2.4.6"})
    finding = only(doctor_machine.check_packages)
    assert (finding.state, finding.found.split(": ", 1)[1]) == (
        "ok",
        "torch 2.14.0 (tested: 2.13.0)",
    )
    installed(monkeypatch, requires, {"torch": "2.9.1"})
    old, absent = doctor_machine.check_packages()
    assert (old.state, old.found) == ("problem", "2.9.1, but >=2.10 is needed")
    assert old.remedy == "pip install 'torch>=2.10'"
    assert (absent.name, absent.found) == ("numpy", "not installed, >=2.0 is needed")


def test_extras(monkeypatch):
    requires = ["torch>=2.10", 'tensorboard>=2.20; extra == "track"', 'ruff; extra == "dev"']
    extras = SimpleNamespace(get_all=lambda name: ["track", "dev"])
    monkeypatch.setattr(doctor_machine.metadata, "metadata", lambda name: extras)
    installed(monkeypatch, requires, {"torch": "2.13.0"})
    finding = only(doctor_machine.check_extras)
    assert (finding.name, finding.state) == ("extra track", "missing")
    assert "pip install 'unienc[track]'" in finding.remedy
    installed(monkeypatch, requires, {"torch": "2.13.0", "tensorboard": "2.21.0"})
    assert only(doctor_machine.check_extras).found == "tensorboard 2.21.0"


@pytest.mark.parametrize(
    ("driver", "built_for", "state", "remedy"),
    [
        (False, None, "ok", ""),
        (True, None, "missing", "built for CUDA"),
        (True, "13.0", "missing", "update the driver to one for CUDA 13.0"),
    ],
)
def test_cuda_that_is_not_used(monkeypatch, tmp_path, driver, built_for, state, remedy):
    if driver:
        (tmp_path / "version").touch()
    monkeypatch.setattr(doctor_machine, "_DRIVER", tmp_path / "version")
    finding = doctor_machine._no_cuda(built_for)
    assert finding.state == state
    assert remedy in finding.remedy


def test_memory(monkeypatch):
    for figures, state in ((None, "missing"), ((8 << 30, 1 << 20), "problem")):
        monkeypatch.setattr(doctor_machine, "memory", lambda figures=figures: figures)
        assert only(doctor_machine.check_memory).state == state


def test_more_threads_than_cores(monkeypatch):
    import torch

    monkeypatch.setattr(doctor_machine, "available_cores", lambda: torch.get_num_threads())
    assert only(doctor_machine.check_processor).state == "ok"
    monkeypatch.setattr(doctor_machine, "available_cores", lambda: torch.get_num_threads() - 0.5)
    assert "--threads" in only(doctor_machine.check_processor).remedy


def test_a_full_disk(monkeypatch):
    usage = SimpleNamespace(free=5 << 20, total=1 << 40)
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda folder: usage)
    assert [finding.state for finding in doctor_machine.check_disks()] == ["problem", "problem"]


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor_machine.sysconfig, "get_path", lambda name: str(tmp_path))
    for compiler, found in ((None, "none found"), ("/bin/c++", f"/bin/c++, but no {tmp_path}")):
        monkeypatch.setattr(doctor_machine.shutil, "which", lambda name, c=compiler: c)
        finding = only(doctor_machine.check_compiler)
        assert finding.state == "missing"
        assert finding.found.startswith(found)
    (tmp_path / "Python.h").touch()
    assert only(doctor_machine.check_compiler).state == "ok"


def test_places(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("a file")
    monkeypatch.setenv("UNIENC_CHECKPOINT", str(tmp_path / "nowhere"))
    runs, checkpoint = doctor_machine.check_places()
    assert (runs.state, checkpoint.state) == ("problem", "problem")
    assert "nowhere: no such checkpoint" in checkpoint.found


def test_a_video_encoder_that_is_not_there(monkeypatch):
    monkeypatch.setattr("av.codecs_available", {"mpeg4"})
    finding = only(doctor_trials.try_video)
    assert finding.state == "problem"
    assert "without the encoder libx264" in finding.found


def test_frames_that_come_back_changed(monkeypatch):
    first, second = doctor_trials._pictures(), [255 - p for p in doctor_trials._pictures()]
    pictures = iter([first])
    monkeypatch.setattr(doctor_trials, "_pictures", lambda: next(pictures))
    monkeypatch.setattr(
        "unienc_core.inference.video.VideoReader.__iter__",
        lambda reader: iter([SimpleNamespace(image=image) for image in second]),
    )
    assert only(doctor_trials.try_video).state == "problem"


def test_gradients_that_are_not_finite(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, float("nan")))
    assert only(doctor_trials.try_network).state == "problem"


def test_files_that_cannot_be_locked(monkeypatch):
    def refuse(*_):
        raise OSError("unable to lock file, errno = 37")

    monkeypatch.setattr("h5py.File", refuse)
    finding = doctor_trials._file_locks()
    assert finding.state == "problem"
    assert "HDF5_USE_FILE_LOCKING=FALSE" in finding.remedy


def test_what_the_system_says(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "processor : 0\nmodel name : Some CPU\nflags : fpu avx512_bf16\n\nmodel name : Some CPU\n"
    )
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 500 kB\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(machine, "_CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_QUOTA", tmp_path / "cpu.max")
    assert machine.cpu_name() == "Some CPU"
    assert machine.cpu_flags() == {"fpu", "avx512_bf16"}
    assert machine.memory() == (1024_000, 512_000)
    assert machine.available_cores() == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.available_cores() >= 1
    (tmp_path / "meminfo").unlink()
    assert machine.memory() is None
