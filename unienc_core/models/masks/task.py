"""What language adds: the token of the task, and the queries that images are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unienc_core.errors import WiringError
from unienc_core.geometry.precision import full_precision
from unienc_core.models.masks.layers import Attention, perceptron
from unienc_core.sentences import CONTEXT_LENGTH, END


class TaskToken(nn.Module):
    """The task's sentence to one vector (Sec. 3.1, Jain et al.).

    The token ids themselves, up to 49407, go through two layers. The results are in the ten
    thousands, beyond half precision, until the decoder's norm brings them back; so this is
    computed in single precision or better, whatever autocast is on outside.

    Args:
        width: Channels of the token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = perceptron(CONTEXT_LENGTH, width, width)

    @full_precision
    def forward(self, task_ids: Tensor) -> Tensor:
        """Return tokens ``M C``.

        Args:
            task_ids: ``M 77``, the sentence's tokens.
        """
        return self.layers(task_ids.to(next(self.parameters()).dtype))


class TextQueries(nn.Module):
    """Sentences about an image to queries, one each, then learned ones (Sec. 3.3, Jain et al.).

    Each distinct sentence of a batch is encoded once, no further than its end: later tokens cannot
    be seen from there.

    Args:
        tokens: The tokens that sentences may hold; only they have an embedding.
        width: Channels inside the encoder.
        layers: Layers of the encoder.
        heads: Heads of its attention.
        out: Channels of the queries.
        context: Learned queries, which follow those of the sentences.
    """

    tokens: Tensor

    def __init__(
        self,
        tokens: Sequence[int],
        *,
        width: int = 256,
        layers: int = 6,
        heads: int = 4,
        out: int = 256,
        context: int = 16,
    ) -> None:
        super().__init__()
        self.register_buffer("tokens", torch.tensor(sorted(tokens)), persistent=False)
        self.embed = nn.Embedding(len(tokens), width)
        self.positions = nn.Parameter(torch.empty(CONTEXT_LENGTH, width))
        self.blocks = nn.ModuleList(_TextBlock(width, heads, layers) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.project = perceptron(width, out, out)
        self.context = nn.Embedding(context, out)
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)

    def forward(self, text_ids: Tensor) -> Tensor:
        """Return queries ``B T+context C``.

        Args:
            text_ids: ``B T 77``, the tokens of T sentences about each image.

        Raises:
            WiringError: If a token has no embedding.
        """
        distinct, which = text_ids.flatten(0, 1).unique(dim=0, return_inverse=True)
        ends = (distinct == END).int().argmax(1)
        read = distinct[:, : int(ends.max()) + 1].contiguous()
        encoded = self.project(self._encode(read, ends))
        queries = encoded[which].unflatten(0, text_ids.shape[:2])
        context = self.context.weight.to(queries.dtype).expand(len(queries), -1, -1)
        return torch.cat([queries, context], 1)

    def _encode(self, ids: Tensor, ends: Tensor) -> Tensor:
        """Return what sentences ``S N`` come to at their ends, ``S C``."""
        rows = torch.searchsorted(self.tokens, ids).clamp(max=len(self.tokens) - 1)
        if not torch.equal(self.tokens[rows], ids):
            strange = sorted(set(ids.unique().tolist()) - set(self.tokens.tolist()))
            raise WiringError(
                f"sentences hold the tokens {strange[:5]}, expected those of the vocabulary that "
                "the text encoder was built with"
            )
        length = ids.shape[1]
        x = self.embed(rows) + self.positions[:length]
        causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        for block in self.blocks:
            x = block(x, causal)
        return self.norm(x)[torch.arange(len(ids), device=ids.device), ends]


class _TextBlock(nn.Module):
    """Self-attention and a feed-forward part, each after a norm."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_inner = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 4 * width)
        self.outer = nn.Linear(4 * width, width)
        residual = (2 * width * depth) ** -0.5
        nn.init.normal_(self.attention.project.weight, std=width**-0.5)
        nn.init.normal_(self.attention.output.weight, std=residual)
        nn.init.normal_(self.inner.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(self.outer.weight, std=residual)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        normed = self.norm_attention(x)
        x = x + self.attention(normed, normed, normed, allowed)
        hidden = self.inner(self.norm_inner(x))
        # CLIP's approximation of GELU.
        return x + self.outer(hidden * torch.sigmoid(1.702 * hidden))
