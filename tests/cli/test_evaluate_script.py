"""The example pipeline stops a build where depth got worse, and only there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unienc_cli.main import run

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "evaluate.sh"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny `city` and a tiny `run`."""
    folder = tmp_path_factory.mktemp("pipeline")
    sizes = ["--train", "1x4", "--val", "1x3", "--test", "1x3", "--size", "64x96"]
    assert run(["prepare-data", "synth-city", "--out", str(folder / "city"), *sizes]) == 0
    sets = ["--set", "stages.0.steps=2", "--set", "image_size=[64, 96]", "--workers", "0"]
    train = ["train-student", str(folder / "city"), "--out", str(folder / "run"), *sets]
    assert run([*train, "--device", "cpu"]) == 0
    return folder


@pytest.mark.parametrize(
    ("store", "limit", "code", "message"),
    [
        ("city", "1000", 0, "ok: abs_rel is at most 1000"),
        ("city", "1e-9", 7, "regression: abs_rel is over 1e-9"),
        ("nowhere", "1000", 3, "nowhere"),
    ],
)
def test_exit_code_and_words(
    trained: Path, store: str, limit: str, code: int, message: str
) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [SCRIPT, trained / store, trained / "run", limit],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert message in done.stdout + done.stderr
    assert ("abs_rel  " in done.stdout) == (code in (0, 7))
