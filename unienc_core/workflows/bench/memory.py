"""How much memory a training step takes at its highest point."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from unienc_core.presets import Preset, preset_from_dict
from unienc_core.workflows.bench.network import StepRig
from unienc_core.workflows.bench.setting import Setting


def bench_memory(setting: Setting) -> dict[str, Any]:
    """Track a training step's memory, as the preset has it and with gradient checkpointing.

    Returns:
        ``{preset, checkpointing, ratio, process_peak_bytes}``; for the first two see `step_memory`.
    """
    plain = step_memory(StepRig(setting), setting.device)
    spared = step_memory(StepRig(setting, with_checkpointing(setting.preset)), setting.device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "preset": plain,
        "checkpointing": spared,
        "ratio": round(spared["step_bytes"] / plain["step_bytes"], 4),
        "process_peak_bytes": most * (1 if sys.platform == "darwin" else 1024),
    }


def with_checkpointing(preset: Preset) -> Preset:
    """Return the preset with gradient checkpointing in every node."""
    data = preset.model_dump(mode="json")
    for family in ("encoders", "necks", "heads"):
        for node in data["network"][family].values():
            node |= {"checkpointing": True, "compile": False}
    return preset_from_dict(data, preset.name)


def step_memory(rig: StepRig, device: torch.device) -> dict[str, int]:
    """Track the memory of one step of a rig.

    Returns:
        ``{resident_bytes, step_bytes, peak_bytes}``: what lies there all the time (weights, their
        average and the teacher's too, optimiser state, batch), what the step adds at its highest
        point, and both together.
    """
    rig.step()  # makes the optimiser's state
    rig.optimizer.zero_grad(set_to_none=True)
    weights = [*rig.module.state_dict().values()]
    if rig.teacher is not None:
        weights += rig.teacher.network.state_dict().values()
    if rig.average is not None:
        weights += rig.average.network.state_dict().values()
    held = [*weights, *_held(rig.optimizer.state), *_held(rig.streams)]
    resident = sum(tensor.nbytes for tensor in held)
    step = highest(rig.step, device)
    return {"resident_bytes": resident, "step_bytes": step, "peak_bytes": resident + step}


def highest(run: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that `run` holds at once beyond those that were held before.

    On CUDA the allocator keeps the figure; on the CPU torch's profiler records every allocation.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler talks to stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        record.export_chrome_trace(str(trace))
        events = json.loads(trace.read_bytes())["traceEvents"]
    changes = [(e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]"]
    now = most = 0
    for _, change in sorted(changes, key=lambda at: at[0]):
        now += change
        most = max(most, now)
    return most


def _held(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _held(item)]
    return []
