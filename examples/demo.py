"""The whole way once, small: render a city, train, evaluate, annotate an unseen drive.

Every step is a `unienc` command, printed before it runs; a repeated demo resumes or skips what is
done.  Usage: python examples/demo.py [FOLDER]
"""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path


def unienc(*arguments: object, capture: bool = False) -> str:
    """Run one command of this environment's `unienc` and return its stdout."""
    words = [str(a) for a in arguments]
    print(f"\n$ unienc {shlex.join(words)}", flush=True)
    command = [str(Path(sys.executable).with_name("unienc")), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE if capture else None, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def main(folder: Path) -> None:
    """Run the demo in `folder`."""
    began = time.monotonic()
    city, run, video = folder / "city", folder / "run", folder / "drive_unienc.mp4"
    folder.mkdir(parents=True, exist_ok=True)

    unienc("prepare-data", "synth-city", "--out", city)
    unienc("train-student", city, "--preset", "unified-tiny", "--out", run)
    report = unienc(
        "eval-depth", city, "--checkpoint", run, "--plots", folder / "plots", "--force",
        "--json", capture=True,
    )  # fmt: skip
    (folder / "eval-depth.json").write_text(report)
    if not video.exists():
        unienc("infer-video", city / "test", "--checkpoint", run, "--out", video)

    unienc("eval-depth", city, "--checkpoint", run, "--quiet")
    scores, baselines = json.loads(report)["metrics"], json.loads(report)["baselines"]
    best = min(row["abs_rel"] for row in baselines.values())
    verdict = "beats" if scores["abs_rel"] < best else "does not yet beat"
    print(
        f"\nAfter this short training the model's abs_rel of {scores['abs_rel']:.3f} {verdict} the "
        f"strongest baseline's {best:.3f}; longer training goes further (README, 'How good').\n"
        f"\ntable   {folder / 'eval-depth.json'}"
        f"\nplots   {folder / 'plots'}"
        f"\ncurves  {run / 'curves.png'}"
        f"\nvideo   {video}"
        f"\n\nYour own clip: .venv/bin/unienc infer-video CLIP.mp4 --checkpoint {run}"
        f"\n{time.monotonic() - began:.0f} s in all."
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".demo"))
