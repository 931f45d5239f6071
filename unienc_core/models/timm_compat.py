"""The one door to timm, and the cure for a torchvision built against another torch.

A CPU build of torch beside the registry's torchvision (built for CUDA) makes ``import torchvision``
die with ``operator torchvision::nms does not exist``, and timm imports torchvision. We use no
operator of torchvision, so declaring the two operators that it looks up is enough. Everything
that needs timm (or another library that imports torchvision) imports it through this module.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []  # a library's declarations die with the object


def heal_torchvision() -> bool:
    """Make ``import torchvision`` work; return whether it needed help.

    Does nothing where torchvision imports as it is, and nothing the second time.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return False
    for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS.values():
        library.define(schema)
    _declared.append(library)
    importlib.import_module("torchvision")
    return True


HEALED = heal_torchvision()
"""Whether torchvision was built for another torch than the one beside it."""

import timm  # noqa: E402
from timm.layers.norm_act import convert_sync_batchnorm  # noqa: E402
from timm.models import get_pretrained_cfg, model_entrypoint  # noqa: E402
from timm.models.swin_transformer import (  # noqa: E402
    SwinTransformerBlock,
    window_partition,
    window_reverse,
)

create_model = timm.create_model
list_models = timm.list_models


def published_weights(name: str) -> Path:
    """Return the safetensors file that timm publishes for a model, downloaded if need be.

    Asked once, without the minutes of retries that the hub's client spends where there is no
    network.

    Raises:
        Exception: Whatever the hub's client raises where the file cannot be had.
    """
    import huggingface_hub as hub

    config = get_pretrained_cfg(name, allow_unregistered=True)
    repository = None if config is None else config.hf_hub_id
    if not repository:
        raise LookupError("timm publishes none")
    file = "model.safetensors"
    cached = hub.try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    hub.get_hf_file_metadata(hub.hf_hub_url(repository, file), timeout=10)
    return Path(hub.hf_hub_download(repository, file))


__all__ = [
    "HEALED",
    "SwinTransformerBlock",
    "convert_sync_batchnorm",
    "create_model",
    "get_pretrained_cfg",
    "heal_torchvision",
    "list_models",
    "model_entrypoint",
    "published_weights",
    "window_partition",
    "window_reverse",
]
