"""Make one table of docs/results.md from presets.

Usage: python benchmarks/results.py TABLE. Every step is a `unienc` command that resumes or does
nothing when repeated, so an interrupted table goes on where it was. Runs, stores and reports stay
under runs/results/.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "runs" / "results"
PAGE = ROOT / "docs" / "results.md"


@dataclass(frozen=True)
class Row:
    """One line of a table: a preset, changed a little, trained once per seed."""

    label: str
    preset: str
    sets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Table:
    """A table: the worlds, the rows, and what to read from each report."""

    caption: str
    world: tuple[str, ...]
    rows: tuple[Row, ...]
    columns: tuple[str, ...] = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
    subsets: tuple[str, ...] = ("static", "moving")
    notes: str = ""
    published: tuple[tuple[str, str], ...] = ()


TABLES = {
    "depth": Table(
        caption="Self-supervised depth on held-out cities, 96x320, median-scaled, 0.5 to 80 m.",
        world=("--train", "40x40", "--val", "15x75", "--test", "1x75", "--seed", "0"),
        rows=(
            Row("`unified-tiny`, 1,200 steps", "unified-tiny"),
            Row("`unified-tiny`, 3,900 steps", "unified-tiny", ("stages.0.steps=3900",)),
        ),
        published=(
            ("Unified encoder, KITTI 192x640", ".109 .818 4.654 .184 .884 .963 .983"),
            ("Monodepth2, KITTI 192x640", ".115 .903 4.863 .193 .877 .959 .981"),
        ),
    ),
}


def unienc(*arguments: object) -> str:
    """Run one `unienc` command and return its stdout; progress stays visible."""
    command = [str(Path(sys.executable).with_name("unienc")), *map(str, arguments)]
    print("$", *command[1:], file=sys.stderr, flush=True)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def evaluate(table: Table, name: str) -> list[tuple[Row, list[dict]]]:
    """Render, train and evaluate what is not done yet; return each row's reports."""
    folder = WORK / name
    unienc("prepare-data", "synth-city", "--out", folder / "city", *table.world)
    results = []
    for i, row in enumerate(table.rows):
        reports = []
        for seed in row.seeds:
            run = folder / f"row{i}-{row.preset}-{seed}"
            sets = [word for override in row.sets for word in ("--set", override)]
            unienc(
                "train-student", folder / "city", "--preset", row.preset, *sets,
                "--seed", seed, "--out", run,
            )  # fmt: skip
            report = run / "eval-depth.json"
            if not report.exists():
                report.write_text(
                    unienc("eval-depth", folder / "city", "--checkpoint", run, "--json")
                )
            reports.append(json.loads(report.read_text()))
        results.append((row, reports))
    return results


def cell(values: list[float]) -> str:
    """Return mean and, for several seeds, standard deviation."""
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def render(table: Table, results: list[tuple[Row, list[dict]]]) -> str:
    """Return the table as Markdown."""
    header = ["", "seeds", *table.columns, *(f"abs_rel {s}" for s in table.subsets)]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row, reports in results:
        cells = [cell([r["metrics"][c] for r in reports]) for c in table.columns]
        cells += [cell([r["subsets"][s]["abs_rel"] for r in reports]) for s in table.subsets]
        lines.append(f"| {row.label} | {len(reports)} | " + " | ".join(cells) + " |")
    for label, scores in results[0][1][0]["baselines"].items():
        cells = [f"{scores[c]:.3f}" for c in table.columns] + [""] * len(table.subsets)
        lines.append(f"| baseline: {label} | | " + " | ".join(cells) + " |")
    for label, figures in table.published:
        cells = [*figures.split(), *[""] * len(table.subsets)]
        lines.append(f"| {label} (other data: not comparable) | | " + " | ".join(cells) + " |")
    first = results[0][1][0]
    return "\n".join(
        [table.caption, "", *lines, "", f"{first['num_images']} images. {table.notes}".strip()]
    )


def write(name: str, text: str) -> None:
    """Put the table between its markers in docs/results.md."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    if not pattern.search(page):
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    PAGE.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page), encoding="utf-8")


def main() -> None:
    """Make one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=sorted(TABLES))
    name = parser.parse_args().table
    text = render(TABLES[name], evaluate(TABLES[name], name))
    write(name, text)
    print(text)


if __name__ == "__main__":
    main()
