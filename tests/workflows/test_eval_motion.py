"""`eval-motion`: an independent evaluation pixel by pixel, exact truth as prediction, stores with
less than everything, and the verb."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from motion_stores import (
    HEADS,
    KEYS,
    OWN,
    SIZE,
    VOID,
    KnownPredictor,
    random_frames,
    random_motion,
    write_motion_store,
)

from unienc_core.data.store import Store
from unienc_core.errors import DataError, IntegrityError, UsageError
from unienc_core.metrics.motion import MASK_THRESHOLDS, SCORE_THRESHOLDS
from unienc_core.workflows import eval_motion as workflow
from unienc_core.workflows import origins
from unienc_core.workflows.eval_motion import eval_motion, figures, format_report, metric_names


@pytest.fixture
def use(monkeypatch):
    """Put a predictor in the place of any checkpoint's network."""

    def put(predictor: KnownPredictor) -> KnownPredictor:
        found = SimpleNamespace(path=Path("runs/toy/step-1"), state={"seed": 5})
        monkeypatch.setattr(origins, "find_checkpoint", lambda *_, **__: found)
        monkeypatch.setattr(workflow, "predictor_from", lambda *_: predictor)
        return predictor

    return put


def guesses(seed: int, size=SIZE):
    """Random predictions of each target, always the same ones."""

    def answer(drive: int, number: int):
        rng = np.random.default_rng([seed, drive, number])
        poses = np.stack([np.linalg.inv(random_motion(rng, step)) for step in (0.4, -0.4)])
        made = {
            "disparity": rng.uniform(0.02, 2.0, (1, 1, *size)),
            "T_source_target": poses[None],
            "complete_flow": rng.normal(size=(1, 2, 3, *size)) * 0.4,
            "motion_logits": rng.normal(size=(1, 2, 1, *size)) * 2,
        }
        return {key: torch.from_numpy(value) for key, value in made.items()}

    return answer


class Oracle:
    """The figures of `eval-motion`, pixel by pixel, as they are defined."""

    def __init__(self, drives, gap: int, answer) -> None:
        self.epe: dict[str, list] = {}
        self.masks: list[tuple[bool, float, float, float, float]] = []
        self.behind = self.flow = 0
        for drive, frames in enumerate(drives):
            for target in range(gap, len(frames) - gap):
                self.image(frames, target, gap, answer(drive, target))

    def image(self, frames, target: int, gap: int, made) -> None:
        frame = frames[target]
        depth_gt, K = frame["depth"].astype(float), frame["K"]
        depth = 1 / np.clip(made["disparity"][0, 0].numpy(), 0.01, 10)
        valid = (depth_gt > 0.5) & (depth_gt < 80)
        factor = np.median(depth_gt[valid]) / np.median(depth[valid])
        for s, number in enumerate((target - gap, target + gap)):
            T_gt = np.linalg.inv(frames[number]["T_world_camera"]) @ frame["T_world_camera"]
            T_found = made["T_source_target"][0, s].numpy()
            for v in range(SIZE[0]):
                for u in range(SIZE[1]):
                    ray = np.linalg.solve(K, [u, v, 1.0])
                    truth = depth_gt[v, u] * ray, T_gt, frame[OWN[s]][:, v, u].astype(float)
                    flow = made["complete_flow"][0, s, :, v, u].numpy()
                    moving = 1 / (1 + math.exp(-float(made["motion_logits"][0, s, 0, v, u])))
                    said = depth[v, u] * ray, T_found, flow, moving, factor
                    self.pixel(K, truth, said, int(frame["motion_mask"][v, u]), bool(valid[v, u]))

    def pixel(self, K, truth, said, label: int, valid: bool) -> None:
        point_gt, T_gt, own = truth
        point, T_found, complete, moving, factor = said
        rigid = T_found[:3, :3] @ point + T_found[:3, 3] - point
        independent = complete - rigid
        if label != VOID:
            a, b = (project(K, point + flow) for flow in (complete, rigid))
            px = 0.0 if a is None or b is None else np.linalg.norm(a - b)
            length = np.linalg.norm(independent)
            ratio = length / np.linalg.norm(rigid)
            self.masks.append((label == 1, moving, factor * length, px, ratio))
        if not valid:
            return
        true = T_gt[:3, :3] @ point_gt + T_gt[:3, 3] - point_gt + own
        final = rigid + moving * independent
        self.add("epe", factor * complete - true, label)
        self.add("final_epe", factor * final - true, label)
        self.add("independent_epe", factor * independent - own, label)
        self.add("masked_epe", factor * moving * independent - own, label)
        self.add("zero.epe", factor * rigid - true, label)
        self.add("zero.independent_epe", own, label)
        ends = [project(K, factor * (point + flow)) for flow in (complete, final, rigid)]
        end = project(K, point_gt + true)
        self.flow += 1
        if end is None or any(e is None for e in ends):
            self.behind += 1
            return
        for name, other in zip(
            ("optical_epe", "final_optical_epe", "zero.optical_epe"), ends, strict=True
        ):
            self.add(name, other - end, label)

    def add(self, name: str, difference, label: int) -> None:
        self.epe.setdefault(name, []).append((label, np.linalg.norm(difference)))

    def errors(self) -> dict[str, float]:
        found = {}
        for name, pixels in self.epe.items():
            labels, lengths = (np.array(column) for column in zip(*pixels, strict=True))
            found[name] = lengths.mean()
            found[f"{name}_static"] = lengths[labels == 0].mean()
            found[f"{name}_moving"] = lengths[labels == 1].mean()
        return found

    def scores(self, column: int, threshold: float) -> dict[str, float]:
        truth = np.array([row[0] for row in self.masks])
        said = np.array([row[column] for row in self.masks]) > threshold
        hit, union = (truth & said).sum(), (truth | said).sum()
        precision = hit / said.sum() if said.any() else math.nan
        return {
            "motion_iou": hit / union,
            "motion_precision": precision,
            "motion_recall": hit / truth.sum(),
            "motion_f1": 2 * hit / (truth.sum() + said.sum()),
        }


def project(K, point):
    if point[2] <= 1e-3:
        return None
    return (K @ (point / point[2]))[:2]


@pytest.mark.parametrize("gap", [1, 2])
def test_all_figures_equal_an_independent_evaluation(tmp_path, use, gap: int) -> None:
    rng = np.random.default_rng(gap)
    drives = [random_frames(rng, 5), random_frames(rng, 2), random_frames(rng, 6)]
    store, answer = write_motion_store(tmp_path / "val", drives, gap=gap), guesses(gap)
    predictor = use(KnownPredictor(store, answer))
    report = eval_motion(store)
    oracle = Oracle(drives, gap, answer)
    metrics, baselines = report["metrics"], report["baselines"]
    expected = oracle.errors()
    zero = {f"zero.{name}": v for name, v in baselines["zero_independent_flow"].items()}
    found = {**metrics, **zero}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert oracle.behind > 10
    assert (report["pixels"]["flow"], report["pixels"]["behind"]) == (oracle.flow, oracle.behind)

    half = oracle.scores(1, 0.5)
    assert {name: metrics[name] for name in half} == pytest.approx(half)
    every = [oracle.scores(1, t) for t in MASK_THRESHOLDS]
    assert metrics["motion_best_iou"] == pytest.approx(max(one["motion_iou"] for one in every))
    assert metrics["motion_best_f1"] == pytest.approx(max(one["motion_f1"] for one in every))
    for column, name in enumerate(
        ("thresholded_flow", "thresholded_flow_px", "thresholded_flow_ratio"), 2
    ):
        best = max(oracle.scores(column, t)["motion_iou"] for t in SCORE_THRESHOLDS)
        assert baselines[name]["motion_iou"] == pytest.approx(best)
        at = oracle.scores(column, baselines[name]["best_threshold"])
        assert {key: baselines[name][key] for key in at} == pytest.approx(at)
    moving = np.mean([row[0] for row in oracle.masks])
    assert baselines["white_mask"]["motion_iou"] == pytest.approx(moving)
    assert baselines["black_mask"]["motion_iou"] == 0
    curve = report["mask"]["curve"]
    assert curve["recall"] == pytest.approx([one["motion_recall"] for one in every])

    assert report["num_images"] == (3 + 4 if gap == 1 else 1 + 2)
    assert report["num_skipped"] == 0
    assert predictor.num_encoded == 5 + 2 + 6  # every frame once
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert set(figures(report)) == set(metric_names())


def truths(store: Path, scale: float):
    """The truth as a prediction, `scale` times too large."""
    opened = Store(store)

    def answer(drive: int, number: int):
        gap = opened.gap
        frames = [opened.frame(drive, n, opened.keys) for n in (number - gap, number, number + gap)]
        before, target, after = frames
        depth = np.where(target["depth"] > 0, target["depth"], 80.0).astype(float)
        v, u = np.mgrid[: depth.shape[0], : depth.shape[1]]
        rays = np.einsum("ij,jhw->ihw", np.linalg.inv(target["K"]), [u, v, np.ones_like(u)])
        points = depth * rays
        poses, flows = [], []
        for source, own in zip((before, after), OWN, strict=True):
            T_gt = np.linalg.inv(source["T_world_camera"]) @ target["T_world_camera"]
            moved = np.einsum("ij,jhw->ihw", T_gt[:3, :3], points) + T_gt[:3, 3, None, None]
            flows.append(scale * (moved - points + target[own]))
            T_gt[:3, 3] *= scale
            poses.append(T_gt)
        logits = np.where(target["motion_mask"] == 1, 800.0, -800.0)
        made = {
            "disparity": 1 / (scale * depth)[None, None],
            "T_source_target": np.stack(poses)[None],
            "complete_flow": np.stack(flows)[None],
            "motion_logits": np.stack([logits, logits])[None, :, None],
        }
        return {key: torch.from_numpy(value) for key, value in made.items()}

    return answer


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    from unienc_core.workflows.prepare import prepare_synth_city

    out = tmp_path_factory.mktemp("city")
    prepare_synth_city(out, splits={"val": (1, 6)}, image_size=(64, 96), supersample=1, workers=1)
    return out / "val"


@pytest.mark.parametrize("scale", [1.0, 0.125])
def test_the_truth_of_a_city_is_perfect_at_any_scale(city: Path, use, scale: float) -> None:
    use(KnownPredictor(city, truths(city, scale)))
    report = eval_motion(city)
    metrics, zero = report["metrics"], report["baselines"]["zero_independent_flow"]
    perfect = [name for name in metrics if "epe" in name]
    assert {n: metrics[n] for n in perfect} == pytest.approx(dict.fromkeys(perfect, 0.0), abs=1e-4)
    for name in ("iou", "precision", "recall", "f1", "ap", "best_iou"):
        assert metrics[f"motion_{name}"] == 1.0
    assert metrics["abs_rel"] == pytest.approx(0, abs=1e-6)
    for name, expected in {"depth": 1 / scale, "translation_over_depth": 1.0}.items():
        assert report["scale"][name]["median"] == pytest.approx(expected, rel=1e-6)
        assert report["scale"][name]["std"] == pytest.approx(0, abs=1e-5)
    assert zero["independent_epe_moving"] > 0.05
    assert zero["independent_epe_static"] < 1e-3
    assert report["baselines"]["white_mask"]["motion_iou"] < 0.9


def test_predictions_of_another_size_are_enlarged(tmp_path, use) -> None:
    """Flat maps stay flat: a camera that slides sideways before a wall, which moves up itself."""
    rng = np.random.default_rng(0)
    size, frames = (12, 16), []
    for number in range(4):
        T_world_camera = np.eye(4)
        T_world_camera[0, 3] = 0.5 * number
        own = np.zeros((3, *size), np.float32)
        own[1] = -0.25
        frames.append(
            {
                "image": rng.integers(0, 255, (*size, 3)).astype(np.uint8),
                "K": np.array([[10.0, 0, 7.5], [0, 10, 5.5], [0, 0, 1]]),
                "T_world_camera": T_world_camera,
                "depth": np.full(size, 4.0, np.float32),
                "motion_mask": np.ones(size, np.uint8),
                OWN[0]: -own,
                OWN[1]: own,
            }
        )
    store = write_motion_store(tmp_path / "val", [frames])

    def half_as_large(drive: int, number: int):
        poses = torch.eye(4).double().repeat(1, 2, 1, 1)
        poses[0, :, 0, 3] = torch.tensor([0.25, -0.25])
        flow = torch.zeros(1, 2, 3, 6, 8).double()
        flow[0, 0, 0], flow[0, 1, 0] = 0.25, -0.25
        flow[0, :, 2] = 0.3  # a wrong part of its own, of 0.6 m at the true scale
        logits = torch.full((1, 2, 1, 3, 4), math.log(0.25 / 0.75)).double()
        return {
            "disparity": torch.full((1, 1, 3, 4), 0.5).double(),
            "T_source_target": poses,
            "complete_flow": flow,
            "motion_logits": logits,
        }

    use(KnownPredictor(store, half_as_large, size=(6, 8)))
    report = eval_motion(store)
    metrics, zero = report["metrics"], report["baselines"]["zero_independent_flow"]
    off, masked = math.hypot(0.25, 0.6), math.hypot(0.25, 0.15)
    assert metrics["epe"] == metrics["epe_moving"] == pytest.approx(off)
    assert metrics["independent_epe"] == pytest.approx(off)
    assert metrics["masked_epe"] == metrics["final_epe"] == pytest.approx(masked)
    assert zero["epe"] == zero["independent_epe"] == pytest.approx(0.25)
    assert zero["optical_epe"] == pytest.approx(10 * 0.25 / 4)
    assert metrics["epe_static"] is None
    assert report["scale"]["depth"]["median"] == pytest.approx(2.0)
    assert metrics["motion_iou"] == 0  # a quarter is under one half
    assert report["size"] == [6, 8]


def test_the_final_flow_is_put_together_as_in_the_last_stage(tmp_path, use) -> None:
    frames = random_frames(np.random.default_rng(4), 4)
    store = write_motion_store(tmp_path / "val", [frames])
    figures_of = {}
    for how in ("add_independent", "rotate_independent"):
        use(KnownPredictor(store, guesses(2), compose=how))
        figures_of[how] = eval_motion(store)["metrics"]
    plain, turned = figures_of.values()
    differing = {name for name in plain if plain[name] != turned[name]}
    assert differing == {n for n in plain if n.startswith(("final_epe", "final_optical_epe"))}


class TestWhatIsKnown:
    """What can be scored is scored, and what cannot is said."""

    def report(self, tmp_path, use, keys=(*KEYS, *OWN), heads=HEADS):
        frames = random_frames(np.random.default_rng(3), 5)
        store = write_motion_store(tmp_path / "val", [frames], keys=keys)
        use(KnownPredictor(store, guesses(0), heads=heads))
        return eval_motion(store)

    def test_a_network_without_a_mask(self, tmp_path, use) -> None:
        report = self.report(tmp_path, use, heads=HEADS[:3])
        metrics = report["metrics"]
        unknown = {name for name, value in metrics.items() if value is None}
        assert unknown == {n for n in metrics if n.startswith(("motion", "masked", "final"))}
        assert report["baselines"]["thresholded_flow"]["motion_iou"] > 0
        assert report["not_scored"] == {"mask": "the network has no motion_mask head"}
        assert "not scored: mask: the network has no motion_mask head" in format_report(report)

    def test_a_network_without_flow(self, tmp_path, use) -> None:
        report = self.report(tmp_path, use, heads=(*HEADS[:2], HEADS[3]))
        metrics = report["metrics"]
        assert {name for name, v in metrics.items() if v is None} == {
            n for n in metrics if "epe" in n
        }
        assert report["baselines"]["thresholded_flow_px"]["motion_iou"] is None
        format_report(report)

    def test_masks_and_images_alone(self, tmp_path, use) -> None:
        report = self.report(tmp_path, use, keys=("image", "K", "motion_mask"))
        assert report["metrics"]["motion_iou"] > 0
        assert report["metrics"]["epe"] is report["metrics"]["abs_rel"] is report["pose"] is None
        assert set(report["not_scored"]) == {"flow", "depth", "pose"}
        assert report["baselines"]["thresholded_flow_px"]["motion_iou"] > 0
        assert "pose" in format_report(report)

    def test_without_the_actors_own_motion_static_pixels_count(self, tmp_path, use) -> None:
        full = self.report(tmp_path / "full", use)
        report = self.report(tmp_path, use, keys=KEYS)
        metrics = report["metrics"]
        assert metrics["epe"] is metrics["epe_moving"] is None
        assert metrics["epe_static"] == pytest.approx(full["metrics"]["epe_static"])
        assert "static pixels alone" in report["not_scored"]["flow"]

    def test_without_a_mask_of_the_truth(self, tmp_path, use) -> None:
        full = self.report(tmp_path / "full", use)
        report = self.report(tmp_path, use, keys=(*KEYS[:-1], *OWN))
        assert report["metrics"]["epe"] == pytest.approx(full["metrics"]["epe"])
        assert report["metrics"]["epe_moving"] is report["metrics"]["motion_iou"] is None
        assert report["mask"] is None
        format_report(report)


def test_sparse_labels_of_points_leave_the_other_pixels_out(tmp_path, use) -> None:
    """Points of LiDAR: a pixel without one is neither static nor moving."""
    frames = random_frames(np.random.default_rng(5), 3)
    for frame in frames:
        frame["motion_mask"] = np.full(SIZE, VOID, np.uint8)
        frame["motion_mask"][2, 3], frame["motion_mask"][4, 5] = 1, 0
    store = write_motion_store(tmp_path / "val", [frames], keys=("image", "K", "motion_mask"))
    made = guesses(0)(0, 1)
    made["motion_logits"][:] = -4
    made["motion_logits"][0, :, 0, 2, 3] = 4
    use(KnownPredictor(store, lambda *_: made))
    report = eval_motion(store)
    assert report["pixels"] == {"mask": 4, "moving": 2, "flow": 0, "behind": 0}
    assert report["metrics"]["motion_iou"] == report["metrics"]["motion_ap"] == 1


def test_an_image_of_which_nothing_is_known_is_skipped(tmp_path, use) -> None:
    frames = random_frames(np.random.default_rng(5), 4)
    frames[1]["motion_mask"][:], frames[1]["depth"][:] = VOID, 0
    store = write_motion_store(tmp_path / "val", [frames])
    use(KnownPredictor(store, guesses(0)))
    report = eval_motion(store)
    assert (report["num_images"], report["num_skipped"]) == (1, 1)
    frames[2]["motion_mask"][:], frames[2]["depth"][:] = VOID, 0
    store = write_motion_store(tmp_path / "none", [frames])
    use(KnownPredictor(store, guesses(0)))
    with pytest.raises(DataError, match="none of 2 triplets has a pixel that counts"):
        eval_motion(store)


def test_what_cannot_be_scored_is_said_in_one_line(tmp_path, use) -> None:
    frames = random_frames(np.random.default_rng(6), 4)
    plain = write_motion_store(tmp_path / "plain", [frames], keys=KEYS[:4])
    with pytest.raises(DataError, match="neither motion_mask nor what true flow is made of"):
        eval_motion(plain)
    short = write_motion_store(tmp_path / "short", [frames[:2]])
    with pytest.raises(DataError, match="holds no triplet"):
        eval_motion(short)
    with pytest.raises(DataError, match="no 'K'"):
        eval_motion(write_motion_store(tmp_path / "blind", [frames], keys=("image", *KEYS[2:])))
    store = write_motion_store(tmp_path / "val", [frames])
    for heads, message in (
        (HEADS[:2], "'toy' has neither a scene_flow nor a motion_mask head"),
        (HEADS[1:], "'toy' predicts no disparity"),
    ):
        use(KnownPredictor(store, guesses(0), heads=heads))
        for dry_run in (False, True):
            with pytest.raises(UsageError, match=message):
                eval_motion(store, dry_run=dry_run)
    with pytest.raises(UsageError, match="no protocol 'kiti-eigen'"):
        eval_motion(store, protocol="kiti-eigen")
    made = guesses(0)(0, 1)
    made["complete_flow"][0, 0, 0, 0, 0] = torch.nan
    use(KnownPredictor(store, lambda *_: made))
    with pytest.raises(IntegrityError, match="drive-0/1: the network predicts NaN"):
        eval_motion(store)
