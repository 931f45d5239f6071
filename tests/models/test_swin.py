"""Our Swin equals the published segmentation models' (padding first), and timm's where both fit."""

import pytest
import torch
from torch import Tensor

from unienc_core.models.encoders import TimmEncoder
from unienc_core.models.site import EncoderSite

SWIN = "swin_tiny_patch4_window7_224"
SMALL = {"embed_dim": 12, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 2]}


def encoder(size: tuple[int, int], **options) -> TimmEncoder:
    torch.manual_seed(0)
    made = TimmEncoder(EncoderSite("main", size), name=SWIN, **options).eval()
    for name, parameter in made.named_parameters():
        if "relative_position_bias" in name or "norm" in name or "bias" in name:
            # At its initial value much of a Swin cannot be told from another.
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    return made


def hf_backbone(ours: TimmEncoder, size: tuple[int, int]) -> torch.nn.Module:
    """transformers' SwinBackbone with our weights."""
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=size, out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    reference = transformers.SwinBackbone(config).eval()
    state = reference.state_dict()
    moved = {}
    for name, value in ours.state_dict().items():
        for their_name, their_value in zip(hf_names(name), hf_values(name, value), strict=True):
            assert state[their_name].shape == their_value.shape, their_name
            moved[their_name] = their_value
    unused = {"swin.layernorm.weight", "swin.layernorm.bias"}  # after the last stage, not read
    derived = {n for n in state if n.endswith("relative_position_index")}
    assert set(state) - unused - derived == set(moved)
    reference.load_state_dict(moved, strict=False)
    return reference


def hf_names(name: str) -> list[str]:
    """Our parameter name to transformers'; one packed qkv becomes three."""
    if name.startswith("norms."):
        _, level, kind = name.split(".")
        return [f"hidden_states_norms.stage{int(level) + 1}.{kind}"]
    name = name.removeprefix("net.")
    if name.startswith("patch_embed."):
        name = name.replace("patch_embed.proj", "swin.embeddings.patch_embeddings.projection")
        return [name.replace("patch_embed.norm", "swin.embeddings.norm")]
    stage, rest = name.removeprefix("layers_").split(".", 1)
    if rest.startswith("downsample"):  # timm merges before a stage, transformers after
        return [f"swin.encoder.layers.{int(stage) - 1}.{rest}"]
    _, block, rest = rest.split(".", 2)
    for ours, theirs in (
        ("norm1", "layernorm_before"),
        ("norm2", "layernorm_after"),
        ("attn.relative_position_bias_table", HF["bias"]),
        ("attn.proj", HF["out"]),
    ):
        rest = rest.replace(ours, theirs)
    prefix = f"swin.encoder.layers.{stage}.blocks.{block}."
    if "attn.qkv" in rest:
        kind = rest.rsplit(".", 1)[1]
        return [f"{prefix}attention.{x}_proj.{kind}" for x in "qkv"]
    return [prefix + rest]


HF = {
    "bias": "attention.relative_position_bias.relative_position_bias_table",
    "out": "attention.o_proj",
}


def hf_values(name: str, value: Tensor) -> list[Tensor]:
    return list(value.chunk(3)) if "attn.qkv" in name else [value]


@pytest.mark.parity
@pytest.mark.parametrize(
    "size", [(192, 512), (192, 640), pytest.param((384, 1024), marks=pytest.mark.slow)], ids=str
)
def test_equals_transformers(size):
    ours = encoder(size, norm_levels=True)
    reference = hf_backbone(ours, size)
    torch.manual_seed(1)
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        levels = ours(image).levels
        expected = reference((image - ours.mean) / ours.std).feature_maps
    for level, theirs in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("always_partition", [False, True])
def test_padding_first_and_last_agree_where_windows_fit(always_partition):
    # Left to itself, timm keeps a window that spans the map unshifted along that axis.
    options = {"model_args": SMALL | {"always_partition": always_partition}}
    ours = encoder((224, 448), **options)
    stock = encoder((224, 448), swin_padding="timm", **options)
    stock.load_state_dict(ours.state_dict())
    image = torch.rand(1, 3, 224, 448)
    with torch.no_grad():
        for level, theirs in zip(ours(image).levels, stock(image).levels, strict=True):
            assert torch.equal(level, theirs)


def test_padding_matters_where_windows_do_not_fit():
    options = {"model_args": SMALL | {"always_partition": True}}
    ours = encoder((192, 512), **options)
    stock = encoder((192, 512), swin_padding="timm", **options)
    stock.load_state_dict(ours.state_dict())
    image = torch.rand(1, 3, 192, 512)
    with torch.no_grad():
        coarse, theirs = ours(image).levels[-1], stock(image).levels[-1]
    assert (coarse - theirs).abs().max() > 0.01 * (theirs.max() - theirs.min())


def test_other_sizes_than_the_built_one_give_the_same_as_built_for_them():
    built, other = encoder((96, 256), model_args=SMALL), encoder((64, 128), model_args=SMALL)
    other.load_state_dict(built.state_dict())
    image = torch.rand(2, 3, 64, 128)
    with torch.no_grad():
        for a, b in zip(built(image).levels, other(image).levels, strict=True):
            assert torch.equal(a, b)


def test_names_stay_those_of_timm():
    ours = encoder((224, 448), model_args=SMALL)
    stock = encoder((224, 448), model_args=SMALL, swin_padding="timm")
    assert list(ours.state_dict()) == list(stock.state_dict())
