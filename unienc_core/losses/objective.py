"""The objective: every active term, on every stream that offers what it reads, as one loss."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unienc_core import registry
from unienc_core.contracts import StepContext, Term, check_shape
from unienc_core.errors import PresetError, ShapeError, WiringError, nearest
from unienc_core.losses.balancing import build_balancing
from unienc_core.presets import Preset
from unienc_core.specs import Warp
from unienc_core.view_synthesis import made_from

StreamValues = Mapping[str, Mapping[str, Any]]
"""Stream name to its batch, predictions, synthesised views and ``teacher/<key>``, merged."""

Recipes = Mapping[str, tuple[str, ...]]
"""Synthesised key to what it is made from; see `made_from`."""


class Objective(nn.Module):
    """The loss terms of a preset; what they and the balancing learn are its parameters.

    Args:
        preset: Its `terms` and `balancing` are read.

    Attributes:
        keeps_tasks: Whether `by_task` is wanted.
        by_task: What the terms of each task add to the last loss, with their graph.

    Raises:
        PresetError: If a term is unknown, an option does not fit it, or its name cannot be used.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.specs = preset.terms
        self.terms = nn.ModuleDict()
        for name, spec in preset.terms.items():
            where = f"terms.{name}"
            # A module's children share a namespace with its methods, and dots separate levels.
            if not name or "." in name or hasattr(self.terms, name):
                raise PresetError(f"{where}: '{name}' cannot name a term; choose another")
            kind = spec.type or name
            self.terms[name] = registry.build("term", kind, options=spec.options, where=where)
        self.balancing = build_balancing(preset.balancing, list(preset.terms))
        self.keeps_tasks = False
        self.by_task: dict[str, Tensor] = {}

    def requires(self, stage_terms: Sequence[str]) -> set[str]:
        """Return all keys that these terms read, synthesised ones as such."""
        return {key for name in stage_terms for key in self._term(name).requires}

    def reads(
        self,
        stage_terms: Sequence[str],
        offered: Mapping[str, Collection[str]],
        warp: Warp = "ego",
    ) -> dict[str, set[str]]:
        """Return the batch and prediction keys that these terms read of each stream.

        Args:
            stage_terms: Names of the terms.
            offered: See `streams_of`. Of synthesised keys, what they are made from is returned.
            warp: How views are warped, which decides what they are made from.

        Raises:
            WiringError: See `streams_of`.
        """
        read: dict[str, set[str]] = {stream: set() for stream in offered}
        recipes = made_from(warp)
        for name in stage_terms:
            keys = self._term(name).requires
            sources = {source for key in keys for source in recipes.get(key, (key,))}
            for stream in self.streams_of(name, offered, warp):
                read[stream] |= sources
        return read

    def streams_of(
        self, name: str, offered: Mapping[str, Collection[str]], warp: Warp = "ego"
    ) -> list[str]:
        """Return the streams that a term runs on: its own list, or all that offer what it reads.

        Args:
            name: The term.
            offered: Stream name to its keys; synthesised keys need not be listed.
            warp: How views are warped, which decides what they are made from.

        Raises:
            WiringError: If a listed stream lacks a key, or no stream offers all of them.
        """
        required = self._term(name).requires
        listed = self.specs[name].streams
        asked = tuple(offered) if listed is None else listed
        recipes = made_from(warp)
        lacks = {
            stream: _missing(required, offered[stream], recipes)
            for stream in asked
            if stream in offered
        }
        for stream, missing in lacks.items():
            if listed is not None and missing:
                raise WiringError(
                    f"terms.{name}.streams: '{stream}' lacks {', '.join(missing)}, which the term "
                    "reads; take it off the list, or add a head or a label"
                )
        found = [stream for stream, missing in lacks.items() if not missing]
        if not found:
            gaps = "; ".join(f"'{s}' lacks {', '.join(missing)}" for s, missing in lacks.items())
            raise WiringError(
                f"terms.{name} reads {', '.join(required)}, which no stream offers: "
                f"{gaps or 'there is no stream'}; add a head or a label, or switch the term off"
            )
        return found

    def forward(
        self,
        values_by_stream: StreamValues,
        stage_terms: Sequence[str],
        context: StepContext,
        warp: Warp = "ego",
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the active terms and combine them.

        A term that returns one loss per sample is averaged over the valid samples of all its
        streams together; one that returns a scalar is averaged over its streams. A sample is valid
        if all that the term reads is (``valid_<key>``).

        Args:
            values_by_stream: What each stream has to offer.
            stage_terms: Names of the active terms.
            context: Step, ramp and seed.
            warp: How the views among the values were warped.

        Returns:
            The scalar to minimise, and detached scalars for the log: ``loss/<term>`` without
            weight, ``loss/total``, and ``<term>/<name>`` for what a term reports of itself. Of
            several processes, the average over them counts.

        Raises:
            WiringError: If a term finds no stream.
        """
        logs: dict[str, Tensor] = {}
        with torch.autocast(_device_type(values_by_stream), enabled=False):
            losses = self._losses(values_by_stream, stage_terms, context, warp)
            weighted = {n: self._weight(n, context) * x for n, x in losses.items()}
            total = self.balancing(weighted)
            self.by_task = self._tasks(weighted) if self.keeps_tasks else {}
        for name, loss in losses.items():
            logs[f"loss/{name}"] = loss.detach()
            notes = self._term(name).logs
            logs |= {f"{name}/{key}": note.detach() for key, note in notes.items()}
        logs["loss/total"] = total.detach()
        return total, logs

    def _tasks(self, weighted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tasks: dict[str, dict[str, Tensor]] = {}
        for name, loss in weighted.items():
            tasks.setdefault(self._term(name).task or name, {})[name] = loss
        return {task: self.balancing(losses) for task, losses in tasks.items()}

    def _losses(
        self,
        values_by_stream: StreamValues,
        names: Sequence[str],
        context: StepContext,
        warp: Warp,
    ) -> dict[str, Tensor]:
        """Return the loss of each term.

        Of several processes each has its own sum over the count of all, times their number: the
        average over the processes, which training takes, is the mean over all valid samples.
        """
        losses: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        for name in names:
            losses[name], count = self._run(name, values_by_stream, context, warp)
            if count is not None:
                counts[name] = count
        if counts:
            # Without any valid sample the loss is a zero that still belongs to the graph.
            pooled = context.sum_over_processes(torch.stack(list(counts.values()))).clamp(min=1)
            for name, count in zip(counts, pooled.unbind(), strict=True):
                losses[name] = losses[name] * context.processes / count
        return losses

    def _run(
        self, name: str, values_by_stream: StreamValues, context: StepContext, warp: Warp
    ) -> tuple[Tensor, Tensor | None]:
        """Return a term's sum over its valid samples and their count; or its scalar and None."""
        term = self._term(name)
        summed, counts, scalars = [], [], []
        recipes = made_from(warp)
        for stream in self.streams_of(name, values_by_stream, warp):
            values = values_by_stream[stream]
            loss = term(values, context)
            if loss.dim() == 0:
                scalars.append(loss)
                continue
            if loss.dim() != 1:
                raise ShapeError(
                    f"terms.{name} returned a loss of shape {tuple(loss.shape)}, expected one per "
                    f"sample, or a scalar"
                )
            valid = _valid_samples(term.requires, values, loss, recipes)
            summed.append(torch.where(valid, loss, 0.0).sum())
            counts.append(valid.sum())
        if scalars:
            return torch.stack(scalars).mean(), None
        return torch.stack(summed).sum(), torch.stack(counts).sum()

    def _weight(self, name: str, context: StepContext) -> float:
        spec = self.specs[name]
        return spec.weight * (context.ramp if spec.ramp else 1.0)

    def _term(self, name: str) -> Term:
        if name not in self.terms:
            raise WiringError(f"no term '{name}' in the preset{nearest(name, list(self.terms))}")
        term = self.terms[name]
        assert isinstance(term, Term)
        return term


def _missing(required: Sequence[str], offered: Collection[str], recipes: Recipes) -> list[str]:
    """Return the batch and prediction keys that keep a stream from offering `required`."""
    missing: list[str] = []
    for key in required:
        if key not in offered:
            gaps = [source for source in recipes.get(key, (key,)) if source not in offered]
            missing += [gap for gap in gaps if gap not in missing]
    return missing


def _valid_samples(
    required: Sequence[str], values: Mapping[str, Any], loss: Tensor, recipes: Recipes
) -> Tensor:
    """Return `B`, bool: the samples that have everything that was read."""
    valid = torch.ones_like(loss, dtype=torch.bool)
    read = {source for key in required for source in (key, *recipes.get(key, ()))}
    for key in read:
        mask = values.get(f"valid_{key}")
        if mask is not None:
            check_shape(mask, "B", f"valid_{key}", B=loss.shape[0])
            valid = valid & mask.to(valid)
    return valid


def _device_type(values_by_stream: StreamValues) -> str:
    for values in values_by_stream.values():
        for value in values.values():
            if isinstance(value, Tensor):
                return value.device.type
    return "cpu"
