"""Weights of encoders that other libraries trained, under the names of ours.

Swin as in transformers (of either naming), torchvision, timm and Microsoft's own files; ResNet as
in torchvision and timm, which name it alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

_HF_RENAMED: Final = (
    ("attention.self.query.", "attention.q_proj."),
    ("attention.self.key.", "attention.k_proj."),
    ("attention.self.value.", "attention.v_proj."),
    ("attention.self.relative_position", "attention.relative_position_bias.relative_position"),
    ("attention.output.dense.", "attention.o_proj."),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
)
"""What transformers called parts of Swin before its fifth version, and since."""

_HF_BLOCK: Final = r"encoder\.layers\.(\d+)\.blocks\.(\d+)\."
_HF: Final = (
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"embeddings\.norm\.", "patch_embed.norm."),
    (_HF_BLOCK + r"layernorm_before\.", r"layers_\1.blocks.\2.norm1."),
    (_HF_BLOCK + r"layernorm_after\.", r"layers_\1.blocks.\2.norm2."),
    (_HF_BLOCK + r"attention\.relative_position_bias\.", r"layers_\1.blocks.\2.attn."),
    (_HF_BLOCK + r"attention\.([qkv])_proj\.", r"layers_\1.blocks.\2.attn.\3."),
    (_HF_BLOCK + r"attention\.o_proj\.", r"layers_\1.blocks.\2.attn.proj."),
    (_HF_BLOCK + r"mlp\.", r"layers_\1.blocks.\2.mlp."),
    (r"encoder\.layers\.(\d+)\.downsample\.", r"layers_\1.downsample."),
    (r"hidden_states_norms\.stage(\d+)\.", r"norms.\1."),
)

_TORCHVISION: Final = (
    (r"features\.0\.0\.", "patch_embed.proj."),
    (r"features\.0\.2\.", "patch_embed.norm."),
    (r"features\.(\d+)\.(\d+)\.mlp\.0\.", r"features.\1.\2.mlp.fc1."),
    (r"features\.(\d+)\.(\d+)\.mlp\.3\.", r"features.\1.\2.mlp.fc2."),
    (r"features\.([1357])\.(\d+)\.", r"layers_\1.blocks.\2."),
    (r"features\.([246])\.", r"layers_\1.downsample."),
)

_NOT_READ: Final = re.compile(
    r"(head|fc|norm|layernorm)\..*|(.*\.)?(relative_position_index|attn_mask|num_batches_tracked)"
)
"""Of classifiers, the last layers; and tables that follow from sizes."""


def encoder_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of an encoder under the names of `TimmEncoder`, without what it lacks.

    Names that are not known stay as they are.

    Args:
        state: A Swin or ResNet of transformers (without the prefix of the model that it is part
            of), torchvision or timm.
    """
    named = {name.removeprefix("swin."): tensor for name, tensor in state.items()}
    if any(name.startswith("embeddings.") for name in named):
        found = _joined({_hf_name(name): tensor for name, tensor in named.items()})
    elif "features.0.0.weight" in named:
        found = {_torchvision_name(name): tensor for name, tensor in named.items()}
    else:
        found = {re.sub(r"^layers\.(\d+)", r"layers_\1", n): x for n, x in named.items()}
    if "layers_0.downsample.norm.weight" in found:  # at the end of a stage; ours begin with it
        found = {_moved(name): tensor for name, tensor in found.items()}
    return {
        name if name.startswith("norms.") else f"net.{name}": tensor
        for name, tensor in found.items()
        if not _NOT_READ.fullmatch(name)
    }


def _hf_name(name: str) -> str:
    for before, since in _HF_RENAMED:
        name = name.replace(before, since)
    for theirs, ours in _HF:
        name = re.sub(f"^{theirs}", ours, name)
    return re.sub(r"^norms\.(\d+)", lambda match: f"norms.{int(match[1]) - 1}", name)


def _torchvision_name(name: str) -> str:
    for theirs, ours in _TORCHVISION:
        name = re.sub(f"^{theirs}", ours, name)
    # Stages and the merging before them are numbered through: stage 1 is 3, merged by 2.
    return re.sub(r"^layers_(\d)", lambda match: f"layers_{int(match[1]) // 2}", name)


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join queries, keys and values of attention, which ours projects together."""
    made: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(.*\.attn\.)([qkv])(\..*)", name)
        if match is None:
            made[name] = tensor
            continue
        parts = [state.get(f"{match[1]}{part}{match[3]}") for part in "qkv"]
        found = [x for x in parts if x is not None and x.dim() and x.shape == tensor.shape]
        if len(found) < len(parts):  # stays as it is, to be refused by name
            made[name] = tensor
        elif match[2] == "q":
            made[f"{match[1]}qkv{match[3]}"] = torch.cat(found)
    return made


def _moved(name: str) -> str:
    return re.sub(
        r"^layers_(\d+)\.downsample", lambda match: f"layers_{int(match[1]) + 1}.downsample", name
    )
