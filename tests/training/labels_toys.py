"""A preset of triplets and labelled frames, with a head and a term that read what is ragged."""

from pathlib import Path

import numpy as np
import torch
from tiny_store import write_tiny_store
from torch import nn
from torch.nn import functional

from unienc_core.contracts import Head, NodeInputs, Predictions, Term
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store_writer import StoreWriter
from unienc_core.registry import register

BOTH = """
name: both
image_size: [64, 96]
network:
  encoders:
    main:
      type: timm
      options:
        name: resnet18
        model_args: {channels: [8, 8, 8, 8], stem_width: 8, drop_path_rate: 0.1}
  heads:
    depth: {type: unet, reads: [main], options: {channels: [8, 8, 8, 8, 8], scales: 1}}
    pose: {type: single_scale, reads: [main], view: pair}
    masks: {type: toy_masks, reads: [main]}
streams:
  triplets: {kind: triplets, batch_size: 2, augment: {jitter: 0.0}}
  labels:
    kind: labels
    batch_size: 2
    labels: [task, target_masks, target_classes]
    augment: {zoom: 1.5}
terms:
  photometric: {}
  toy_inside: {}
optimizer: {lr: 3e-4, clip_norm: 1.0}
stages:
  - {name: start, steps: 6, terms: [photometric, toy_inside], trains: ["heads.*"]}
  - {name: all, steps: 8, terms: [photometric, toy_inside]}
"""


@register("head", "toy_masks")
class ToyMasks(Head):
    """One map per class, shifted by the task; in training its mean inside each target."""

    requires = ("task",)
    train_requires = ("target_masks", "target_classes")
    produces = ("class_maps",)
    train_produces = ("inside_means",)

    def __init__(self, site) -> None:
        super().__init__()
        count = len(site.classes.evaluated)
        self.maps = nn.Conv2d(site.only_pyramid().channels[0], count, 1)
        self.shift = nn.Embedding(3, count)

    def forward(self, inputs: NodeInputs) -> Predictions:
        maps = self.maps(inputs.pyramids[0].levels[0])
        maps = maps + self.shift(inputs.values["task"])[:, :, None, None]
        if not inputs.training:
            return {"class_maps": maps}
        whole = functional.interpolate(maps, inputs.images.shape[2:], mode="bilinear")
        targets = zip(
            whole, inputs.values["target_masks"], inputs.values["target_classes"], strict=True
        )
        means = [
            (image[classes] * masks).sum((1, 2)) / masks.sum((1, 2))
            for image, masks, classes in targets
        ]
        return {"class_maps": maps, "inside_means": means}


@register("term", "toy_inside")
class ToyInside(Term):
    """A class's map is to be high inside a mask of it."""

    requires = ("inside_means", "class_maps")

    def forward(self, values, context):
        loss = functional.softplus(-torch.cat(values["inside_means"])).sum()
        return loss / 20 + functional.softplus(values["class_maps"]).mean()


def write_labelled_store(path: Path, *, images=7, image_size=(64, 96)) -> Path:
    """Write single images with as many cars as their number; return the folder."""
    keys = standard_keys("image", "K", "semantic", "instance")
    spec = StoreSpec(kind="images", source="test", image_size=image_size, keys=keys)
    h, w = image_size
    with StoreWriter(path, spec) as writer:
        for number in range(images):
            instance = np.full(image_size, 7, np.int32)
            instance[: h // 4] = 23
            for car in range(number):
                instance[h // 2 : h // 2 + 12, 12 * car : 12 * car + 9] = 26000 + car
            semantic = np.where(instance >= 1000, instance // 1000, instance).astype(np.uint8)
            colours = np.random.default_rng(number).integers(0, 256, (1 << 15, 3), np.uint8)
            K = np.array([[0.8 * w, 0, w / 2], [0, 0.8 * w, h / 2], [0, 0, 1]])
            frame = {"image": colours[instance], "K": K, "semantic": semantic, "instance": instance}
            writer.add_drive(f"image-{number}", [frame])
    return path


def write_both(root: Path) -> tuple[Path, list[Path]]:
    """Write the preset, a store of triplets without labels, and one of labels without triplets."""
    (root / "both.yaml").write_text(BOTH)
    stores = [write_tiny_store(root / "triplets"), write_labelled_store(root / "labels")]
    return root / "both.yaml", stores
