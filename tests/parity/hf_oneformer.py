"""A OneFormer of the transformers library at toy size, all of its weights random and its own."""

import pytest
import torch
from torch import Tensor, nn

from unienc_core.contracts import PyramidSpec
from unienc_core.models import timm_compat  # noqa: F401 - transformers imports torchvision
from unienc_core.models.masks import hf_keys

WIDTH, HEADS, CLASSES, QUERIES, LAYERS = 32, 4, 5, 7, 9
CHANNELS = (12, 24, 48, 96)
SPEC = PyramidSpec((4, 8, 16, 32), CHANNELS)
SIZE = (96, 160)

LIMIT = {torch.float32: 1e-4, torch.float64: 1e-8}


def toy(dtype: torch.dtype, **changes) -> nn.Module:
    """Return transformers' OneFormerModel, in evaluation mode and with its text branch."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.SwinConfig(
        embed_dim=CHANNELS[0],
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    sizes = {
        "conv_dim": WIDTH,
        "mask_dim": WIDTH,
        "hidden_dim": WIDTH,
        "num_attention_heads": HEADS,
        "encoder_layers": 2,
        "encoder_feedforward_dim": 48,
        "dim_feedforward": 64,
        "num_queries": QUERIES,
        "decoder_layers": LAYERS + 1,
        "query_dec_layers": 2,
        "text_encoder_width": 128,
        "text_encoder_num_layers": 2,
        "text_encoder_n_ctx": 0,
        "num_labels": CLASSES,
        "is_training": False,
        "dropout": 0.0,
    }
    config = transformers.OneFormerConfig(backbone_config=backbone, **(sizes | changes))
    torch.manual_seed(0)
    return randomise(transformers.OneFormerModel(config)).to(dtype).eval()


def randomise(module: nn.Module) -> nn.Module:
    """Draw all weights anew: at their initial values much of a network cannot be told apart."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1 and "embed" not in name:
                nn.init.xavier_normal_(parameter)
            elif "norm" in name or parameter.dim() > 1 or name.endswith(".1.weight"):
                parameter.copy_(torch.randn_like(parameter) * 0.3 + float("weight" in name))
            else:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


def copy_weights(part: hf_keys.Part, ours: nn.Module, theirs: nn.Module) -> None:
    """Load their weights into a part of ours; both must have the same type."""
    state = theirs.state_dict()
    moved = hf_keys.from_hf(part, [name for name, _ in ours.named_parameters()], state)
    missing, strange = ours.load_state_dict(moved, strict=False)
    assert not missing and not strange


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """Compare relative to the largest value of the tensor."""
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    worst = (ours - theirs).abs().max() / theirs.abs().max()
    assert worst <= LIMIT[ours.dtype], f"{worst:.1e}"


def pyramid(dtype: torch.dtype, batch: int = 2) -> list[Tensor]:
    """Return random levels of an image of `SIZE`, finest first."""
    torch.manual_seed(2)
    return [
        torch.randn(batch, c, SIZE[0] // s, SIZE[1] // s, dtype=dtype)
        for s, c in zip(SPEC.strides, CHANNELS, strict=True)
    ]
