"""Queries that find the segments of an image: how they begin, and how they look at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unienc_core.geometry.precision import widen
from unienc_core.models.masks.layers import (
    Attention,
    FeedForward,
    conv,
    flatten_map,
    full_type,
    map_size,
    perceptron,
)
from unienc_core.models.masks.position import sine_positions

QueryValues = Literal["positions", "features"]

LEVELS = 3


@dataclass(frozen=True)
class QueryPredictions:
    """What queries say about an image, after each layer.

    `M` is the images, or the tasks of all images with those of an image side by side.

    Attributes:
        class_logits: ``M Q K_cls+1`` each, the last class being "no object"; the final one last.
        mask_logits: ``M Q h w`` each, at the size of the mask features.
        object_queries: ``M Q C``, the queries before the first layer, which texts are compared
            with.
    """

    class_logits: list[Tensor]
    mask_logits: list[Tensor]
    object_queries: Tensor


class QueryInitialiser(nn.Module):
    """Turn the task into object queries by looking at the image once (Sec. 3.2, Jain et al.).

    Every query begins as the task token and has a learned position. Keys are positions plus
    projected features. Values are the positions alone in the published models, where the two
    inputs of the attention are swapped; ``features`` is what the paper's text intends.

    Args:
        width: Channels.
        layers: Layers of self-attention, cross-attention, feed-forward.
        heads: Heads of each attention.
        hidden: Width inside the feed-forward parts.
        dropout: Share dropped in training.
        values: What the queries read from a place that they look at.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int,
        heads: int,
        hidden: int,
        dropout: float,
        values: QueryValues,
    ) -> None:
        super().__init__()
        self.values = values
        self.project = conv(width, width)
        self.layers = nn.ModuleList(
            _InitialiserLayer(width, heads, hidden, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, mask_features: Tensor, task_token: Tensor, positions: Tensor) -> Tensor:
        """Return queries ``M Q C``.

        Args:
            mask_features: ``B C h w``.
            task_token: ``M C``, normalised; M a multiple of B.
            positions: ``Q C``, of the queries.
        """
        features = flatten_map(self.project(mask_features))
        places = _places(mask_features)[None]
        keys = places + features
        values = places if self.values == "positions" else features
        queries = task_token[:, None].expand(-1, positions.shape[0], -1)
        for layer in self.layers:
            queries = layer(queries, positions, keys, values)
        return self.norm(queries)


class MaskedAttentionDecoder(nn.Module):
    """Let queries look at the image, each only where its last mask lies (Eq. 2, Cheng et al.).

    Layer i looks at the map of stride 32, 16, 8, 32, ...: first at the image, then at the other
    queries. Classes and masks are predicted before the first and after every layer, by the same
    parts, and their norm is also that of the task token. The last query is the task token itself.

    Args:
        classes: Number of classes, without "no object".
        width: Channels of queries, mask features and maps, a multiple of 4.
        queries: Number of queries, the task token included.
        layers: Layers of masked attention; one prediction more is made.
        heads: Heads of each attention.
        hidden: Width inside the feed-forward parts.
        query_layers: Layers of the `QueryInitialiser`.
        query_dropout: Its dropout; the masked layers have none.
        query_values: What it reads; see there.
    """

    def __init__(
        self,
        classes: int,
        *,
        width: int = 256,
        queries: int = 150,
        layers: int = 9,
        heads: int = 8,
        hidden: int = 2048,
        query_layers: int = 2,
        query_dropout: float = 0.1,
        query_values: QueryValues = "positions",
    ) -> None:
        super().__init__()
        self.positions = nn.Embedding(queries, width)
        self.level_embed = nn.Embedding(LEVELS, width)
        self.initialiser = QueryInitialiser(
            width,
            layers=query_layers,
            heads=heads,
            hidden=hidden,
            dropout=query_dropout,
            values=query_values,
        )
        self.layers = nn.ModuleList(_MaskedLayer(width, heads, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.to_class = nn.Linear(width, classes + 1)
        self.to_mask = perceptron(width, width, width, width)

    def forward(
        self,
        mask_features: Tensor,
        maps: Sequence[Tensor],
        task_token: Tensor,
        *,
        every_layer: bool = True,
    ) -> QueryPredictions:
        """Return the predictions of all layers, or of the last one alone.

        Args:
            mask_features: ``B C h w``.
            maps: ``B C h_l w_l``, coarsest first.
            task_token: ``M C``, with M a multiple of B: the tasks of an image lie side by side,
                and what is known of the image is shared by them.
            every_layer: Whether the predictions before the last are wanted.
        """
        token = self.norm(task_token)
        positions = self.positions.weight
        begun = self.initialiser(mask_features, token, positions[:-1])
        queries = object_queries = torch.cat([begun, token[:, None]], 1)
        values = [flatten_map(x) + self.level_embed.weight[i] for i, x in enumerate(maps)]
        keys = [value + _places(x) for value, x in zip(values, maps, strict=True)]
        # To resize features and to resize masks is the same, and the former is done once.
        resized = [_resize(mask_features, x) for x in maps]
        classes, masks = [], []
        for index, layer in enumerate([*self.layers, None]):
            normed = self.norm(queries)
            embedded = self.to_mask(normed)
            if every_layer or layer is None:
                classes.append(widen(self.to_class(normed)))
                masks.append(widen(mask_logits(embedded, mask_features)))
            if layer is not None:
                level = index % LEVELS
                allowed = _allowed(embedded, resized[level])
                queries = layer(queries, positions, keys[level], values[level], allowed)
        return QueryPredictions(classes, masks, object_queries)


def mask_logits(embedded: Tensor, features: Tensor) -> Tensor:
    """Return masks ``M Q h w``: the product of each query ``M Q C`` and place ``B C h w``."""
    folded = embedded.reshape(features.shape[0], -1, embedded.shape[-1])
    return (folded @ features.flatten(2)).view(*embedded.shape[:2], *features.shape[2:])


@torch.no_grad()
def _allowed(embedded: Tensor, features: Tensor) -> Tensor:
    """Return where each query may look, ``M Q K``: within its mask, or anywhere if that is empty.

    A place counts as within at a probability of one half and more.
    """
    inside = mask_logits(embedded, features).flatten(2) >= 0
    return inside | ~inside.any(-1, keepdim=True)


@torch.no_grad()
def _resize(features: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(features, map_size(like), mode="bilinear")


def _places(x: Tensor) -> Tensor:
    """Return the code of each place of a map, ``H*W C``."""
    return sine_positions(map_size(x), x.shape[1], x.device, full_type(x))


class _InitialiserLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward; norms come last."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.among = Attention(width, heads, dropout)
        self.norm_among = nn.LayerNorm(width)
        self.look = Attention(width, heads, dropout)
        self.norm_look = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, positions: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        placed = queries + positions
        queries = self.norm_among(queries + self.dropout(self.among(placed, placed, queries)))
        read = self.look(queries + positions, keys, values)
        return self.feed_forward(self.norm_look(queries + self.dropout(read)))


class _MaskedLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward; norms come last, no dropout."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.look = Attention(width, heads)
        self.norm_look = nn.LayerNorm(width)
        self.among = Attention(width, heads)
        self.norm_among = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)

    def forward(
        self, queries: Tensor, positions: Tensor, keys: Tensor, values: Tensor, allowed: Tensor
    ) -> Tensor:
        read = self.look(queries + positions, keys, values, allowed)
        queries = self.norm_look(queries + read)
        placed = queries + positions
        queries = self.norm_among(queries + self.among(placed, placed, queries))
        return self.feed_forward(queries)
