"""AdamW over named parameter groups, its state as plain tensors, and a clipped step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import AdamW

from unienc_core.errors import CheckpointError
from unienc_core.presets import OptimizerSpec, Preset, StageSpec
from unienc_core.training.module import TrainModule

_NEVER_DECAYED = ("relative_position_bias", "pos_embed", "position_embedding", "cls_token")


@dataclass(frozen=True)
class Group:
    """Parameters that share a rate and a weight decay."""

    label: str
    names: tuple[str, ...]
    lr: float
    weight_decay: float


def parameter_groups(
    network: nn.Module,
    objective: nn.Module,
    spec: OptimizerSpec,
    lr: float,
    lr_factors: Mapping[str, float | None] | None = None,
) -> list[Group]:
    """Sort everything that moves into groups.

    Parameters of pretrained encoders learn at `lr` times `backbone_lr_factor` unless a factor is
    given; norms, biases, embeddings, relative position biases and what the objective learns are not
    decayed.

    Args:
        network: The network, frozen as its stage wants it.
        objective: The objective; its parameters always move.
        spec: Optimiser of the preset.
        lr: Rate of the stage.
        lr_factors: Encoder to its share of the rate, None for the default.
    """
    undecayed = _undecayed(network)
    factors = dict.fromkeys(pretrained_encoders(network), spec.backbone_lr_factor)
    factors |= {name: f for name, f in (lr_factors or {}).items() if f is not None}
    places = {f"encoders.{name}.": name for name in factors}
    members: dict[tuple[str, bool], list[str]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            place = next((p for p in places if name.startswith(p)), "network")
            members.setdefault((place, name not in undecayed), []).append(f"network.{name}")
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            members.setdefault(("objective", False), []).append(f"objective.{name}")
    return [
        Group(
            label=place.rstrip(".") + ("" if decayed else " (no decay)"),
            names=tuple(names),
            lr=lr * factors[places[place]] if place in places else lr,
            weight_decay=spec.weight_decay if decayed else 0.0,
        )
        for (place, decayed), names in members.items()
    ]


def pretrained_encoders(network: nn.Module) -> list[str]:
    """Return the names of the encoders whose weights came from pretraining."""
    encoders = getattr(network, "encoders", None)
    if not isinstance(encoders, nn.ModuleDict):
        return []
    return [name for name, encoder in encoders.items() if getattr(encoder, "pretrained", False)]


def build_optimizer(module: nn.Module, groups: Iterable[Group]) -> AdamW:
    """Return AdamW over `groups`, whose names are parameters of `module`.

    Every group keeps its full rate under ``base_lr``; the trainer writes ``lr`` at each step.
    """
    parameters = dict(module.named_parameters())
    return AdamW(
        [
            {
                "params": [parameters[name] for name in group.names],
                "names": group.names,
                "label": group.label,
                "lr": group.lr,
                "base_lr": group.lr,
                "weight_decay": group.weight_decay,
            }
            for group in groups
        ],
        fused=True,
    )


def stage_groups(module: TrainModule, preset: Preset, stage: StageSpec) -> list[Group]:
    """Return what moves in a stage, to which `apply_stage` has been done, at its rates."""
    spec = preset.optimizer
    return parameter_groups(
        module.network,
        module.objective,
        spec,
        stage.lr or spec.lr,
        preset.network.lr_factors,
    )


def stage_optimizer(module: TrainModule, preset: Preset, stage: StageSpec) -> AdamW:
    """Return the optimiser of a stage, to which `apply_stage` has been done."""
    return build_optimizer(module, stage_groups(module, preset, stage))


def optimizer_tensors(optimizer: AdamW) -> dict[str, Tensor]:
    """Return the optimiser's state as ``<parameter>/<quantity>`` tensors."""
    return {
        f"{name}/{quantity}": tensor
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for quantity, tensor in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(optimizer: AdamW, tensors: Mapping[str, Tensor], where: str) -> None:
    """Restore what `optimizer_tensors` returned.

    Raises:
        CheckpointError: If a tensor belongs to no parameter that moves, or is of another shape.
    """
    names = [name for group in optimizer.param_groups for name in group["names"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    index = {name: i for i, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, quantity = key.rpartition("/")
        shape = parameters[index[name]].shape if name in index else None
        if shape is None or (tensor.dim() > 0 and tensor.shape != shape):
            raise CheckpointError(
                f"{where}: optimiser state {key} is {list(tensor.shape)}, the stage moves "
                f"{'no such parameter' if shape is None else list(shape)}"
            )
        # Cloned: a tensor read from a file is a window into it, aligned as it happens to lie.
        state.setdefault(index[name], {})[quantity] = tensor.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _undecayed(network: nn.Module) -> set[str]:
    """Names of norms, biases (anything of one axis), embeddings and position tables."""
    names = {
        name
        for name, parameter in network.named_parameters()
        if parameter.dim() <= 1 or any(part in name for part in _NEVER_DECAYED)
    }
    for prefix, module in network.named_modules():
        if isinstance(module, nn.Embedding):
            names.add(f"{prefix}.weight" if prefix else "weight")
    return names
