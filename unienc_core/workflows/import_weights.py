"""Weights that others trained, as a checkpoint of a preset's network."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import torch
from torch import Tensor, nn

from unienc_core.checkpoint import save_checkpoint
from unienc_core.contracts import Reporter
from unienc_core.errors import CheckpointError, DataError, UsageError
from unienc_core.files import check_writable, sha256_file
from unienc_core.models.encoders.foreign_names import encoder_names
from unienc_core.models.heads import Masks
from unienc_core.models.masks.hf_keys import Part, from_hf, hf_names
from unienc_core.models.network import Network, build_network
from unienc_core.presets import load_preset
from unienc_core.tensors import read_tensors

DEFAULT_PRESET: Final = "oneformer-cityscapes"

_PICKLES = (".pth", ".pt", ".bin")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.")
_BACKBONE = "pixel_level_module.encoder."
_NOT_READ = ("criterion.", _BACKBONE)
_MOST_NAMED = 5


def import_weights(
    source: Path,
    out: Path,
    *,
    preset: str = DEFAULT_PRESET,
    overrides: Iterable[str] = (),
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Fill the network of a preset with weights that others trained, and save it.

    Args:
        source: State of a OneFormer of transformers, or of a Swin or ResNet of torchvision or
            timm: safetensors, or what torch saves, which is read without running any code.
        out: Run folder to make; its checkpoint is that of step 0.
        preset: A preset's name, or a YAML file. Its sizes must be those of the weights.
        overrides: ``path.to.key=value`` strings.
        seed: Decides the weights that the source does not hold.
        force: Replace the checkpoint of an earlier import.
        dry_run: Check that all fits, write nothing.
        reporter: Takes remarks.

    Returns:
        ``{checkpoint, preset, source, sha256, imported, random}``: the nodes that hold foreign
        weights, and those that start afresh.

    Raises:
        DataError: If the file is missing or cannot be read.
        CheckpointError: If weights do not fit, naming them.
        UsageError: If the folder holds something already.
    """
    reporter = reporter or Reporter()
    folder = out / "checkpoints"
    if out.exists() and any(out.iterdir()) and not (force and _is_import(folder)):
        raise UsageError(f"{out}: exists; choose another folder, or --force to import anew")
    check_writable(out)
    state = read_foreign(source)
    made = load_preset(preset, list(overrides))
    network = build_network(made, load_pretrained=False, seed=seed)
    where = str(source)
    if any(name.startswith(_BACKBONE) for name in state):
        nodes = _load_oneformer(network, state, where)
    else:
        nodes = [_load_encoder(network, encoder_names(state), where, set(_norms(network)))]
    fresh = [path for path in network.parameter_counts() if path not in nodes]
    reporter.say(f"{source}: weights of {', '.join(nodes)}")
    if fresh:
        reporter.say(f"random weights, to be trained: {', '.join(fresh)}")
    facts = {"source": source.name, "sha256": sha256_file(source)}
    report = {"preset": made.name, **facts, "imported": nodes, "random": fresh}
    if dry_run:
        return {"checkpoint": None, **report, "dry_run": True}
    shutil.rmtree(folder, ignore_errors=True)
    saved = save_checkpoint(
        folder,
        preset=made,
        model=network.state_dict(),
        optimizer={},
        state={"step": 0, "seed": seed, "imported": facts},
    )
    return {"checkpoint": str(saved), **report}


def read_foreign(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a file that another program wrote, running no code of it.

    Raises:
        DataError: If it is missing, damaged, of another kind, or holds something else.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix not in (".safetensors", *_PICKLES):
        raise DataError(f"{path}: expected weights as .safetensors, {', '.join(_PICKLES)}")
    try:
        raw: Any = read_tensors(path) if path.suffix == ".safetensors" else _unpickled(path)
    except CheckpointError as error:
        raise DataError(str(error)) from None
    for wrapper in _WRAPPERS:
        if isinstance(raw, Mapping) and isinstance(raw.get(wrapper), Mapping):
            raw = raw[wrapper]
    if not isinstance(raw, Mapping) or not raw:
        raise DataError(f"{path}: holds no named tensors; expected the state of a network")
    strange = [name for name, value in raw.items() if not _is_plain(value)]
    if strange:
        raise DataError(
            f"{path}: '{strange[0]}' is no plain tensor of numbers; expected the state of a network"
        )
    named = {str(name): value for name, value in raw.items()}
    for prefix in _PREFIXES:
        shorter = {name.removeprefix(prefix): value for name, value in named.items()}
        if len(shorter) < len(named):
            raise DataError(f"{path}: holds weights twice, with and without '{prefix}' in front")
        named = shorter
    return named


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex()


def _unpickled(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a parser of foreign bytes fails in any way it pleases
        raise DataError(
            f"{path}: cannot be read as plain weights: it is damaged, or it would run code; "
            "expected tensors by name, as torch or safetensors saves them"
        ) from None


def _load_oneformer(network: Network, state: Mapping[str, Tensor], where: str) -> list[str]:
    """Fill in an encoder and the head `masks`; return their paths."""
    heads = [n for n in network.wiring.nodes if isinstance(n.module, Masks)]
    if not heads:
        raise CheckpointError(
            f"{where}: a OneFormer, but no head of the preset is of the type masks; choose a "
            f"preset with one, such as {DEFAULT_PRESET}"
        )
    backbone = {n.removeprefix(_BACKBONE): t for n, t in state.items() if n.startswith(_BACKBONE)}
    node = heads[0]
    encoder = _load_encoder(network, encoder_names(backbone), where, set(), node.reads[0])
    used: set[str] = set()
    for part in get_args(Part):
        module: nn.Module = node.module.get_submodule(part)
        names = [name for name, _ in module.named_parameters()]
        used.update(name for ours in names for name in hf_names(part, ours))
        moved = from_hf(part, names, state)
        if part == "text_queries":
            moved["embed.weight"] = _rows(moved["embed.weight"], module)
        _copy(module, moved, f"{where}: {node.path}.{part}")
    _refuse_unknown([n for n in state if n not in used and not n.startswith(_NOT_READ)], where)
    return [encoder, node.path]


def _rows(table: Tensor, texts: nn.Module) -> Tensor:
    """Return the embeddings of our tokens out of those of all; words of one's own keep theirs."""
    tokens = texts.get_buffer("tokens")
    own: Tensor = texts.get_parameter("embed.weight").detach().clone()
    known = tokens < (len(table) if table.dim() else 0)
    if table.dim() == 2 and own.shape[1:] == table.shape[1:]:
        own[known] = table[tokens[known]].to(own)
        return own
    return table  # does not fit, which is for the copy to say


def _load_encoder(
    network: Network,
    state: Mapping[str, Tensor],
    where: str,
    optional: Collection[str],
    name: str | None = None,
) -> str:
    """Fill in an encoder, the only one unless it is named; return its path."""
    name = name or next(iter(network.encoders))
    path = f"encoders.{name}"
    _copy(network.get_submodule(path), state, f"{where}: {path}", optional)
    return path


def _norms(network: Network) -> Iterable[str]:
    """Yield what encoders have and classifiers have not: norms of their levels."""
    for encoder in network.encoders.values():
        yield from (name for name in encoder.state_dict() if name.startswith("norms."))


def _copy(
    module: nn.Module, state: Mapping[str, Tensor], where: str, optional: Collection[str] = ()
) -> None:
    """Copy weights; every parameter that is not optional must be there, and nothing else.

    Raises:
        CheckpointError: Naming what is missing, of another shape, or unknown.
    """
    own = {n: x for n, x in module.state_dict().items() if not n.endswith("num_batches_tracked")}
    missing = [name for name in own if name not in state and name not in optional]
    if missing:
        raise CheckpointError(
            f"{where} lacks {len(missing)} of {len(own)} weights: {_some(missing)}"
        )
    wrong = [
        f"{name} is {list(state[name].shape)}, the network has {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if wrong:
        raise CheckpointError(f"{where} is of other sizes than the preset: {_some(wrong, '; ')}")
    _refuse_unknown([name for name in state if name not in own], where)
    bad = [
        name
        for name, tensor in own.items()
        if name in state and not _is_usable(state[name], like=tensor)
    ]
    if bad:
        raise CheckpointError(f"{where} holds what is not finite, or no fraction: {_some(bad)}")
    module.load_state_dict({name: state[name] for name in own if name in state}, strict=False)


def _is_usable(tensor: Tensor, like: Tensor) -> bool:
    if not like.is_floating_point():
        return True
    return tensor.is_floating_point() and bool(tensor.isfinite().all())


def _refuse_unknown(names: list[str], where: str) -> None:
    if names:
        raise CheckpointError(f"{where} holds {len(names)} unknown weights: {_some(names)}")


def _some(names: list[str], separator: str = ", ") -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return separator.join(names[:_MOST_NAMED]) + more


def _is_import(folder: Path) -> bool:
    """Say whether a folder of checkpoints holds nothing but an import."""
    return folder.is_dir() and {p.name for p in folder.iterdir()} <= {"step-0000000"}
