"""``--fail-under`` and ``--fail-over`` of the evaluating verbs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from unienc_core.errors import ThresholdError


class Limits:
    """What the figures of a report must not pass.

    Args:
        fail_under: ``NAME=VALUE`` strings, or None.
        fail_over: The same.
        names: Figures that the report will have. A slip shows here, before the long work.

    Raises:
        UsageError: If a limit cannot be understood.
    """

    def __init__(
        self,
        fail_under: Sequence[str] | None,
        fail_over: Sequence[str] | None,
        names: Collection[str],
    ) -> None:
        from unienc_core.workflows.thresholds import parse_thresholds

        self._under, self._over = fail_under or (), fail_over or ()
        parse_thresholds(self._under, names, "--fail-under")
        parse_thresholds(self._over, names, "--fail-over")

    def check(self, figures: Mapping[str, float | None]) -> None:
        """Check the figures of a report that has been printed.

        Raises:
            ThresholdError: If one lies beyond its limit.
        """
        from unienc_core.workflows.thresholds import check_thresholds

        try:
            check_thresholds(figures, self._under, self._over)
        except ThresholdError as error:
            error.reported = True  # the report is the one document on stdout
            raise
