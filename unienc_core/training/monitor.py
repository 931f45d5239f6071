"""Tell early when self-supervised learning of depth and motion has not started or has collapsed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Means = Mapping[str, float]

FIRST_STEP = 300
"""A healthy start needs about this many steps; before it, no verdict."""

AVERAGED_STEPS = 75
"""Length of the running averages."""

BLACK_MASK = 0.005
"""A motion mask below this on average is black; some 5% of the pixels of a street move."""

_WARPED, _IDENTITY = "photometric/warped", "photometric/identity"
_KEPT = "photometric/automask_keep"


def _at_identity(means: Means) -> str | None:
    # Not the loss itself: the auto-mask takes the smaller of both errors at every pixel, so that
    # it lies well under the identity level even while nothing has been learnt.
    warped, identity = means[_WARPED], means[_IDENTITY]
    if warped < 0.97 * identity:
        return None
    return (
        f"the loss is at the identity level: warped views miss the target by {warped:.3f}, "
        f"unwarped ones by {identity:.3f}; depth and pose have not started to learn"
    )


def _sideways(means: Means) -> str | None:
    x, y, z = (means[f"mean_abs_t{axis}"] for axis in "xyz")
    if z >= max(x, y):
        return None
    return (
        f"mean |t| is x {x:.4f}, y {y:.4f}, z {z:.4f}: a car moves along z, "
        "so this translation explains something else"
    )


def _far_away(means: Means) -> str | None:
    disparity = means["mean_disparity"]
    if disparity >= 0.02:
        return None
    return f"mean disparity is {disparity:.4f}, under 0.02: depth is running off to infinity"


def _masked_out(means: Means) -> str | None:
    kept = means[_KEPT]
    if kept >= 0.5:
        return None
    return f"the auto-mask keeps {kept:.0%} of the pixels, under half: little is left to learn from"


def _black_mask(means: Means) -> str | None:
    mask = means["mean_motion_mask"]
    if mask >= BLACK_MASK:
        return None
    return (
        f"the motion mask is black: {mask:.4f} on average, under {BLACK_MASK}; its sparsity and "
        "smoothness weigh more than what it explains"
    )


_CHECKS: dict[str, tuple[tuple[str, ...], Callable[[Means], str | None]]] = {
    "identity": ((_WARPED, _IDENTITY), _at_identity),
    "translation": (("mean_abs_tx", "mean_abs_ty", "mean_abs_tz"), _sideways),
    "disparity": (("mean_disparity",), _far_away),
    "automask": ((_KEPT,), _masked_out),
    "motion_mask": (("mean_motion_mask",), _black_mask),
}


class CollapseMonitor:
    """Running averages of a run's vital signs, and one warning for each that is wrong.

    Attributes:
        warnings: Name of each warning given to the step it was given at.
    """

    def __init__(self) -> None:
        self.warnings: dict[str, int] = {}
        self._averages: dict[str, float] = {}

    def update(self, means: Means, steps: int, done: int) -> list[str]:
        """Take the means of the last `steps` steps and return the warnings they give rise to.

        Args:
            means: Means of logged values; a check whose values are not logged is not made.
            steps: Steps that the means cover.
            done: Finished steps of the run.
        """
        keep = max(0.0, 1.0 - steps / AVERAGED_STEPS)
        for name in {name for names, _ in _CHECKS.values() for name in names} & means.keys():
            old = self._averages.get(name, means[name])
            self._averages[name] = keep * old + (1.0 - keep) * means[name]
        if done < FIRST_STEP:
            return []
        lines: list[str] = []
        for check, (names, verdict) in _CHECKS.items():
            if check in self.warnings or not means.keys() >= set(names):
                continue
            if reason := verdict(self._averages):
                self.warnings[check] = done
                lines.append(f"warning at step {done}, possible collapse: {reason}")
        return lines

    def state(self) -> dict[str, Any]:
        """Return what the next process needs, JSON-able."""
        return {"averages": dict(self._averages), "warnings": dict(self.warnings)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._averages = dict(state["averages"])
        self.warnings = dict(state["warnings"])
