"""`doctor`: what this machine has, what is missing, and the remedy for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "missing", "problem"]
"""All right; absent, but the work can be done without it; something that the work trips over."""


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        name: The thing.
        state: How it is.
        found: What was found, for people.
        remedy: What to do about it; empty where nothing needs to be done.
    """

    name: str
    state: State
    found: str
    remedy: str = ""


Check = Callable[[], Iterable[Finding]]


def examine() -> dict[str, Any]:
    """Look at this machine and try the main parts once, small, in a few seconds.

    Nothing is downloaded, and nothing is left behind.

    Returns:
        ``{"ok": bool, "findings": [{"name", "state", "found", "remedy"}, ...]}``; `ok` is False
        where one is a ``problem``.
    """
    from unienc_core.workflows import doctor_machine, doctor_trials

    checks = {**doctor_machine.CHECKS, **doctor_trials.CHECKS}
    findings = [finding for name, check in checks.items() for finding in run_check(name, check)]
    return {
        "ok": all(finding.state != "problem" for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }


def run_check(name: str, check: Check) -> list[Finding]:
    """Run a check; whatever it dies of is a finding, since broken parts die in many ways."""
    try:
        return list(check())
    except Exception as error:
        line = " ".join(str(error).split())
        remedy = "install the packages of constraints.txt again, or tell us this line"
        return [Finding(name, "problem", f"{type(error).__name__}: {line}", remedy)]


def format_examination(document: Mapping[str, Any]) -> str:
    """Return what was found as text: a line each, the remedy below."""
    findings = document["findings"]
    width = max(len(finding["name"]) for finding in findings)
    lines: list[str] = []
    for finding in findings:
        mark = "OK" if finding["state"] == "ok" else finding["state"]
        lines.append(f"{mark:<8} {finding['name']:<{width}}  {finding['found']}")
        if finding["remedy"]:
            lines.append(f"{'':<8} {'':<{width}}  -> {finding['remedy']}")
    count = sum(finding["state"] == "problem" for finding in findings)
    verdict = "this machine can do the work"
    if count:
        verdict = f"{count} {'problem' if count == 1 else 'problems'}, to be solved first"
    return "\n".join([*lines, "", verdict])
