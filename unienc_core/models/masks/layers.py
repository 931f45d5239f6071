"""Attention, feed-forward and perceptron: what the decoders of masks are built from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Attention of several heads with one packed projection of queries, keys and values.

    Queries of several tasks may look at one image: the first axis of `query` is then a multiple of
    that of `key`, the tasks of an image side by side, and the image is projected once.

    Args:
        width: Channels of queries, keys, values and output.
        heads: Number of heads, which share the channels.
        dropout: Share of the weights that is dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.project = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        for linear in (self.project, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None
    ) -> Tensor:
        """Return ``M N C``.

        Args:
            query: ``M N C``, M a multiple of B.
            key: ``B K C``.
            value: ``B K C``, or ``1 K C`` where it is the same for all images.
            allowed: ``M N K`` or ``N K``, true where a query may look; each must have a place.
        """
        images = key.shape[0]
        folded = query.reshape(images, -1, query.shape[-1])
        if allowed is not None and allowed.dim() == 3:
            allowed = allowed.reshape(images, 1, -1, allowed.shape[-1])
        weights, biases = self.project.weight.chunk(3), self.project.bias.chunk(3)
        q, k, v = (
            functional.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((folded, key, value), weights, biases, strict=True)
        )
        read = functional.scaled_dot_product_attention(
            q,
            k,
            v.expand(images, -1, -1, -1),
            attn_mask=allowed,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(read.transpose(1, 2).reshape(query.shape))


class FeedForward(nn.Module):
    """Two layers with a residual, then a norm; dropout after both."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        hidden = self.dropout(functional.relu(self.inner(x)))
        return self.norm(x + self.dropout(self.outer(hidden)))


def perceptron(*widths: int) -> nn.Sequential:
    """Return linear layers of the given widths, input first, with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def conv(before: int, after: int, kernel: int = 1, *, bias: bool = True) -> nn.Conv2d:
    """Return a convolution that keeps the size, drawn by the width of its input; its bias is 0."""
    made = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=bias)
    nn.init.kaiming_uniform_(made.weight, a=1)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


def flatten_map(x: Tensor) -> Tensor:
    """Return a map ``B C H W`` as places ``B H*W C``, row by row."""
    return x.flatten(2).transpose(1, 2)


def unflatten_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return places ``B H*W C`` as a map ``B C H W``."""
    return x.transpose(1, 2).unflatten(2, size)


def map_size(x: Tensor) -> tuple[int, int]:
    """Return height and width of a map."""
    return (x.shape[-2], x.shape[-1])


def full_type(x: Tensor) -> torch.dtype:
    """Return the type of `x`, but float32 for the half-precision ones."""
    return torch.promote_types(x.dtype, torch.float32)
