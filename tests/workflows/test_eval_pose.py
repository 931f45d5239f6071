"""`eval-depth --pose`: pairs, snippets and swaps of drives whose motion is known."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from depth_toys import SIZE, RedPredictor, toy_frame
from scipy.spatial.transform import Rotation

from unienc_cli.main import run
from unienc_core.checkpoint import save_checkpoint
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import DataError, IntegrityError, UsageError
from unienc_core.inference.predictor import load_predictor
from unienc_core.metrics.pose import POSE_METRICS
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset
from unienc_core.workflows import evaluate, origins
from unienc_core.workflows.evaluate import eval_depth, format_report

KEYS = ("image", "depth", "T_world_camera")


def motion(rotation_vector, translation) -> np.ndarray:
    T_ab = np.eye(4)
    T_ab[:3, :3] = Rotation.from_rotvec(rotation_vector).as_matrix()
    T_ab[:3, 3] = translation
    return T_ab


def yaw(degrees: float, ahead: float) -> np.ndarray:
    return motion([0, math.radians(degrees), 0], [0, 0, ahead])


def wandering(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Poses of a camera that goes ahead and turns by chance, starting anywhere."""
    poses = [motion(rng.normal(size=3), 50 * rng.normal(size=3))]
    for _ in range(num_frames - 1):
        step = motion(0.05 * rng.normal(size=3), [0, 0, 0.7] + 0.2 * rng.normal(size=3))
        poses.append(poses[-1] @ step)
    return np.stack(poses)


def steady(step: np.ndarray, num_frames: int) -> np.ndarray:
    return np.stack([np.linalg.matrix_power(step, n) for n in range(num_frames)])


def write_drives(path: Path, drives: list[np.ndarray], gap: int = 1, keys=KEYS) -> Path:
    """Write a store whose images carry drive and frame number in their blue channel's corner."""
    rng = np.random.default_rng(0)
    spec = StoreSpec(source="toy", split="val", image_size=SIZE, gap=gap, keys=standard_keys(*keys))
    with StoreWriter(path, spec) as writer:
        for drive, poses in enumerate(drives):
            frames = []
            for n, T_world_camera in enumerate(poses):
                frame = {**toy_frame(rng), "T_world_camera": T_world_camera}
                frame["image"][0, :2, 2] = drive, n
                frames.append({key: frame[key] for key in keys})
            writer.add_drive(f"drive-{drive}", frames)
    return path


class PosedPredictor(RedPredictor):
    """Knows the true poses, and answers what `answer` makes of the true T_previous_current."""

    def __init__(self, drives: list[np.ndarray], answer=lambda T_gt: T_gt) -> None:
        super().__init__()
        self.preset.name = "toy"
        self.has_pose = True
        self.drives, self.answer = drives, answer

    def motion(self, previous: np.ndarray, current: np.ndarray) -> np.ndarray:
        (drive, a), (same, b) = (tuple(int(x) for x in p[0, :2, 2]) for p in (previous, current))
        assert drive == same
        return self.answer(np.linalg.inv(self.drives[drive][a]) @ self.drives[drive][b])


@pytest.fixture
def use(monkeypatch):
    """Put a predictor in the place of any checkpoint's network."""

    def put(predictor: RedPredictor) -> RedPredictor:
        found = SimpleNamespace(path=Path("runs/toy/step-1"), state={"seed": 5})
        monkeypatch.setattr(origins, "find_checkpoint", lambda *_, **__: found)
        monkeypatch.setattr(evaluate, "predictor_from", lambda *_: predictor)
        return predictor

    return put


def test_true_motions_up_to_scale_are_perfect(tmp_path, use) -> None:
    rng = np.random.default_rng(1)
    drives = [wandering(rng, 12), wandering(rng, 4), wandering(rng, 10)]

    def shrunk(T_gt: np.ndarray) -> np.ndarray:
        return motion(Rotation.from_matrix(T_gt[:3, :3]).as_rotvec(), 0.3 * T_gt[:3, 3])

    predictor = use(PosedPredictor(drives, shrunk))
    report = eval_depth(write_drives(tmp_path / "val", drives, gap=2), pose=True)
    pose = report["pose"]
    assert {name: pose[name] for name in POSE_METRICS} == pytest.approx(
        dict.fromkeys(POSE_METRICS, 0.0), abs=1e-5
    )
    # Pairs at gap 2; snippets of 5 frames span 8, so that the drive of 4 frames has none.
    assert (pose["gap"], pose["num_pairs"], pose["num_snippets"]) == (2, 10 + 2 + 8, 4 + 0 + 2)
    assert pose["num_still"] == 0
    assert predictor.calls == report["num_images"] == 26  # every frame encoded once
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_figures_of_known_errors(tmp_path, use) -> None:
    drives = [steady(yaw(1.5, 2.0), 8)]
    off = yaw(0.5, 0)
    use(PosedPredictor(drives, lambda T_gt: T_gt @ off))
    pose = eval_depth(write_drives(tmp_path / "val", drives), pose=True)["pose"]
    assert pose["rotation_deg"] == pytest.approx(0.5)
    assert pose["translation_direction_deg"] == pytest.approx(0, abs=1e-9)
    # Backwards the network is off by half a degree the same way: the two add up to one.
    assert pose["swap_rotation_deg"] == pytest.approx(1.0)
    straight = pose["baselines"]["straight_ahead"]
    assert straight["rotation_deg"] == pytest.approx(1.5)
    assert straight["translation_direction_deg"] == pytest.approx(0, abs=1e-9)

    centres = [steady(yaw(1.5 + extra, 2.0), 5)[:, :3, 3] for extra in (0.0, 0.5)]
    g, p = centres
    scale = (g * p).sum() / (p * p).sum()
    expected = math.sqrt(((scale * p - g) ** 2).sum()) / 5
    assert expected > 0.01
    assert pose["ate_5"] == pytest.approx(expected)
    assert pose["ate_5_std"] == pytest.approx(0, abs=1e-9)  # all snippets are alike


def test_a_network_that_always_says_ahead(tmp_path, use) -> None:
    """It equals the baseline, and a swap shows it up."""
    drives = [wandering(np.random.default_rng(3), 9)]
    use(PosedPredictor(drives, lambda _: yaw(0, 1)))
    pose = eval_depth(write_drives(tmp_path / "val", drives), pose=True)["pose"]
    straight = pose["baselines"]["straight_ahead"]
    assert {name: pose[name] for name in straight} == straight
    assert straight["ate_5_std"] > 0
    assert (pose["swap_rotation_deg"], pose["swap_translation"]) == (0, 2)


def test_figures_equal_an_independent_recomputation(tmp_path, use) -> None:
    rng = np.random.default_rng(7)
    drives, gap = [wandering(rng, 13), wandering(rng, 11)], 2
    said: dict[bytes, np.ndarray] = {}

    def noisy(T_gt: np.ndarray) -> np.ndarray:
        noise = motion(0.03 * rng.normal(size=3), 0.2 * rng.normal(size=3))
        return said.setdefault(np.round(T_gt, 9).tobytes(), T_gt @ noise)

    use(PosedPredictor(drives, noisy))
    pose = eval_depth(write_drives(tmp_path / "val", drives, gap=gap), pose=True)["pose"]

    rotations, directions, ates, swaps = [], [], [], []
    for T_world in drives:
        found = {}
        for b in range(gap, len(T_world)):
            a = b - gap
            T_ab, T_ba = (
                noisy(np.linalg.inv(T_world[i]) @ T_world[j]) for i, j in ((a, b), (b, a))
            )
            found[b] = T_ab
            T_gt = np.linalg.inv(T_world[a]) @ T_world[b]
            turn = Rotation.from_matrix(T_gt[:3, :3].T @ T_ab[:3, :3])
            rotations.append(math.degrees(turn.magnitude()))
            t, t_gt = T_ab[:3, 3], T_gt[:3, 3]
            cosine = t @ t_gt / np.linalg.norm(t) / np.linalg.norm(t_gt)
            directions.append(math.degrees(math.acos(cosine)))
            product = T_ab @ T_ba
            length = (np.linalg.norm(t) + np.linalg.norm(T_ba[:3, 3])) / 2
            turn = Rotation.from_matrix(product[:3, :3])
            swaps.append((math.degrees(turn.magnitude()), np.linalg.norm(product[:3, 3]) / length))
        for start in range(len(T_world) - 4 * gap):
            frames = [start + gap * n for n in range(5)]
            truth = np.stack([np.linalg.inv(T_world[start]) @ T_world[n] for n in frames])
            path, here = [np.zeros(3)], np.eye(4)
            for n in frames[1:]:
                here = here @ found[n]
                path.append(here[:3, 3])
            g, p = truth[:, :3, 3].ravel(), np.ravel(path)
            factor = np.linalg.lstsq(p[:, None], g, rcond=None)[0][0]
            ates.append(math.sqrt(((factor * p - g) ** 2).sum()) / 5)
    assert pose["num_snippets"] == len(ates) == 5 + 3
    expected = {
        "rotation_deg": np.mean(rotations),
        "translation_direction_deg": np.mean(directions),
        "ate_5": np.mean(ates),
        "ate_5_std": np.std(ates),
        "swap_rotation_deg": np.mean([s[0] for s in swaps]),
        "swap_translation": np.mean([s[1] for s in swaps]),
    }
    assert {name: pose[name] for name in POSE_METRICS} == pytest.approx(expected, rel=1e-6)


def test_a_camera_at_rest_counts_for_rotation_only(tmp_path, use) -> None:
    moving, still = steady(yaw(1, 0.5), 3), steady(yaw(1, 0.05), 3)
    use(PosedPredictor([moving, still]))
    report = eval_depth(write_drives(tmp_path / "val", [moving, still]), pose=True)
    assert (report["pose"]["num_pairs"], report["pose"]["num_still"]) == (4, 2)
    assert report["pose"]["ate_5"] is report["pose"]["ate_5_std"] is None
    text = format_report(report)
    assert "pose: 4 pairs at gap 1 (2 under 0.1 m without direction), 0 snippets" in text
    header = next(line for line in text.splitlines() if "rotation_deg" in line)
    assert header.split() == list(POSE_METRICS)
    assert text.splitlines()[-1].split()[:4] == ["straight", "ahead", "1.000", "0.000"]


def test_drives_too_short_for_a_pair(tmp_path, use) -> None:
    drives = [steady(yaw(0, 1), 2)]
    use(PosedPredictor(drives))
    report = eval_depth(write_drives(tmp_path / "val", drives, gap=3), pose=True)
    assert report["pose"]["num_pairs"] == 0
    assert [report["pose"][name] for name in POSE_METRICS] == [None] * 6
    assert "pose: 0 pairs" in format_report(report)


def test_pictures_do_not_disturb_the_figures(tmp_path, use) -> None:
    drives = [wandering(np.random.default_rng(0), 7)]
    store = write_drives(tmp_path / "val", drives)
    use(PosedPredictor(drives))
    plain = eval_depth(store, pose=True)
    assert eval_depth(store, pose=True, plots=tmp_path / "plots") == plain
    assert "pose" not in eval_depth(store)


def test_what_cannot_be_scored_is_said_in_one_line(tmp_path, use, monkeypatch) -> None:
    drives = [steady(yaw(0, 1), 3)]
    store = write_drives(tmp_path / "val", drives)
    bare = write_drives(tmp_path / "bare", drives, keys=("image", "depth"))
    with pytest.raises(DataError, match="no 'T_world_camera'"):  # before any checkpoint
        eval_depth(bare, pose=True)
    with pytest.raises(UsageError, match="--pose needs a store"):
        eval_depth(predictions=tmp_path, ground_truth=tmp_path, pose=True)

    blind = PosedPredictor(drives)
    blind.has_pose = False
    use(blind)
    for dry_run in (False, True):
        with pytest.raises(UsageError, match="'toy' has no head that predicts camera motion"):
            eval_depth(store, pose=True, dry_run=dry_run)

    def broken(_: np.ndarray) -> np.ndarray:
        raise IntegrityError("the network predicts NaN or infinity")

    use(PosedPredictor(drives, broken))
    with pytest.raises(IntegrityError, match="drive-0/1: the network predicts NaN"):
        eval_depth(store, pose=True)
    for spoilt in (np.nan, 2.0, -1.0):  # the last one mirrors
        drives = [steady(yaw(0, 1), 3)]
        drives[0][1, 0, 0] = spoilt
        use(PosedPredictor(drives))
        with pytest.raises(DataError, match="T_world_camera of drive drive-0"):
            eval_depth(write_drives(tmp_path / f"spoilt-{spoilt}", drives), pose=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint of a small network, and a store."""
    folder = tmp_path_factory.mktemp("pose")
    preset = load_preset("unified-tiny", ["image_size=[64, 96]"])
    save_checkpoint(
        folder / "run/checkpoints",
        preset=preset,
        model=build_network(preset).state_dict(),
        optimizer={},
        state={"step": 3, "seed": 7},
    )
    drives = [wandering(np.random.default_rng(5), 6)]
    return folder / "run", write_drives(folder / "val", drives)


def test_a_real_network_in_both_orders(trained) -> None:
    checkpoint, path = trained
    pose = eval_depth(path, checkpoint=checkpoint, device="cpu", pose=True)["pose"]
    predictor, store = load_predictor(checkpoint, "cpu"), Store(path)
    images = [store.frame(0, n, ["image"])["image"] for n in range(6)]
    poses = store.column(0, "T_world_camera")
    angles = []
    shares = []
    for n in range(1, 6):
        there = predictor.predict((images[n - 1], images[n])).T_previous_current
        back = predictor.predict((images[n], images[n - 1])).T_previous_current
        T_gt = np.linalg.inv(poses[n - 1]) @ poses[n]
        turn = Rotation.from_matrix(T_gt[:3, :3].T @ there[:3, :3])
        angles.append(math.degrees(turn.magnitude()))
        length = (np.linalg.norm(there[:3, 3]) + np.linalg.norm(back[:3, 3])) / 2
        shares.append(np.linalg.norm((there @ back)[:3, 3]) / length)
    assert pose["rotation_deg"] == pytest.approx(np.mean(angles), rel=1e-5)
    assert pose["swap_translation"] == pytest.approx(np.mean(shares), rel=1e-5)
    assert (pose["num_pairs"], pose["num_snippets"]) == (5, 2)


def test_the_command_line(trained, capsys) -> None:
    checkpoint, store = map(str, trained)
    command = ["eval-depth", store, "--checkpoint", checkpoint, "--device", "cpu", "--quiet"]
    assert run([*command, "--pose", "--json", "--fail-over", "pose.rotation_deg=179"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pose"]["num_pairs"] == 5
    assert run([*command, "--pose", "--fail-over", "pose.ate_5=0"]) == 7
    shown = capsys.readouterr()
    assert "pose.ate_5 = " in shown.err
    assert "straight ahead" in shown.out
    assert run([*command, "--fail-over", "pose.ate_5=0"]) == 2
    assert "no metric 'pose.ate_5'" in capsys.readouterr().err
    assert run([*command, "--pose", "--fail-over", "pose.ate=0"]) == 2
    assert "did you mean 'pose.ate_5'" in capsys.readouterr().err
