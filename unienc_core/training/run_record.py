"""What a run folder is made of: the names of its files, and the record of what the run is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unienc_core.errors import DataError
from unienc_core.presets import Preset
from unienc_core.training.history import plain

RUN, PRESET, COMMAND, ENVIRONMENT = "run.json", "preset.yaml", "command.txt", "environment.json"
METRICS, CURVES, CHECKPOINTS = "metrics.jsonl", "curves.png", "checkpoints"
TENSORBOARD = "tensorboard"
BEST, VALIDATION = "best", "validation.jsonl"

_RECORD = {
    "name": str,
    "preset": dict,
    "seed": int,
    "data": list,
    "weights": str | None,
    "started_at": int | float,
    "finished_at": int | float | None,
    "report": dict | None,
}


@dataclass(frozen=True)
class RunIdentity:
    """What makes a run the same run: repeat these and it resumes.

    Attributes:
        preset: Resolved preset.
        seed: Seed of everything.
        data: SHA-256 of each store's manifest, in order.
        weights: SHA-256 of the file of initial weights, if one was given.
        init: SHA-256 of the weights of the checkpoint that it started from, if one was given.
        first_stage: The stage that these weights enter, if not the first.
        teacher: SHA-256 of the weights of the teacher, if there is one.
        holdout: SHA-256 of what is trained on and what weights are chosen by, if that is not all.
    """

    preset: Preset
    seed: int
    data: tuple[str, ...]
    weights: str | None = None
    init: str | None = None
    first_stage: str | None = None
    teacher: str | None = None
    holdout: str | None = None

    def record(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "preset": self.preset.model_dump(mode="json"),
            "seed": self.seed,
            "data": list(self.data),
            "weights": self.weights,
            "init": self.init,
            "first_stage": self.first_stage,
            "teacher": self.teacher,
            "holdout": self.holdout,
        }


def read_record(path: Path) -> dict[str, Any]:
    """Return what the ``run.json`` of a run folder says.

    Raises:
        DataError: If there is none, or it is not the record of a run.
    """
    try:
        record = plain(json.loads((path / RUN).read_text(encoding="utf-8")))
        for key, kind in _RECORD.items():
            if not isinstance(record[key], kind):
                raise TypeError(f"'{key}' is {json.dumps(record[key])[:40]}")
        stages = record["preset"]["stages"]
        if not all(isinstance(s["name"], str) and isinstance(s["steps"], int) for s in stages):
            raise TypeError("a stage without a name or steps")
        float(record["preset"]["optimizer"]["lr"])
    except FileNotFoundError:
        raise DataError(f"{path}: not a run folder (no {RUN})") from None
    except KeyError as error:
        raise DataError(f"{path / RUN}: not the record of a run (no {error})") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path / RUN}: not the record of a run ({error})") from None
    return record
