"""`make results` with a stand-in for `unienc`: runs shared, resumed and failing, and the page."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import results  # noqa: E402
from results_page import (  # noqa: E402
    Results,
    busy,
    cell,
    duration,
    ordering,
    render,
    told_apart,
    wall_time,
)
from results_rows import STEERING, Column, Row, Run, Table, runs_of  # noqa: E402
from results_runs import Attempt, Workshop  # noqa: E402
from results_shared import WORLDS  # noqa: E402
from results_tables import TABLES  # noqa: E402

from unienc_core.metrics.depth import METRICS  # noqa: E402
from unienc_core.metrics.pose import POSE_METRICS  # noqa: E402
from unienc_core.metrics.steering import fold_statistics, sign_test  # noqa: E402
from unienc_core.workflows.motion_report import metric_names as motion_names  # noqa: E402
from unienc_core.workflows.seg_samples import METRICS as SEG_METRICS  # noqa: E402
from unienc_core.workflows.seg_samples import TASKS  # noqa: E402

COLUMNS = (
    Column("abs_rel", "metrics.abs_rel", ranks=True),
    Column("static", "subsets.static.abs_rel"),
    Column("moving", "subsets.moving.abs_rel"),
    Column("a1", "metrics.a1"),
)
DEPTH = Table(
    title="Depth",
    caption="Depth of toys.",
    world="toys",
    rows=(
        Row("good", "good", seeds=(0, 1, 2)),
        Row("bad", "bad", ("stages.0.steps=9",), (0, 1, 2)),
    ),
    columns=COLUMNS,
    published={"Others": {"abs_rel": ".115"}},
)
POSE = Table(
    title="Pose",
    caption="Pose of toys.",
    world="toys",
    rows=(Row("the good", "good", seeds=(0,)), Row("again", "good", seeds=(0, 1))),
    columns=(*COLUMNS, Column("rotation", "pose.rotation_deg", ranks=True)),
    evaluation=("--pose",),
)

START = Row("start", "good")
TAUGHT = Row("taught", "steer", verb=STEERING, start=START, world="roads", options=("--folds", "3"))
RANDOM = Row("random", "steer", verb=STEERING, world="roads", options=("--folds", "3"),
             against=TAUGHT)  # fmt: skip
STEER = Table(
    title="Steering",
    caption="Steering of toys.",
    world="toys",
    rows=(TAUGHT, RANDOM),
    columns=(
        Column("MSE", "metrics.test_mse.mean"),
        Column("of mean", "metrics.test_mse.mean", over="baselines.train_mean.test_mse.mean"),
    ),
    scored_by=STEERING,
    own_baselines=("train_mean",),
)


class Bench:
    """A place to make tables in, and what was called there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.page = folder, folder / "results.md"
        self.fake = folder / "fake_unienc.py"
        shutil.copy(Path(__file__).with_name("fake_unienc.py"), self.fake)
        self.page.write_text("# Results\n\nWords.\n", encoding="utf-8")

    def make(
        self, table: Table, *options: str, name: str = "toy", world=("--seed", "0"), **worlds
    ) -> int:
        return results.main(
            [name, *options],
            tables={name: table},
            worlds={table.world: world, **worlds},
            unienc=[sys.executable, str(self.fake)],
            work=self.folder / "work",
            page=self.page,
        )

    def calls(self, verb: str) -> list[list[str]]:
        """Return the options of each call of a verb since the last time."""
        log = self.folder / "calls.jsonl"
        calls = [json.loads(line) for line in log.read_text().splitlines()]
        return [words for first, *words in calls if first == verb]

    def row(self, label: str) -> list[str]:
        """Return the cells of the line of the page that starts with a label."""
        lines = self.page.read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith(f"| {label} "))
        return [part.strip() for part in line.split("|")[2:-1]]


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def test_a_table_from_nothing(bench, capsys) -> None:
    assert bench.make(DEPTH, "--jobs", "2") == 0
    assert len(bench.calls("prepare-data")) == 1
    trained = bench.calls("train-student")
    assert len(trained) == 6
    assert all(words[words.index("--threads") + 1] == "1" for words in trained)
    assert sum("stages.0.steps=9" in words for words in trained) == 3

    # Means and standard deviations of (0.19, 0.2, 0.21) and (0.39, 0.4, 0.41).
    assert bench.row("good") == ["3", "0.200 ± 0.010", "0.100 ± 0.000", "-", "0.800 ± 0.000"]
    assert bench.row("bad")[:2] == ["3", "0.400 ± 0.010"]
    assert bench.row("baseline: constant") == ["", "0.600", "", "", "0.250"]
    assert bench.row("Others (other data: not comparable)") == ["", ".115", "", "", ""]
    page = bench.page.read_text(encoding="utf-8")
    assert page.startswith(
        "# Results\n\nWords.\n\n## Depth\n\n<!-- toy: begin -->\nDepth of toys.\n"
    )
    assert "7 images; ± is the standard deviation over seeds." in page
    assert "Rows with several seeds differ (t-test, 5% over 1 comparison) in abs_rel." in page
    assert "Trained by different code: gggggggggggg (good, seed 0; good, seed 1; " in page
    assert "6 trainings of 10 min to 12 min, one thread each, 2 side by side on" in page
    assert "(Abacus 3000, torch 9.9)" in page
    shown = capsys.readouterr()
    assert shown.out.strip() in page
    assert "[6/6] " in shown.err


def test_a_repeated_table_evaluates_nothing_again_and_stays_the_same(bench) -> None:
    bench.make(DEPTH)
    page = bench.page.read_text(encoding="utf-8")
    assert bench.make(DEPTH) == 0
    assert len(bench.calls("eval-depth")) == 6
    assert bench.page.read_text(encoding="utf-8") == page
    # A run that was trained anew is evaluated anew.
    record = next(bench.folder.glob("work/toys/good--seed-1/run/run.json"))
    os.utime(record, (time.time() + 5,) * 2)
    bench.make(DEPTH)
    assert len(bench.calls("eval-depth")) == 7


def test_reports_of_other_code_are_made_again(bench) -> None:
    (bench.folder / "code").write_text("0123456789ab")
    bench.make(DEPTH)
    (bench.folder / "code").unlink()
    bench.make(DEPTH)
    bench.make(DEPTH)
    assert len(bench.calls("train-student")) == 18
    assert len(bench.calls("eval-depth")) == 12


def test_rows_are_scored_by_what_they_predict(bench) -> None:
    rows = (Row("masks", "good", has_depth=False), Row("both", "good", seeds=(0, 1)))
    columns = (Column("abs_rel", "metrics.abs_rel"), Column("PQ", "panoptic.metrics.pq"),
               Column("two", "panoptic.per_class.{road,car}.pq"))  # fmt: skip
    table = replace(DEPTH, rows=rows, columns=columns, tasks=("panoptic",))
    assert bench.make(table) == 0
    assert len(bench.calls("eval-seg")) == len(bench.calls("eval-depth")) == 2
    assert bench.row("masks")[1:] == ["-", "0.300", "0.500"]
    assert bench.row("both")[1] != "-"


def test_rows_and_tables_share_runs(bench) -> None:
    assert bench.make(DEPTH, name="depth") == 0
    assert bench.make(POSE, name="pose") == 0
    trained = [tuple(words) for words in bench.calls("train-student")]
    assert len(trained) == 6 + 2
    assert len(set(trained)) == 6  # the second time they say that they are finished
    assert len(bench.calls("eval-depth")) == 6 + 2  # two more, with --pose
    attempts = bench.folder / "work/toys/good--seed-0/attempts.jsonl"
    assert len(attempts.read_text().splitlines()) == 3  # one training, two evaluations
    one, two = bench.row("the good"), bench.row("again")
    assert (one[0], two[0]) == ("1", "2")
    assert bench.row("baseline: straight ahead") == ["", "", "", "", "", "1.500"]
    page = bench.page.read_text(encoding="utf-8")
    assert page.index("## Depth") < page.index("<!-- depth: end -->") < page.index("## Pose")
    assert "7 images, 6 pairs, 2 snippets;" in page
    assert "One seed, so not ordered by these runs: the good." in page


def test_rows_begin_where_others_end(bench) -> None:
    """What a row needs is trained first, once, with the seed of the row if there is one."""
    start = Row("start", "good", seeds=(0, 1))
    teacher = Row("teacher", "bad", verb="train-teacher")
    on = Row("on", "good", seeds=(0, 1), stages="2..4", start=start)
    taught = Row("taught", "good", ("a=1",), (0, 1), "distill", start=on, teacher=teacher)
    table = replace(DEPTH, rows=(taught, on), scored_by="eval-motion")
    assert bench.make(table, "--jobs", "1") == 0
    assert len(bench.calls("eval-motion")) == 4
    assert len(bench.calls("train-student")) == 4
    assert len(bench.calls("train-teacher")) == 1

    place = bench.folder / "work/toys"
    names = {run.seed: run.name for run in runs_of(table, on)}
    begun = [words for words in bench.calls("train-student") if "--init" in words]
    assert [words[words.index("--stages") + 1] for words in begun] == ["2..4"] * 2
    assert {words[words.index("--init") + 1] for words in begun} == {
        str(place / f"good--seed-{seed}/run") for seed in (0, 1)
    }
    taught_by = bench.calls("distill")
    assert {words[words.index("--teacher") + 1] for words in taught_by} == {
        str(place / "bad--seed-0/run")
    }
    assert [words[words.index("--init") + 1] for words in taught_by] == [
        str(place / names[seed] / "run") for seed in (0, 1)
    ]
    page = bench.page.read_text(encoding="utf-8")
    assert "7 trainings of 10 min to 11 min" in page


def test_what_tests_itself_in_another_world(bench) -> None:
    """Trained once in its own world, from a run of the table's, and compared fold by fold."""
    for _ in range(2):
        assert bench.make(STEER, roads=("roads", "--long")) == 0
    assert bench.row("taught") == ["1", "2.000", "0.500"]
    assert bench.row("random") == ["1", "2.500", "0.625"]
    page = bench.page.read_text(encoding="utf-8")
    paired = "1.25 times the error of taught, a lower one in 0 of 3 folds (sign test, p = 0.25)"
    assert f"random has {paired}" in page
    assert "baseline" not in page
    assert "\n3 images.\n" in page
    assert "(30 s" not in page and "of 30 s to 10 min" in page
    words = next(words for words in bench.calls("finetune-steering") if "--init" in words)
    work = bench.folder / "work"
    assert words[0] == str(work / "roads/store")
    assert words[words.index("--grids") + 1] == str(work / "roads/grids")
    assert words[words.index("--init") + 1] == str(work / "toys/good--seed-0/run")
    prepared = bench.calls("prepare-data")
    assert ["roads", "--long", "--out", str(work / "roads/store")] in prepared
    assert len(bench.calls("train-student")) == 2  # it says where nothing is to do


def test_rows_of_a_world_that_cannot_be_made_fail_alone(bench) -> None:
    table = replace(STEER, rows=(replace(RANDOM, world=None, against=None), TAUGHT))
    assert bench.make(table, roads=("roads", "--fail")) == 4
    assert bench.row("random")[0] == "1"
    assert bench.row("taught")[0] == "0 of 1"


def test_what_needs_a_failed_run_is_not_trained(bench) -> None:
    start = Row("start", "broken", seeds=(0, 1))
    on = Row("on", "good", seeds=(0, 1), start=start)
    assert bench.make(replace(DEPTH, rows=(on,))) == 4
    assert bench.row("on")[:2] == ["1 of 2", "0.190"]
    assert len(bench.calls("train-student")) == 3


def test_the_time_of_trainings_that_other_tables_made_is_not_counted(bench) -> None:
    start, own = Row("start", "good"), Row("own", "bad", start=Row("start", "good"))
    tables = {"first": replace(DEPTH, rows=(start,)), "second": replace(DEPTH, rows=(start, own))}
    shared = results.made_before(tables, "second")
    assert shared == set(runs_of(DEPTH, start))
    assert results.made_before(tables, "first") == set()
    workshop = Workshop(bench.folder / "w", [sys.executable, str(bench.fake)], 1, print)
    workshop.prepare("toys", ())
    made = results.collect(tables["second"], workshop, shared)
    assert (len(made.training), made.shared) == (1, 1)
    assert wall_time(made).endswith(" 1 more are those of tables above.")


def test_a_failing_row_does_not_stop_the_others(bench, capsys) -> None:
    table = replace(
        DEPTH, rows=(Row("frail", "broken", seeds=(0, 1)), Row("lost", "broken", seeds=(1,)),
                     Row("good", "good"))
    )  # fmt: skip
    assert bench.make(table) == 4
    assert bench.row("frail")[:2] == ["1 of 2", "0.290"]
    assert bench.row("lost")[:2] == ["0 of 1", "-"]
    assert bench.row("good")[:2] == ["1", "0.190"]
    page = bench.page.read_text(encoding="utf-8")
    assert "Failed, and missing here: frail, seed 1; lost, seed 1." in page
    assert str(bench.folder) not in page
    said = capsys.readouterr().err
    log = bench.folder / "work/toys/broken--seed-1/log.txt"
    assert f"train-student ended with 6 (error: loss is not finite); see {log}" in said
    assert log.read_text().splitlines()[1:] == ["step 3", "error: loss is not finite"]


def test_without_a_world_nothing_is_trained(bench, capsys) -> None:
    assert bench.make(DEPTH, world=("--fail",)) == 1
    assert "error: no space for the city" in capsys.readouterr().err
    assert bench.calls("train-student") == []
    assert "toy" not in bench.page.read_text(encoding="utf-8")


@pytest.mark.parametrize("jobs", [1, 2])
def test_trainings_run_side_by_side(bench, jobs: int) -> None:
    table = replace(DEPTH, rows=(Row("both", "good" if jobs == 1 else "meet", seeds=(0, 1)),))
    assert bench.make(table, "--jobs", str(jobs)) == 0
    trained = bench.calls("train-student")
    workers = {words[words.index("--workers") + 1] for words in trained}
    spare = max(0, Workshop(bench.folder, [], jobs, print).cores - jobs)
    assert workers == {str(min(2, spare // jobs))}


def test_what_still_has_to_wait_keeps_nobody_from_work(bench) -> None:
    """`on` waits for `meet`, which waits for the last row: that goes before `on`."""
    short, meet = Row("short", "good"), Row("meet", "meet")
    on = Row("on", "good", start=meet)
    last = Row("last", "meet", ("a=1",), start=short)
    assert bench.make(replace(DEPTH, rows=(short, meet, on, last)), "--jobs", "2") == 0


def test_jobs_must_be_a_number(bench, capsys) -> None:
    for wrong in ("0", "-1", "two"):
        with pytest.raises(SystemExit) as caught:
            bench.make(DEPTH, f"--jobs={wrong}")
        assert caught.value.code == 2
    assert "is not a number of 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_table_goes_on(bench, number: signal.Signals) -> None:
    """The commands at work are told to save, and the same command finishes the table."""
    driver = f"""
import sys
sys.path[:0] = [{str(BENCHMARKS)!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
import results, test_results_tables as here
from dataclasses import replace
results.stop_politely()
bench = here.Bench(Path({str(bench.folder)!r}))
rows = (here.Row("slow", "slow"), here.Row("good", "good"), here.Row("next", "slow", seeds=(1,)))
sys.exit(bench.make(replace(here.DEPTH, rows=rows), "--jobs", "1"))
"""
    command = [sys.executable, "-c", driver]
    log = bench.folder / "work/toys/slow--seed-0/log.txt"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not (log.exists() and "1/9 steps" in log.read_text()):
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on from here" in said
    assert (log.parent / "run/saved").exists()
    assert len(bench.calls("train-student")) == 1

    (bench.folder / "work/toys/slow--seed-1/run").mkdir(parents=True)
    (bench.folder / "work/toys/slow--seed-1/run/saved").touch()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert bench.row("slow")[0] == "1"


def test_ordering_says_what_the_seeds_do_not_tell_apart() -> None:
    def row(label: str, *values: float) -> tuple[Row, list[dict]]:
        return Row(label, label), [{"metrics": {"abs_rel": v, "a1": 9 * v}} for v in values]

    table = replace(DEPTH, columns=COLUMNS[:1])
    near = [row("a", 0.20, 0.21, 0.22), row("b", 0.21, 0.22, 0.23), row("c", 0.3, 0.31, 0.32)]
    assert ordering(table, near) == (
        "Not ordered by these runs (t-test, 5% over 3 comparisons): abs_rel: a and b."
    )
    assert ordering(table, [near[0], near[2], row("d", 0.5)]) == (
        "Rows with several seeds differ (t-test, 5% over 1 comparison) in abs_rel. "
        "One seed, so not ordered by these runs: d."
    )
    assert ordering(table, [row("d", 0.5), row("e", 0.6)]) == (
        "One seed, so not ordered by these runs: d, e."
    )
    assert ordering(table, near[:1]) == ordering(replace(table, columns=COLUMNS[1:]), near) == ""


def test_rows_without_a_figure_are_not_compared() -> None:
    blind = [(Row("blind", "blind"), [{"metrics": {}}, {"metrics": {}}])]
    seeing = [(Row(n, n), [{"metrics": {"abs_rel": v}} for v in (0.2, 0.2 + s)])
              for n, s in (("a", 0.1), ("b", 0.2))]  # fmt: skip
    said = ordering(replace(DEPTH, columns=COLUMNS[:1]), [*blind, *seeing])
    assert said == "Not ordered by these runs (t-test, 5% over 1 comparison): abs_rel: a and b."


def test_baselines_come_from_whichever_report_has_them() -> None:
    reports = [{"num_images": 3, "baselines": {"constant": {"abs_rel": 0.6}, "mine": {"a1": 1.0}}},
               {"num_images": 3, "baselines": {"constant": {"abs_rel": 0.9}, "flat": {"a1": 0.1}}},
               {"num_images": 3, "baselines": {"unasked": {"rmse": 1.0}}}]  # fmt: skip
    table = replace(DEPTH, own_baselines=("mine",), published={})
    text = render(table, Results([(Row("a", "a", seeds=(0, 1, 2)), reports)]))
    lines = [line for line in text.splitlines() if line.startswith("| baseline")]
    assert lines == [
        "| baseline: constant |  | 0.600 |  |  |  |",
        "| baseline: flat |  |  |  |  | 0.100 |",
    ]


def test_told_apart_by_hand() -> None:
    # Both variances are 1, so the standard error of the difference is sqrt(2/3) = 0.8165; the
    # table of t for 4 degrees of freedom has 2.776 for 5% and 3.495 for 2.5%, two-sided.
    one = [-1.0, 0.0, 1.0]
    assert not told_apart(one, [v + 2.26 for v in one])
    assert told_apart(one, [v + 2.27 for v in one])
    assert not told_apart(one, [v + 2.85 for v in one], comparisons=2)
    assert told_apart(one, [v + 2.86 for v in one], comparisons=2)
    # Pooled: (1 * 0.5 + 2 * 4) / 3 = 17/6, times (1/2 + 1/3): its root is 1.5366; t is 3.182.
    two, three = [0.0, 1.0], [-2.0, 0.0, 2.0]
    assert not told_apart(two, [v + 0.5 + 4.88 for v in three])
    assert told_apart(two, [v + 0.5 + 4.90 for v in three])
    assert not told_apart([1.0, 1.0], [1.0, 1.0])
    assert not told_apart([0.0, 0.1], [9.0])


def test_time_is_counted_once_where_runs_overlap() -> None:
    def attempt(start: float, end: float, jobs: int = 2) -> Attempt:
        return Attempt(start, end, jobs, cores=4)

    overlapping = [attempt(10, 70), attempt(0, 30), attempt(20, 40), attempt(1000, 1060)]
    assert busy(overlapping) == 70 + 60
    made = Results([], training=[61.0, 59.0], attempts=overlapping, machine="Abacus")
    assert wall_time(made) == (
        "2 trainings of 59 s to 61 s, one thread each, 2 side by side on 4 cores (Abacus): 2 min "
        "of wall time with the evaluations."
    )
    assert wall_time(Results([])) == ""
    assert [duration(s) for s in (3, 89, 95, 3599, 5400)] == [
        *("3 s", "89 s", "2 min", "1 h 0 min", "1 h 30 min")
    ]


def test_cells() -> None:
    assert cell([]) == "-"
    assert cell([0.12345]) == "0.123"
    assert cell([1.0, 2.0, 3.0]) == "2.000 ± 1.000"


def test_runs_are_told_apart_by_all_that_decides_them() -> None:
    rows = (Row("a", "p"), Row("b", "p", ("x=[1, 2]",)), Row("c", "p", ("x=[1, 3]",)),
            Row("d", "q"), Row("e", "p", seeds=(1,)))  # fmt: skip
    names = {run.name for row in rows for run in runs_of(DEPTH, row)}
    assert len(names) == 5
    assert all(set(name).isdisjoint("/ []") for name in names)
    assert Run("w", "p", ("stages.0.steps=9",), 3).name == "p--stages.0.steps=9--seed-3"
    names = {Run("w", "p", (f"a={'9' * 240}{n}",), 3).name for n in range(2)}
    assert len(names) == 2
    assert max(map(len, names)) < 255


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_shipped_tables_name_what_exists(table: Table) -> None:
    assert set(table.worlds()) <= set(WORLDS)
    titles = [column.title for column in table.columns]
    assert len(set(titles)) == len(titles)
    assert all(set(figures) <= set(titles) for figures in table.published.values())
    for column in table.columns:
        group, *path, name = column.path.split(".")
        if table.scored_by == STEERING:
            about = (*path, name)[1:] if group == "baselines" else (*path, name)
            assert group == "metrics" or path[0] in table.own_baselines
            assert about[0] in ("train_mse", "test_mse", "against")
            assert about[1] in {**fold_statistics([1.0]), **sign_test([1.0])}
            continue
        if table.scored_by == "eval-motion" and group in ("metrics", "baselines"):
            assert name in motion_names()
            continue
        if group in TASKS:
            assert group in table.tasks
            known = SEG_METRICS[group] if path == ["metrics"] else ("iou",)
            assert name in known
            continue
        assert name in {"metrics": METRICS, "pose": POSE_METRICS, "subsets": METRICS}[group]
        assert path in ([], ["static"], ["moving"])
        assert group != "pose" or "--pose" in table.evaluation or table.scored_by == "eval-motion"


@pytest.mark.slow
def test_the_shipped_columns_are_in_the_reports_of_the_real_command(tmp_path) -> None:
    page = tmp_path / "results.md"
    page.write_text("# Results\n", encoding="utf-8")
    sets = ("stages.0.steps=2", "image_size=[64, 96]")
    table = replace(TABLES["pose"], rows=(Row("toy", "unified-tiny", sets),))
    world = ("synth-city", "--train", "1x6", "--val", "1x7", "--test", "1x2", "--size", "64x96")
    code = results.main(
        ["pose"], tables={"pose": table}, worlds={"city": world}, work=tmp_path / "work", page=page
    )
    assert code == 0
    lines = page.read_text(encoding="utf-8").splitlines()
    cells = next(line for line in lines if line.startswith("| toy ")).split("|")[3:-1]
    assert len(cells) == len(table.columns)
    known = [cell for cell, column in zip(cells, table.columns, strict=True)
             if not column.path.startswith("subsets.moving")]  # fmt: skip
    assert all(float(cell) >= 0 for cell in known)
    assert any(line.startswith("7 images, 6 pairs, 3 snippets.") for line in lines)
