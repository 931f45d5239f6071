"""Triplets of one store and labels of another, trained together: kills, workers and ranks."""

import multiprocessing
import random

import pytest
import torch
from labels_toys import write_both, write_labelled_store
from ranks import run_ranks
from test_kill_resume import final_bytes, log_of
from tiny_store import write_tiny_store
from training_runs import Crash, crash_at

from unienc_core.contracts import Reporter, StepContext
from unienc_core.errors import DataError, UsageError, WiringError
from unienc_core.losses.objective import Objective
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset
from unienc_core.training.distributed import World
from unienc_core.training.module import TrainModule
from unienc_core.workflows.inspect_preset import check_preset
from unienc_core.workflows.train import train
from unienc_core.workflows.training_data import TrainingData


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_both(tmp_path_factory.mktemp("both"))


def run(inputs, out, *, workers=0, reporter=None, **options):
    preset, stores = inputs
    common = {"device": "cpu", "threads": 1, "checkpoint_every": 3}
    return train(
        str(preset), stores, out=out, workers=workers, reporter=reporter, **{**common, **options}
    )


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    said = []
    report = run(inputs, out, reporter=Reporter(say=said.append))
    return out, report, said


def test_both_streams_train_and_each_says_its_stores(inputs, whole):
    out, report, said = whole
    preset, (triplets, labels) = inputs
    assert report["steps"] == 14
    assert f"stream triplets: 8 items of {triplets}" in said
    assert f"stream labels: 7 items of {labels}" in said
    last = log_of(out)[-1]
    assert last["loss/toy_inside"] > 0
    assert last["loss/photometric"] > 0


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_crashes_and_kills_change_nothing(inputs, whole, tmp_path, workers):
    out = tmp_path / "torn"
    with pytest.raises(Crash):
        run(inputs, out, workers=workers, reporter=crash_at(5))
    context = multiprocessing.get_context("fork")
    reached = context.Value("i", 0)

    def tell(progress):
        reached.value = progress.done

    arguments = {"workers": workers, "reporter": Reporter(progress=tell)}
    process = context.Process(target=run, args=(inputs, out), kwargs=arguments)
    process.start()
    while process.is_alive() and reached.value < 11:
        process.join(0.002)
    process.join(random.Random(workers).uniform(0, 0.05))  # noqa: S311
    process.kill()
    process.join()
    run(inputs, out, workers=workers)
    assert final_bytes(out) == final_bytes(whole[0])
    assert log_of(out) == log_of(whole[0])


def test_two_processes_have_disjoint_slots_of_both_streams(inputs):
    preset, stores = load_preset(str(inputs[0])), inputs[1]
    one = TrainingData(preset, stores, 0, 0)
    ranks = [TrainingData(preset, stores, 0, 0, world=World(rank, 2)) for rank in range(2)]
    for draw in (0, 5):
        expected = next(iter(one.draws(draw)))
        parts = [next(iter(data.draws(draw))) for data in ranks]
        for stream, batch in expected.items():
            for key, value in batch.items():
                pieces = [part[stream][key] for part in parts]
                if isinstance(value, list):
                    joined = [*pieces[0], *pieces[1]]
                    assert all(torch.equal(a, b) for a, b in zip(joined, value, strict=True))
                else:
                    assert torch.equal(torch.cat(pieces), value)
    assert ranks[0].describe(3) == one.describe(3)
    assert one.describe(3).count("labels/image-") == 2


def test_two_processes_train_on_ragged_targets(inputs, tmp_path):
    short = ("stages.0.steps=2", "stages.1.steps=3")

    def work(world):
        run(inputs, tmp_path / "two", world=world, overrides=short)

    assert run_ranks(2, work, tmp_path) == [0, 0]
    assert log_of(tmp_path / "two")[-1]["step"] == 5


def test_a_dry_run_and_presets_check_see_both_streams(inputs, tmp_path):
    report = run(inputs, tmp_path / "dry", dry_run=True)
    assert report["items"] == 8 + 7
    assert not (tmp_path / "dry").exists()
    preset = load_preset(str(inputs[0]))
    assert check_preset(preset)["heads.masks"] > 0
    wrong = load_preset(str(inputs[0]), ["streams.triplets.labels=[task]"])
    with pytest.raises(WiringError, match=r"streams.triplets.labels: 'task' is for streams of"):
        check_preset(wrong)
    lacking = load_preset(str(inputs[0]), ["streams.labels.labels=[task]"])
    with pytest.raises(WiringError, match="needs 'target_masks' in training"):
        check_preset(lacking)


def test_stores_that_serve_no_stream(inputs, tmp_path):
    preset, (triplets, labels) = inputs
    with pytest.raises(DataError, match=r"^stream 'labels' needs a store .*lacks instance, seman"):
        run((preset, [triplets]), tmp_path / "a", dry_run=True)
    with pytest.raises(DataError, match=r"^stream 'triplets': no triplet in [^\n]*labels$"):
        run((preset, [labels]), tmp_path / "b", dry_run=True)
    said = []
    spare = write_tiny_store(tmp_path / "short", frames=2)
    stores = [triplets, labels, spare]
    run((preset, stores), tmp_path / "c", dry_run=True, reporter=Reporter(say=said.append))
    assert f"{spare}: no stream uses this store" in said


def test_all_items_without_targets_train(inputs, tmp_path):
    """Instances only, of frames without any: the loss and its gradient stay finite."""
    preset, (triplets, _) = inputs
    bare = write_labelled_store(tmp_path / "bare", images=1)
    short = ("stages.0.steps=1", "stages.1.steps=3")
    report = run((preset, [triplets, bare]), tmp_path / "run", overrides=short)
    assert report["bad_steps"] == 0
    with pytest.raises(UsageError, match="do not divide among 3 processes"):
        TrainingData(load_preset(str(preset)), inputs[1], 0, 0, world=World(0, 3))


def test_no_head_runs_on_a_stream_that_no_term_reads_it_of(inputs):
    preset, stores = inputs
    made = load_preset(str(preset))
    module = TrainModule(build_network(made), Objective(made), made)
    images: list[int] = []
    module.network.heads["depth"].register_forward_hook(
        lambda head, given, out: images.append(len(given[0].images))
    )
    streams = next(iter(TrainingData(made, stores, seed=0, workers=0).draws(0)))
    module(streams, made.stages[0], StepContext())
    assert images == [2]  # the triplets; labelled frames need no depth
