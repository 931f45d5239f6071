"""Order and chance without state: everything is a function of (seed, stream, step, slot).

Random numbers come from the counter-based generator Philox: the key is (seed, stream), the counter
says what the number is for. There is nothing to save and nothing to restore, so a run resumed at
any step, with any worker count, sees what the uninterrupted run saw.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

_ORDER, _AUGMENT = 1, 2
_WORD = (1 << 64) - 1


def uniforms(seed: int, stream: str, step: int, slot: int, count: int) -> np.ndarray:
    """Draw the numbers that augment the item at (step, slot).

    Returns:
        `count` float64 in [0, 1).
    """
    return (_raw(seed, stream, _AUGMENT, step, slot, count) >> np.uint64(11)) * 2.0**-53


@lru_cache(maxsize=8)
def epoch_order(seed: int, stream: str, epoch: int, size: int) -> np.ndarray:
    """Return the order in which an epoch visits `size` items: a permutation, int64."""
    order = np.argsort(_raw(seed, stream, _ORDER, epoch, 0, size), kind="stable")
    order.flags.writeable = False
    return order


def item_index(seed: int, stream: str, step: int, slot: int, batch_size: int, size: int) -> int:
    """Return which of `size` items lies at (step, slot).

    Steps run through epochs without a break: a batch may end one and begin the next, so no item
    is dropped and every item is visited once an epoch.

    Args:
        seed: Seed of the run.
        stream: Name of the stream; streams of equal size are shuffled differently.
        step: Step of the run, from 0.
        slot: Place in the batch of all ranks together.
        batch_size: Slots of a step, all ranks together.
        size: Items in the stream.
    """
    epoch, place = divmod(step * batch_size + slot, size)
    return int(epoch_order(seed, stream, epoch, size)[place])


def _raw(seed: int, stream: str, purpose: int, a: int, b: int, count: int) -> np.ndarray:
    # Words of the generator itself, not numpy's distributions, whose streams may change.
    name = int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")
    key = np.array([seed & _WORD, name], np.uint64)
    counter = np.array([0, purpose, a, b], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)
