"""Where each of our parameters lies in a OneFormer of the transformers library.

In a pattern, ``{}`` is the number of a layer and ``*`` is ``weight`` or ``bias``. Where there are
several names, theirs are ours in parts, one after another along the first axis.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal

import torch
from torch import Tensor

from unienc_core.errors import CheckpointError

Part = Literal["pixel_decoder", "query_decoder", "task_token", "text_queries"]

_PIXEL_LAYER: Final = "pixel_level_module.decoder.encoder.layers.{}."
_BEGIN_LAYER: Final = "transformer_module.decoder.query_transformer.decoder.layers.{}."
_LAYER: Final = "transformer_module.decoder.layers.{}."
_TEXT_LAYER: Final = "text_mapper.text_encoder.transformer.layers.{}."

HF_KEYS: Final[Mapping[Part, Mapping[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "pixel_decoder": {
            "level_embed": ("pixel_level_module.decoder.level_embed",),
            "projections.{}.0.*": ("pixel_level_module.decoder.input_projections.{}.0.*",),
            "projections.{}.1.*": ("pixel_level_module.decoder.input_projections.{}.1.*",),
            "layers.{}.attention.offsets.*": (_PIXEL_LAYER + "self_attn.sampling_offsets.*",),
            "layers.{}.attention.weights.*": (_PIXEL_LAYER + "self_attn.attention_weights.*",),
            "layers.{}.attention.value.*": (_PIXEL_LAYER + "self_attn.value_proj.*",),
            "layers.{}.attention.output.*": (_PIXEL_LAYER + "self_attn.output_proj.*",),
            "layers.{}.norm.*": (_PIXEL_LAYER + "self_attn_layer_norm.*",),
            "layers.{}.feed_forward.inner.*": (_PIXEL_LAYER + "fc1.*",),
            "layers.{}.feed_forward.outer.*": (_PIXEL_LAYER + "fc2.*",),
            "layers.{}.feed_forward.norm.*": (_PIXEL_LAYER + "final_layer_norm.*",),
            "lateral.{}.*": ("pixel_level_module.decoder.adapter_1.{}.*",),
            "refine.{}.*": ("pixel_level_module.decoder.layer_1.{}.*",),
            "to_masks.*": ("pixel_level_module.decoder.mask_projection.*",),
        },
        "query_decoder": {
            "positions.weight": ("transformer_module.queries_embedder.weight",),
            "level_embed.weight": ("transformer_module.level_embed.weight",),
            "initialiser.project.*": ("transformer_module.decoder.query_input_projection.*",),
            "initialiser.layers.{}.among.project.*": (_BEGIN_LAYER + "self_attn.in_proj_*",),
            "initialiser.layers.{}.among.output.*": (_BEGIN_LAYER + "self_attn.out_proj.*",),
            "initialiser.layers.{}.norm_among.*": (_BEGIN_LAYER + "norm1.*",),
            "initialiser.layers.{}.look.project.*": (_BEGIN_LAYER + "multihead_attn.in_proj_*",),
            "initialiser.layers.{}.look.output.*": (_BEGIN_LAYER + "multihead_attn.out_proj.*",),
            "initialiser.layers.{}.norm_look.*": (_BEGIN_LAYER + "norm2.*",),
            "initialiser.layers.{}.feed_forward.inner.*": (_BEGIN_LAYER + "linear1.*",),
            "initialiser.layers.{}.feed_forward.outer.*": (_BEGIN_LAYER + "linear2.*",),
            "initialiser.layers.{}.feed_forward.norm.*": (_BEGIN_LAYER + "norm3.*",),
            "initialiser.norm.*": ("transformer_module.decoder.query_transformer.decoder.norm.*",),
            "layers.{}.look.project.*": (_LAYER + "cross_attn.multihead_attn.in_proj_*",),
            "layers.{}.look.output.*": (_LAYER + "cross_attn.multihead_attn.out_proj.*",),
            "layers.{}.norm_look.*": (_LAYER + "cross_attn.norm.*",),
            "layers.{}.among.project.*": (
                _LAYER + "self_attn.self_attn.q_proj.*",
                _LAYER + "self_attn.self_attn.k_proj.*",
                _LAYER + "self_attn.self_attn.v_proj.*",
            ),
            "layers.{}.among.output.*": (_LAYER + "self_attn.self_attn.out_proj.*",),
            "layers.{}.norm_among.*": (_LAYER + "self_attn.norm.*",),
            "layers.{}.feed_forward.inner.*": (_LAYER + "ffn.linear1.*",),
            "layers.{}.feed_forward.outer.*": (_LAYER + "ffn.linear2.*",),
            "layers.{}.feed_forward.norm.*": (_LAYER + "ffn.norm.*",),
            "norm.*": ("transformer_module.decoder.decoder_norm.*",),
            "to_class.*": ("transformer_module.decoder.class_embed.*",),
            "to_mask.0.*": ("transformer_module.decoder.mask_embed.layers.0.0.*",),
            "to_mask.2.*": ("transformer_module.decoder.mask_embed.layers.1.0.*",),
            "to_mask.4.*": ("transformer_module.decoder.mask_embed.layers.2.0.*",),
        },
        "task_token": {
            "layers.0.*": ("task_encoder.task_mlp.layers.0.0.*",),
            "layers.2.*": ("task_encoder.task_mlp.layers.1.0.*",),
        },
        "text_queries": {
            "embed.weight": ("text_mapper.text_encoder.token_embedding.weight",),
            "positions": ("text_mapper.text_encoder.positional_embedding",),
            "blocks.{}.norm_attention.*": (_TEXT_LAYER + "layer_norm1.*",),
            "blocks.{}.attention.project.*": (_TEXT_LAYER + "self_attn.in_proj_*",),
            "blocks.{}.attention.output.*": (_TEXT_LAYER + "self_attn.out_proj.*",),
            "blocks.{}.norm_inner.*": (_TEXT_LAYER + "layer_norm2.*",),
            "blocks.{}.inner.*": (_TEXT_LAYER + "mlp.fc1.*",),
            "blocks.{}.outer.*": (_TEXT_LAYER + "mlp.fc2.*",),
            "norm.*": ("text_mapper.text_encoder.ln_final.*",),
            "project.0.*": ("text_mapper.text_projector.layers.0.0.*",),
            "project.2.*": ("text_mapper.text_projector.layers.1.0.*",),
            "context.weight": ("text_mapper.prompt_ctx.weight",),
        },
    }
)
"""Part of the network to our pattern to theirs, as under `OneFormerModel`."""


def hf_names(part: Part, key: str) -> tuple[str, ...]:
    """Return their names of one of our parameters.

    Raises:
        KeyError: If the part has no such parameter.
    """
    for pattern, theirs in HF_KEYS[part].items():
        ours = re.escape(pattern).replace(r"\{\}", r"(?P<layer>\d+)")
        match = re.fullmatch(ours.replace(r"\*", "(?P<kind>weight|bias)"), key)
        if match:
            found = match.groupdict()
            return tuple(
                name.replace("{}", found.get("layer", "")).replace("*", found.get("kind", ""))
                for name in theirs
            )
    raise KeyError(f"{part}: {key}")


def from_hf(part: Part, keys: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our state of a part out of theirs, unchanged but for the parts being joined.

    The table of tokens comes whole: where ours holds some of them, its rows are to be picked.

    Args:
        part: Of the network.
        keys: Our parameters, relative to the part.
        state: Theirs, as of a `OneFormerModel`.

    Raises:
        CheckpointError: If theirs lacks some.
    """
    wanted = {key: hf_names(part, key) for key in keys}
    missing = [name for names in wanted.values() for name in names if name not in state]
    if missing:
        raise CheckpointError(
            f"the OneFormer weights lack {len(missing)} entries that the {part} needs, such as "
            f"'{missing[0]}': expected the state of transformers' OneFormerModel of the same sizes"
        )
    return {key: torch.cat([state[name] for name in names]) for key, names in wanted.items()}
