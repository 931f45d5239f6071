"""What every verb promises: quick help, one-line errors, exit codes, JSON on stdout alone."""

import json
import subprocess
import sys

import pytest

from unienc_cli.main import app, run
from unienc_core import errors

HEAVY = {"torch", "cv2", "timm", "h5py", "numpy", "av", "scipy", "yaml", "tensorboard"}


def all_commands() -> list[list[str]]:
    found = [[str(command.name)] for command in app.registered_commands]
    for group in app.registered_groups:
        found.append([str(group.name)])
        for command in group.typer_instance.registered_commands:
            found.append([str(group.name), str(command.name)])
    return found


@pytest.mark.parametrize("command", [[], *all_commands()], ids=" ".join)
def test_help_answers_and_loads_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys; from unienc_cli.main import run; "
        f"code = run({[*command, '--help']!r}); "
        f"heavy = sorted({HEAVY!r} & set(sys.modules)); "
        "print(heavy, file=sys.stderr); sys.exit(code or bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: unienc" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["frobnicate"], 2, "No such command 'frobnicate'"),
        (["eval-depth", "--bogus"], 2, "--bogus"),
        (["train-student", "--seed", "many"], 2, "valid integer"),
        (["train-student", "--seed", "-1"], 2, "--seed"),
        (["presets", "show", "unifed-tiny"], 2, "did you mean 'unified-tiny'"),
        (["presets", "show", "unified-tiny", "--set", "stages.0.stepz=1"], 2, "'steps'"),
        (["presets", "show", "unified-tiny", "--set", "stages.0.steps=lots"], 2, "valid integer"),
        (["presets", "show", "nowhere/x.yaml"], 2, "cannot read preset"),
        (["prepare-data", "synth-city", "--size", "96"], 2, "like 96x320"),
        (["prepare-data", "synth-city", "--train", "0x5"], 2, "--train"),
        (["data", "show", "nowhere"], 3, "nowhere"),
        (["infer-video", "nowhere.mp4"], 3, "nowhere.mp4"),
        (["eval-depth", "nowhere"], 3, "nowhere"),
        (["train-student", "nowhere"], 3, "nowhere"),
        (["train-student", "nowhere", "--track", "tensorbord"], 2, "did you mean 'tensorboard'"),
        (["train-student", "nowhere", "--preset", "teacher-tiny"], 2, "use 'unienc train-teacher'"),
        (["train-teacher", "nowhere"], 3, "nowhere"),
        (["distill", "nowhere"], 2, "--teacher"),
        (["distill", "nowhere", "--teacher", "gone"], 3, "gone: no such checkpoint"),
        (["finetune-steering"], 2, "stores"),
        (["finetune-steering", "nowhere"], 3, "nowhere: no such folder"),
        (["finetune-steering", "nowhere", "--init", "gone"], 3, "gone: no such checkpoint"),
        (["finetune-steering", "nowhere", "--preset", "unified-tiny"], 2, "train-student"),
        (["finetune-steering", "nowhere", "--by", "frames"], 2, "recordings or blocks"),
        (["finetune-steering", "nowhere", "--folds", "1"], 2, "--folds"),
        (["eval-steering", "nowhere"], 3, "nowhere: no such folder"),
        (["eval-steering", "nowhere", "--fail-over", "mse=1"], 2, "no metric 'mse'"),
        (["eval-steering", "nowhere", "--label", "curvature"], 2, "--predictions"),
        (["runs", "ls", "nowhere"], 3, "nowhere"),
        (["runs", "show", "nowhere"], 3, "nowhere"),
    ],
)
def test_errors_are_one_line_with_the_right_code(
    arguments: list[str], code: int, message: str, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "verb", "message"),
    [
        (["presets", "show", "nope"], "presets show", "no preset 'nope'"),
        (["prepare-data", "synth-city", "--size", "96"], "prepare-data synth-city", "96x320"),
        (["eval-depth", "presets", "--scale", "x"], "eval-depth", "'x'"),
        (["presets", "frobnicate"], "presets", "frobnicate"),
        (["frobnicate"], None, "frobnicate"),
    ],
)
def test_an_error_under_json_is_a_document(
    arguments: list[str], verb: str | None, message: str, capsys
) -> None:
    assert run([*arguments, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 2
    assert document["verb"] == verb
    assert message in document["error"]


def test_json_documents_stand_alone_on_stdout(capsys) -> None:
    assert run(["presets", "ls", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"schema": 1, "verb": "presets ls"}.items() <= document.items()
    assert run(["presets", "show", "unified-tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["preset"]["name"] == "unified-tiny"


def test_every_verb_that_only_shows_takes_quiet_and_cp_takes_json(tmp_path, capsys) -> None:
    assert run(["presets", "ls", "--quiet"]) == 0
    assert run(["presets", "show", "unified-tiny", "-q"]) == 0
    assert run(["runs", "ls", str(tmp_path), "-q"]) == 0
    capsys.readouterr()
    assert run(["presets", "cp", "unified-tiny", str(tmp_path / "a.yaml"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == str(tmp_path / "a.yaml")
    assert run(["presets", "cp", "unified-tiny", str(tmp_path / "b.yaml"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_presets_cp_never_overwrites(tmp_path, capsys) -> None:
    target = tmp_path / "mine.yaml"
    assert run(["presets", "cp", "unified-tiny", str(target)]) == 0
    text = target.read_text()
    target.write_text(text.replace("name: unified-tiny", "name: mine"))
    assert run(["presets", "cp", "unified-tiny", str(target)]) == 2
    assert "name: mine" in target.read_text()
    assert run(["presets", "show", str(target)]) == 0
    assert "name: mine" in capsys.readouterr().out
    assert run(["presets", "cp", "unified-tiny", str(target), "--force"]) == 0
    assert target.read_text() == text


@pytest.mark.parametrize(
    "arguments",
    [
        ["train-student", "NAME"],
        ["eval-depth", "NAME"],
        ["eval-seg", "NAME"],
        ["eval-motion", "NAME"],
        ["import-weights", "NAME", "--out", "imported"],
        ["data", "show", "NAME"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_name_too_long_is_bad_input(arguments, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    name = "n" * 300
    assert run([name if argument == "NAME" else argument for argument in arguments]) == 3
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert name in told
    assert "too long" in told
    assert not list(tmp_path.iterdir())


def test_unexpected_faults_are_one_line_and_debug_shows_them(monkeypatch, capsys) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("seven by nought")

    monkeypatch.setattr("unienc_core.presets.preset_names", broken)
    assert run(["presets", "ls"]) == 1
    assert "internal error: ZeroDivisionError: seven by nought" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        run(["presets", "ls", "--debug"])


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (KeyboardInterrupt(), 130),
        (MemoryError(), 5),
        (OSError(28, "No space left on device", "f"), 5),
        (PermissionError(13, "Permission denied", "f"), 5),
        (FileNotFoundError(2, "No such file or directory", "f"), 3),
        (errors.UsageError("x"), 2),
        (errors.StoreError("x"), 3),
        (errors.PartialError("x"), 4),
        (errors.ResourceError("x"), 5),
        (errors.CheckpointError("x"), 6),
        (errors.ThresholdError("x"), 7),
        (errors.Interrupted("x"), 130),
    ],
)
def test_each_fault_has_its_exit_code(fault: BaseException, code: int, monkeypatch, capsys) -> None:
    def broken(*_: object) -> None:
        raise fault

    monkeypatch.setattr("unienc_core.presets.preset_names", broken)
    assert run(["presets", "ls"]) == code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
