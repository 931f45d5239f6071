"""A network, objective and data so small that a training step takes a millisecond."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from unienc_core.checkpoint import list_checkpoints
from unienc_core.presets import Preset, preset_from_dict
from unienc_core.training.distributed import World, shared_run_folder
from unienc_core.training.module import TrainModule
from unienc_core.training.run_dir import RunIdentity
from unienc_core.training.trainer import Trainer, resume_point

ENVIRONMENT = {"torch": "t", "device": "cpu", "cpu": "c", "threads": 1}


def toy_preset(*stages, **optimizer) -> Preset:
    """A preset with the given stages (dicts without terms) and optimiser settings."""
    stages = stages or ({"name": "only", "steps": 12},)
    return preset_from_dict(
        {
            "name": "toy",
            "image_size": [32, 32],
            "network": {
                "encoders": {"main": {"type": "toy"}},
                "heads": {"out": {"type": "toy", "reads": ["main"]}},
            },
            "streams": {"toy": {"kind": "labels", "batch_size": 2}},
            "terms": {"fit": {}},
            "optimizer": {"lr": 1e-2, **optimizer},
            "stages": [{"terms": ["fit"], **stage} for stage in stages],
        }
    )


class OneOutput(nn.Module):
    """Base of toy networks that make one key of each stream."""

    produces = ("out",)

    def possible(self, streams):
        return {name: list(self.produces) for name in streams}


class ToyNetwork(OneOutput):
    """One convolution, batch norm and dropout as encoder; one linear head."""

    def __init__(self, width: int = 4):
        super().__init__()
        encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.2)
        )
        self.encoders = nn.ModuleDict({"main": encoder})
        self.heads = nn.ModuleDict({"out": nn.Linear(width, 1)})

    def forward(self, streams, outputs):
        return {
            name: {"out": self.heads["out"](self.encoders["main"](batch["image"]).mean((2, 3)))}
            for name, batch in streams.items()
        }


class ToyObjective(nn.Module):
    """Squared error with a learned offset."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))

    def requires(self, terms):
        return {"out"}

    def reads(self, terms, offered, warp):
        return {stream: {"out"} for stream in offered}

    def forward(self, values_by_stream, terms, context, warp):
        values = values_by_stream["toy"]
        loss = (values["out"] + self.offset - values["label"]).square().mean()
        return loss, {"loss/fit": loss.detach()}


def toy_draws(start: int) -> Iterator[dict]:
    """Draws that depend on their number alone."""
    draw = start
    while True:
        generator = torch.Generator().manual_seed(draw)
        image = torch.rand(2, 3, 6, 6, generator=generator)
        label = image.mean((1, 2, 3))[:, None]
        yield {"toy": {"image": image, "label": label}}
        draw += 1


def toy_module(preset: Preset, width: int = 4) -> TrainModule:
    """A freshly initialised module, always the same."""
    torch.manual_seed(0)
    return TrainModule(ToyNetwork(width), ToyObjective(), preset)  # type: ignore[arg-type]


def toy_run(path: Path, preset: Preset | None = None, *, fresh=False, reporter=None, **options):
    """Train the toy in a run folder, resuming what lies there; return the trainer.

    Of several processes (`world`) each calls this.
    """
    preset = preset or toy_preset()
    draws = options.pop("draws", toy_draws)
    module = options.pop("module", None) or toy_module(preset, options.pop("width", 4))
    world = options.setdefault("world", World())
    say = reporter.say if reporter else lambda line: None
    identity = RunIdentity(preset, seed=0, data=())
    opened = shared_run_folder(
        world, path, identity, command="toy", environment=ENVIRONMENT, fresh=fresh, say=say
    )
    with opened as folder:
        trainer = Trainer(
            module,
            preset,
            draws,
            folder,
            seed=0,
            resume=resume_point(folder, say, world),
            reporter=reporter,
            **options,
        )
        trainer.run()
    return trainer


class Stop(Exception):  # noqa: N818
    """Stands for a kill: nothing is saved after it."""


def dying_draws(at):
    def draws(start):
        for number, draw in enumerate(toy_draws(start), start):
            if number == at:
                raise Stop
            yield draw

    return draws


def final_bytes(run):
    last = list_checkpoints(run / "checkpoints")[-1]
    return [(last / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]
