"""Any timm backbone as an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unienc_core.contracts import Encoder, FeaturePyramid, PairOrder, PyramidSpec
from unienc_core.errors import CheckpointError, DataError, PresetError, nearest
from unienc_core.models import timm_compat
from unienc_core.models.blocks import start_with_differences
from unienc_core.models.encoders.swin import pad_then_roll
from unienc_core.models.site import EncoderSite
from unienc_core.registry import register

_GREY = ((0.45,) * 3, (0.225,) * 3)


@register("encoder", "timm")
class TimmEncoder(Encoder):
    """A timm backbone, its peculiarities absorbed: levels are NCHW, input is 0..1 RGB.

    Pretrained weights of its first layer serve a pair of images by halves (a triple by thirds), so
    that a pair of equal images starts as the single image did; without them, half of that layer
    starts as the difference of the two.

    Args:
        site: Where the encoder stands.
        name: Model name of timm, perhaps with a weight tag (``swin_tiny_patch4_window7_224``).
        pretrained: Start from timm's published weights, or from those of `weights`.
        model_args: Further arguments of timm's `create_model`.
        weights: A safetensors file with timm's parameter names, in place of a download.
        norm_levels: Put each level through a LayerNorm of its own, as OneFormer's Swin does.
        drop_path: Share of residual branches dropped in training, at the deepest block.
        swin_padding: How a Swin fills incomplete windows; the published segmentation models pad
            then roll, timm rolls then pads.
        normalisation: Input statistics: those of the pretraining, or `grey`, 0.45 and 0.225 for
            every colour, as Monodepth2 feeds its ResNets.
        pair_order: For an encoder of pairs: `target_last` shows it (source, target), `temporal`
            (earlier, later). The pose head that reads it must be told the same.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        site: EncoderSite,
        *,
        name: str,
        pretrained: bool = False,
        model_args: dict[str, Any] | None = None,
        weights: str | None = None,
        norm_levels: bool = False,
        drop_path: float = 0.0,
        swin_padding: Literal["pad_then_roll", "timm"] = "pad_then_roll",
        normalisation: Literal["pretraining", "grey"] = "pretraining",
        pair_order: PairOrder = "target_last",
    ) -> None:
        super().__init__()
        self.pair_order = pair_order
        self.requires = ("source_offsets",) if pair_order == "temporal" else ()
        file = Path(weights) if weights is not None else (site.weights if pretrained else None)
        self.in_channels = site.in_channels
        self.pretrained = pretrained or file is not None
        arguments = _model_arguments(site, name, drop_path, swin_padding) | (model_args or {})
        self.net = _create(site, name, arguments, pretrained=pretrained, file=file)
        if site.view != "frame" and not self.pretrained:
            first = next(m for m in self.net.modules() if isinstance(m, nn.Conv2d))
            start_with_differences(first, 3, site.in_channels // 3)
        if _is_swin(name) and swin_padding == "pad_then_roll":
            pad_then_roll(self.net)
        self._gives_nhwc = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")
        info: Any = self.net.feature_info
        self.spec = PyramidSpec(tuple(info.reduction()), tuple(info.channels()))
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in self.spec.channels if norm_levels)
        mean, std = _input_statistics(self.net, site.in_channels, grey=normalisation == "grey")
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, image: Tensor) -> FeaturePyramid:
        """Encode `image`, `M C H W` in 0..1."""
        levels = list(self.net((image - self.mean) / self.std))
        if self.norms:
            nhwc = levels if self._gives_nhwc else [x.permute(0, 2, 3, 1) for x in levels]
            levels = [norm(x) for norm, x in zip(self.norms, nhwc, strict=True)]
        if self.norms or self._gives_nhwc:
            levels = [x.permute(0, 3, 1, 2) for x in levels]
        return FeaturePyramid(levels, self.spec.strides)


def _is_swin(name: str) -> bool:
    return timm_compat.model_entrypoint(name).__module__.endswith(".swin_transformer")


def _model_arguments(
    site: EncoderSite, name: str, drop_path: float, swin_padding: str
) -> dict[str, Any]:
    known = timm_compat.list_models()
    bare = name.split(".")[0]
    if bare not in known:
        where = f"network.encoders.{site.name}.options.name"
        raise PresetError(f"{where}: timm has no model '{name}'{nearest(bare, known)}")
    config = timm_compat.get_pretrained_cfg(name, allow_unregistered=True)
    arguments: dict[str, Any] = {"in_chans": site.in_channels}
    if config is not None and config.fixed_input_size:
        arguments["img_size"] = site.image_size
    if _is_swin(name):
        # Said outright, since timm's default is 0.1. Other sizes than the preset's are welcome.
        arguments |= {"drop_path_rate": drop_path, "strict_img_size": False}
        arguments["always_partition"] = swin_padding == "pad_then_roll"
    elif drop_path > 0:
        arguments["drop_path_rate"] = drop_path
    return arguments


def _create(
    site: EncoderSite, name: str, arguments: dict[str, Any], *, pretrained: bool, file: Path | None
) -> Any:
    """Build the backbone with the weights asked for, and say which these are."""
    where = f"encoder '{site.name}'"
    source = "random weights" if file is None else f"weights of {file}"
    if not site.load_pretrained:
        file = None
    elif file is None and pretrained:
        file = _published(site, name)
        source = "the weights published by timm"
    held: set[_Mark] = set()
    if file is not None:
        held = _marks_of_file(file)
        arguments = arguments | {"pretrained_cfg_overlay": {"file": str(file)}}
    try:
        net = timm_compat.create_model(
            name, pretrained=file is not None, features_only=True, **arguments
        )
    except (TypeError, ValueError, AssertionError, AttributeError, LookupError) as error:
        # Whatever `model_args` meet inside timm, which does not check them.
        raise PresetError(f"{where}: timm cannot build '{name}': {_line(error)}") from None
    except RuntimeError as error:
        if file is not None:
            raise CheckpointError(f"{file}: does not fit {name}: {_line(error)}") from None
        if "memory" in str(error):
            raise
        raise PresetError(f"{where}: timm cannot build '{name}': {_line(error)}") from None
    if file is not None:
        _check_coverage(net, held, name, file)
    if site.load_pretrained:
        site.say(f"{where}: {name} starts from {source}")
    return net


def _published(site: EncoderSite, name: str) -> Path:
    try:
        return timm_compat.published_weights(name)
    except Exception as error:  # a download may fail in any way its libraries please
        raise DataError(
            f"encoder '{site.name}': no pretrained weights of {name} at hand ({_line(error)}); "
            "give them as --weights FILE (safetensors), or set "
            f"network.encoders.{site.name}.options.pretrained=false"
        ) from None


_Mark = tuple[tuple[int, ...], float]
"""Shape and sum of a tensor: enough to recognise it under another name."""


def _mark(x: Tensor) -> _Mark:
    return tuple(x.shape), x.double().sum().item()


def _marks_of_file(file: Path) -> set[_Mark]:
    if file.suffix != ".safetensors":
        raise DataError(f"{file}: pretrained weights must be a .safetensors file")
    try:
        with safe_open(file, framework="pt") as tensors:
            return {_mark(tensors.get_tensor(name)) for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file}: cannot read pretrained weights: {_line(error)}") from None


def _check_coverage(net: nn.Module, held: set[_Mark], model: str, file: Path) -> None:
    """Raise unless every parameter came from the file: timm loads what it finds, and renames it.

    The first convolution and position tables are fitted to the input, so they may differ.
    """
    parameters = list(net.named_parameters())
    missing = [
        name
        for name, parameter in parameters[1:]
        if "position" not in name and "pos_embed" not in name and _mark(parameter) not in held
    ]
    if missing:
        raise CheckpointError(
            f"{file}: lacks {len(missing)} of {len(parameters)} parameters of {model}, such as "
            f"'{missing[0]}'; expected timm's names"
        )


def _input_statistics(net: nn.Module, channels: int, *, grey: bool) -> tuple[Tensor, Tensor]:
    """Return mean and std per input channel; what is not RGB gets the mean over the colours."""
    config: Any = net.pretrained_cfg
    statistics = _GREY if grey else (config["mean"], config["std"])
    repeated: list[Tensor] = []
    for statistic in statistics:
        colours = torch.tensor(statistic, dtype=torch.float32)
        groups, rest = divmod(channels, 3)
        values = torch.cat([colours.repeat(groups), colours.mean().repeat(rest)])
        repeated.append(values.view(1, -1, 1, 1))
    return repeated[0], repeated[1]


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
