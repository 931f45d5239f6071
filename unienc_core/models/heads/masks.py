"""Segments of an image by queries that are told their task: semantic, instance or panoptic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from unienc_core.contracts import Head, NodeInputs, Predictions, check_shape
from unienc_core.errors import WiringError
from unienc_core.models.masks.matching import MatchOptions, match_layers
from unienc_core.models.masks.pixel_decoder import STRIDES, PixelDecoder
from unienc_core.models.masks.query_decoder import MaskedAttentionDecoder, QueryValues
from unienc_core.models.masks.task import TaskToken, TextQueries
from unienc_core.models.site import NodeSite
from unienc_core.registry import Count, register
from unienc_core.sentences import (
    TASKS,
    class_sentence,
    closed_vocabulary,
    photo_sentence,
    task_sentence,
)

Points = Annotated[int, Field(ge=1, le=1 << 20)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


@register("head", "masks")
class Masks(Head):
    """OneFormer's decoders (Jain et al.): a class and a mask from each query.

    One network, three tasks: the query of the task, drawn per image in training, makes the others.
    In training the predictions of all layers are matched with the segments here, since memory
    allows to compare masks at points only; and texts about the image are encoded, which queries
    are compared with. A class whose name has words that the shipped vocabulary lacks gets tokens of
    its own, learned from nothing.

    Args:
        site: Where the head stands; its classes decide what can be said.
        width: Channels of maps, queries and mask features.
        heads: Heads of each attention over the image and over queries.
        dropout: Share dropped in the pixel decoder and where queries begin, in training.
        pixel_layers: Layers of deformable attention in the pixel decoder.
        pixel_points: Places per head and level that a place reads there.
        pixel_hidden: Width inside its feed-forward parts.
        queries: Number of queries, the task's own included: the most segments of an image.
        query_layers: Layers that turn the task into queries.
        query_values: What these layers read: positions alone as published, or features.
        layers: Layers of masked attention.
        hidden: Width inside the feed-forward parts of all layers of queries.
        context: How many of the text queries are learned; the others are sentences.
        text_width: Channels inside the text encoder.
        text_layers: Its layers.
        text_heads: Heads of its attention.
        train_points: Points at which two masks are compared in matching and losses.
        oversample: Candidates per point in losses, of which the least certain ones are taken.
        importance: Share of the points that are taken so; the others fall anywhere.
        cost_cls: Weight of the class in matching.
        cost_bce: Weight of binary cross-entropy in matching.
        cost_dice: Weight of Dice in matching.
    """

    requires = ("task",)
    train_requires = ("target_masks", "target_classes")
    produces = ("class_logits", "mask_logits")
    train_produces = (
        "class_logits_layers",
        "query_classes_layers",
        "point_logits_layers",
        "point_targets_layers",
        "object_queries",
        "text_queries",
    )
    training_parts = ("text_queries",)
    sentences: Tensor

    def __init__(
        self,
        site: NodeSite,
        *,
        width: Count = 256,
        heads: Count = 8,
        dropout: Share = 0.1,
        pixel_layers: Count = 6,
        pixel_points: Count = 4,
        pixel_hidden: Count = 1024,
        queries: Count = 150,
        query_layers: Count = 2,
        query_values: QueryValues = "positions",
        layers: Count = 9,
        hidden: Count = 2048,
        context: Annotated[int, Field(ge=0)] = 16,
        text_width: Count = 256,
        text_layers: Count = 6,
        text_heads: Count = 4,
        train_points: Points = 12544,
        oversample: Annotated[float, Field(ge=1)] = 3.0,
        importance: Share = 0.75,
        cost_cls: Weight = 2.0,
        cost_bce: Weight = 5.0,
        cost_dice: Weight = 5.0,
    ) -> None:
        super().__init__()
        _check(site, queries=queries, context=context)
        _check_width(site, "width", width, "heads", heads, multiple=4)
        _check_width(site, "text_width", text_width, "text_heads", text_heads)
        names = [entry.name for entry in site.classes.evaluated]
        self.options = MatchOptions(
            train_points, oversample, importance, cost_cls, cost_bce, cost_dice
        )
        self.texts = queries - context
        vocabulary = closed_vocabulary(names)
        said = [*map(task_sentence, TASKS), *map(photo_sentence, TASKS)]
        said += map(class_sentence, names)
        rows = np.stack([vocabulary.encode(sentence) for sentence in said])
        self.register_buffer("sentences", torch.from_numpy(rows), persistent=False)
        self.pixel_decoder = PixelDecoder(
            site.only_pyramid(),
            width=width,
            layers=pixel_layers,
            heads=heads,
            points=pixel_points,
            hidden=pixel_hidden,
            dropout=dropout,
        )
        self.query_decoder = MaskedAttentionDecoder(
            len(names),
            width=width,
            queries=queries,
            layers=layers,
            heads=heads,
            hidden=hidden,
            query_layers=query_layers,
            query_dropout=dropout,
            query_values=query_values,
        )
        self.task_token = TaskToken(width)
        self.text_queries = TextQueries(
            vocabulary.tokens,
            width=text_width,
            layers=text_layers,
            heads=text_heads,
            out=width,
            context=context,
        )

    def forward(self, inputs: NodeInputs) -> Predictions:
        """Return classes ``B [T] Q K_cls+1`` and masks ``B [T] Q h w`` at stride 4, as logits.

        The last class is "no object". With several tasks per image (``task`` is ``B T``, not in
        training) all that depends on the image alone is computed once. In training also lists with
        an entry per prediction, the first of which is made before any layer (see `Matches`), and
        object and text queries, ``B Q C``.
        """
        tasks = inputs.values["task"]
        features, maps = self.pixel_decoder(inputs.pyramids[0].levels)
        token = self.task_token(self.sentences[tasks.flatten()])
        made = self.query_decoder(features, maps, token, every_layer=inputs.training)
        if not inputs.training:
            return {
                "class_logits": made.class_logits[-1].unflatten(0, tasks.shape),
                "mask_logits": made.mask_logits[-1].unflatten(0, tasks.shape),
            }
        check_shape(tasks, "B", "task in training")
        classes, masks = inputs.values["target_classes"], inputs.values["target_masks"]
        matches = match_layers(made.class_logits, made.mask_logits, classes, masks, self.options)
        return {
            "class_logits": made.class_logits[-1],
            "mask_logits": made.mask_logits[-1],
            "class_logits_layers": made.class_logits,
            "query_classes_layers": matches.query_classes,
            "point_logits_layers": matches.point_logits,
            "point_targets_layers": matches.point_targets,
            "object_queries": made.object_queries,
            "text_queries": self.text_queries(self._sentences_about(tasks, classes)),
        }

    def _sentences_about(self, tasks: Tensor, classes: Sequence[Tensor]) -> Tensor:
        """Return the tokens of what is said of each image, ``B texts 77`` (Sec. 3.3, Jain et al.).

        A sentence for each segment, by class, as many as fit; the rest names the task.
        """
        rows = (tasks + len(TASKS))[:, None].repeat(1, self.texts)
        for row, found in zip(rows, classes, strict=True):
            named = found.sort().values[: self.texts] + 2 * len(TASKS)
            row[: len(named)] = named
        return self.sentences[rows]


def _check(site: NodeSite, *, queries: int, context: int) -> None:
    strides = site.only_pyramid().strides
    if site.view != "frame":
        raise WiringError(f"head '{site.name}' sees single frames, found view: {site.view}")
    if strides[-len(STRIDES) :] != STRIDES:
        raise WiringError(
            f"head '{site.name}' reads the strides {list(STRIDES)}, found a pyramid of "
            f"{list(strides)}; use an encoder with these, without dilation"
        )
    if context >= queries:
        raise WiringError(
            f"head '{site.name}': context = {context} leaves no sentence of {queries} queries; "
            "use fewer"
        )


def _check_width(
    site: NodeSite, width_name: str, width: int, heads_name: str, heads: int, multiple: int = 1
) -> None:
    if width % heads or width % multiple:
        also = f" and of {multiple}" if multiple > 1 else ""
        raise WiringError(
            f"head '{site.name}': {width_name} = {width}, expected a multiple of {heads_name} = "
            f"{heads}{also}"
        )
