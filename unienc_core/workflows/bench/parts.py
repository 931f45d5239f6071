"""One part of a network or training step by itself: the inputs it really had, run again alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments of one call."""


@contextmanager
def recorded(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Call]]]:
    """While entered, note the arguments of every call of these modules."""
    calls: dict[str, list[Call]] = {}

    def note(name: str, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls.setdefault(name, []).append((args, named))

    with ExitStack() as stack:
        for name, module in modules.items():
            hook = module.register_forward_pre_hook(partial(note, name), with_kwargs=True)
            stack.callback(hook.remove)
        yield calls


@dataclass
class Part:
    """A function with the arguments of its calls.

    Attributes:
        name: What it is called in reports.
        function: What runs.
        calls: Arguments of each of its calls in one frame or step.
        parameters: Weights it holds.
        bf16: Whether it runs in bf16 (automatic mixed precision).
    """

    name: str
    function: Callable[..., Any]
    calls: Sequence[Call]
    parameters: Sequence[Tensor] = ()
    bf16: bool = False
    _seeds: list[Tensor] = field(default_factory=list, repr=False)

    @property
    def num_parameters(self) -> int:
        """How many weights it holds."""
        return sum(p.numel() for p in self.parameters)

    def forward(self) -> list[Any]:
        """Run it as often as one frame or step does."""
        with self._precision():
            return [self.function(*args, **named) for args, named in self.calls]

    def _precision(self) -> AbstractContextManager[object]:
        if not self.bf16:
            return nullcontext()
        return torch.autocast(_device_type(self.calls), dtype=torch.bfloat16)

    def step(self) -> None:
        """Run it and its backward pass, down to its weights and inputs that need gradients."""
        for leaf in (*self.parameters, *_tensors(self.calls)):
            leaf.grad = None
        given = {id(tensor) for tensor in _tensors(self.calls)}
        made = {id(t): t for t in _tensors(self.forward()) if t.requires_grad}
        ends = [tensor for key, tensor in made.items() if key not in given]
        if not ends:
            return
        if [t.shape for t in self._seeds] != [t.shape for t in ends]:
            self._seeds = [torch.ones_like(t) for t in ends]
        torch.autograd.backward(ends, self._seeds)


def detached(value: Any) -> Any:
    """Return nested `value` with every tensor cut out of its graph, gradients wanted as before."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_(value.requires_grad)
    if isinstance(value, Mapping):
        return {key: detached(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(detached(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        if any(True for _ in _tensors(list(held.values()))):
            return dataclasses.replace(value, **{name: detached(x) for name, x in held.items()})
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for held in dataclasses.fields(value):
            yield from _tensors(getattr(value, held.name))


def _device_type(calls: Sequence[Call]) -> str:
    return next((tensor.device.type for tensor in _tensors(calls)), "cpu")
