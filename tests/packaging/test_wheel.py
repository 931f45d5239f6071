"""The built wheel holds everything: it runs outside the source tree, presets and all."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"  # building in place would leave build/ behind in the checkout
    subprocess.run(["git", "-C", ROOT, "checkout-index", "-a", f"--prefix={source}/"], check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_every_package_and_preset_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "unienc_cli", "unienc_core", "presets"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert listed
    expected = {path.replace("presets/", "unienc_presets/", 1) if path.startswith("presets/")
                else path for path in listed}  # fmt: skip
    assert expected <= inside
    assert not any(name.startswith("tests") for name in inside)


def test_the_wheel_runs_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    subprocess.run([*install, wheel], check=True, capture_output=True)
    # Dependencies come from this environment; its editable install is not followed from a path.
    env = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}

    def unienc(*arguments: str) -> str:
        done = subprocess.run(
            [home / "bin" / "unienc", *arguments],
            cwd=tmp_path, env=env, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [python, "-c", "import unienc_core; print(unienc_core.__file__)"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert str(home) in where
    names = [p["name"] for p in json.loads(unienc("presets", "ls", "--json"))["presets"]]
    assert "unified-tiny" in names
    assert json.loads(unienc("presets", "check", "unified-tiny", "--json"))["parameters"]
