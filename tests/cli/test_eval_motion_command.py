"""`unienc eval-motion` of real networks: pairs, triples, pictures, thresholds, errors."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from unienc_cli.main import run
from unienc_core.checkpoint import save_checkpoint
from unienc_core.data.dataset import TripletDataset
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.inference.predictor import load_predictor
from unienc_core.models.network import build_network
from unienc_core.presets import Preset, StreamSpec, preset_from_dict
from unienc_core.view_synthesis import synthesise
from unienc_core.workflows.motion_sources import MotionSource
from unienc_core.workflows.prepare import prepare_synth_city

SIZE = (64, 96)
SMALL = {
    "type": "timm",
    "options": {"name": "resnet18", "model_args": {"channels": [8, 8, 16, 16], "layers": [1] * 4}},
}
DEPTH = {"type": "unet", "reads": ["main"], "options": {"channels": [8, 8, 8, 8, 8], "scales": 2}}


def preset_of(heads: tuple[str, ...], view: str) -> Preset:
    """Depth, pose and motion; the heads of triples have an encoder of their own."""
    encoders = {"main": SMALL}
    if view == "triple":
        encoders |= {"motion": {**SMALL, "view": "triple"}}
    reads = "main" if view == "pair" else "motion"
    motion = {"reads": [reads], "view": view, "options": {"squeeze": 8}}
    pose = {"type": "single_scale", "reads": ["main"], "view": "pair", "options": {"squeeze": 8}}
    network = {
        "encoders": encoders,
        "heads": {
            "depth": DEPTH,
            "pose": pose,
            **{name: {"type": name, **motion} for name in heads},
        },
    }
    return preset_from_dict(
        {
            "name": f"toy-{view}",
            "image_size": list(SIZE),
            "network": network,
            "streams": {"triplets": {"kind": "triplets", "batch_size": 2}},
            "terms": {"photometric": {}},
            "stages": [{"name": "all", "steps": 1, "terms": ["photometric"]}],
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A city, and checkpoints of networks that have learnt nothing."""
    path = tmp_path_factory.mktemp("motion")
    prepare_synth_city(
        path / "city", splits={"val": (2, 4)}, image_size=SIZE, supersample=1, workers=1
    )
    both = ("scene_flow", "motion_mask")
    made = {"pair": (both, "pair"), "triple": (both, "triple"), "flow": (both[:1], "pair")}
    for name, how in {**made, "still": ((), "pair")}.items():
        preset = preset_of(*how)
        network = build_network(preset)
        with torch.no_grad():
            for key, value in network.named_parameters():
                if "scene_flow" in key or "motion_mask" in key:
                    value.mul_(3)  # an untrained head says next to nothing
        save_checkpoint(
            path / name / "checkpoints",
            preset=preset,
            model=network.state_dict(),
            optimizer={},
            state={"step": 1, "seed": 7},
        )
    return path


def command(folder: Path, checkpoint: str, *more: str) -> list[str]:
    where = ["--checkpoint", str(folder / checkpoint), "--device", "cpu", "--quiet"]
    return ["eval-motion", str(folder / "city"), *where, *more]


@pytest.mark.parametrize("view", ["pair", "triple"])
def test_predictions_are_those_of_training(folder: Path, view: str) -> None:
    """Frames encoded once each give what the network makes of a batch of triplets."""
    store, predictor = Store(folder / "city" / "val"), load_predictor(folder / view, "cpu")
    stream = StreamSpec(kind="triplets", batch_size=4)
    data = TripletDataset(store, stream, SIZE, train=False)
    batch = torch.utils.data.default_collate([data.item(0, i) for i in range(len(data))])
    with torch.inference_mode():
        made = predictor.network({"t": batch})["t"]
        keys = ("rigid_flow", "independent_flow", "final_flow", "motion_mask", "depth")
        expected = synthesise({**batch, **made}, "final", predictor.preset.depth, SIZE, wanted=keys)
    samples = list(MotionSource(store, predictor).walk(None))
    assert len(samples) == len(data) == 4
    assert expected["independent_flow"].abs().mean() > 1e-3
    for i, sample in enumerate(samples):
        found = sample.found
        for key in keys[:3]:
            ours = getattr(found, key)
            torch.testing.assert_close(ours.float(), expected[key][i], rtol=1e-4, atol=1e-5)
        mask = expected["motion_mask"][i, :, 0]
        torch.testing.assert_close(found.motion_mask.float(), mask, rtol=1e-4, atol=1e-5)
        depth = torch.from_numpy(found.depth).float()
        torch.testing.assert_close(depth, expected["depth"][i, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("view", ["pair", "triple"])
def test_json_pictures_and_table(folder: Path, capsys, tmp_path: Path, view: str) -> None:
    plots = ["--plots", str(tmp_path / "plots")]
    assert run(command(folder, view, *plots, "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["verb"], report["protocol"]) == ("eval-motion", "synth")
    assert (report["num_images"], report["num_skipped"], report["seed"]) == (4, 0, 7)
    assert report["pixels"]["mask"] == 4 * 2 * SIZE[0] * SIZE[1]
    assert all(value is not None for value in report["baselines"]["zero_independent_flow"].values())
    assert report["pose"]["num_pairs"] == 6
    for name in ("precision-recall", "worst", "median", "best"):
        picture = cv2.imread(str(tmp_path / "plots" / f"{name}.png"))
        assert picture is not None and picture.std() > 10
    assert run(command(folder, view, *plots)) == 2
    assert "exists; give --force" in capsys.readouterr().err
    assert run(command(folder, view, *plots, "--force")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    cells = {tuple(line.split()) for line in out.splitlines()}
    epe, zero = report["metrics"], report["baselines"]["zero_independent_flow"]
    for row, values in (
        (("complete", "flow,", "m"), epe),
        (("rigid", "flow", "alone,", "m"), zero),
    ):
        shown = (f"{values[k]:.3f}" for k in ("epe", "epe_moving", "epe_static"))
        assert (*row, *shown) in cells
    assert "* the threshold of the largest IoU, chosen with hindsight" in out


def test_a_network_without_a_mask_and_one_without_motion(folder: Path, capsys, tmp_path) -> None:
    assert run(command(folder, "flow", "--json", "--plots", str(tmp_path))) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["metrics"]["motion_iou"] is report["mask"] is None
    assert report["metrics"]["epe_moving"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["precision-recall.png"]
    for more in ((), ("--dry-run",)):
        assert run(command(folder, "still", *more)) == 2
        assert capsys.readouterr().err == (
            "error: preset 'toy-pair' has neither a scene_flow nor a motion_mask head; give a "
            "checkpoint of a network that has\n"
        )


def test_thresholds_exit_with_7_after_the_report(folder: Path, capsys) -> None:
    assert run(command(folder, "pair", "--fail-over", "epe_moving=1e6")) == 0
    capsys.readouterr()
    limits = ["--fail-under", "motion_iou=1", "--fail-over", "pose.ate_5=9"]
    assert run(command(folder, "pair", "--json", *limits)) == 7
    out, err = capsys.readouterr()
    assert json.loads(out)["num_images"] == 4
    assert err.startswith("error: motion_iou = ")
    assert "pose.ate_5 was not measured" in err  # no drive is five frames long
    assert run(command(folder, "pair", "--fail-over", "epe_movin=1")) == 2
    assert "did you mean 'epe_moving'" in capsys.readouterr().err


def test_a_dry_run_scores_nothing(folder: Path, capsys, tmp_path: Path) -> None:
    assert run(command(folder, "pair", "--dry-run", "--plots", str(tmp_path / "none"))) == 0
    said = capsys.readouterr().out
    assert said == "dry run: all inputs open; 4 triplets would be scored\n"
    assert not list(tmp_path.glob("none/*"))


def test_bad_stores_exit_with_3(folder: Path, capsys, tmp_path: Path) -> None:
    K = np.array([[80.0, 0, 47], [0, 80, 31], [0, 0, 1]])
    frames = [{"image": np.zeros((*SIZE, 3), np.uint8), "K": K}] * 3
    spec = StoreSpec(source="toy", image_size=SIZE, keys=standard_keys("image", "K"))
    with StoreWriter(tmp_path / "plain", spec) as writer:
        writer.add_drive("drive", frames)
    for store, said in (
        (tmp_path / "plain", "neither motion_mask nor what true flow is made of"),
        (tmp_path / "nowhere", "no such folder"),
    ):
        assert run(["eval-motion", str(store), "--checkpoint", str(folder / "pair")]) == 3
        assert said in capsys.readouterr().err
