"""`bench`: what is counted is right, sides take turns, and the report holds what it should."""

import json
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unienc_cli.main import run
from unienc_core.contracts import FeaturePyramid, NodeInputs, Reporter
from unienc_core.errors import UsageError
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset
from unienc_core.workflows.bench.clock import Pace, Samples, take_turns
from unienc_core.workflows.bench.memory import highest, step_memory, with_checkpointing
from unienc_core.workflows.bench.network import StepRig
from unienc_core.workflows.bench.parts import Part, detached, recorded
from unienc_core.workflows.bench.run import PARTS, bench, choose_parts
from unienc_core.workflows.bench.setting import Setting
from unienc_core.workflows.bench.work import Gemm, count_macs

CPU = torch.device("cpu")


def conv_macs(cin, cout, kernel, height, width, groups=1):
    """Multiply-accumulates of a convolution, by its output's size."""
    return cin // groups * cout * kernel**2 * height * width


def resnet18_macs(height, width):
    """He et al., Table 1: the stem, four stages of two basic blocks, without the classifier."""
    total = conv_macs(3, 64, 7, height // 2, width // 2)
    cin = 64
    for stage, channels in enumerate((64, 128, 256, 512)):
        h, w = height >> (stage + 2), width >> (stage + 2)
        total += conv_macs(cin, channels, 3, h, w) + 3 * conv_macs(channels, channels, 3, h, w)
        total += conv_macs(cin, channels, 1, h, w) if stage else 0
        cin = channels
    return total


def test_layers_are_counted_as_by_hand():
    x = torch.randn(2, 6, 9, 11)
    conv = nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2)
    by_hand = 2 * conv_macs(6, 8, 3, 5, 6, groups=2)
    assert count_macs(lambda: conv(x)) == by_hand
    # Backward: the gradient of the weights costs as much again, that of the input too.
    assert count_macs(lambda: conv(x).sum().backward()) == 2 * by_hand
    assert count_macs(lambda: conv(x.clone().requires_grad_()).sum().backward()) == 3 * by_hand
    linear = nn.Linear(5, 7)
    assert count_macs(lambda: linear(torch.randn(3, 5))) == 3 * 5 * 7
    assert count_macs(lambda: x.exp() * x) == 0


def test_attention_of_the_cpu_is_counted():
    q = torch.randn(2, 4, 49, 32, requires_grad=True)
    by_hand = 2 * (2 * 4 * 49 * 49 * 32)  # queries by keys, weights by values
    assert count_macs(lambda: F.scaled_dot_product_attention(q, q, q)) == by_hand
    # Backward: scores are made again, then two products for each of the two.
    backward = count_macs(lambda: F.scaled_dot_product_attention(q, q, q).sum().backward())
    assert backward == by_hand * 7 // 2


@pytest.mark.parametrize(
    ("preset", "part", "size", "gmac"),
    [
        ("monodepth2", "encoders.main", (192, 640), resnet18_macs(192, 640) / 1e9),
        ("monodepth2", "heads.depth", (192, 640), 3.6),
        ("unified-kitti", "heads.pose", (192, 512), 1.3),
        ("unified-kitti", "heads.pose", (192, 640), 1.6),
        # 4.49 at 224x224 (published: 4.5), and what is filled up to whole windows on top.
        ("unified-kitti", "encoders.main", (224, 448), 2 * 4.49),
        ("unified-kitti", "encoders.main", (192, 512), 9.6),
    ],
)
def test_networks_cost_what_is_published(preset, part, size, gmac):
    """The table of costs in the literature; on tensors without data, so that it is quick."""
    network = build_network(
        load_preset(preset, [f"image_size={list(size)}"]), load_pretrained=False
    )
    network = network.eval().to("meta")
    image = torch.empty(1, 3, *size, device="meta")
    offsets = {"source_offsets": torch.tensor([[-1]], device="meta")}
    module = network.get_submodule(part)
    with torch.no_grad(), recorded({part: module}) as calls:
        pyramids = network.encode(image)
        network.decode_frame(pyramids, image)
        network.decode_pair(pyramids, pyramids, torch.cat([image, image], 1), values=offsets)
    with torch.no_grad():
        found = count_macs(Part(part, module, calls[part]).forward)
    is_by_hand = preset == "monodepth2" and part == "encoders.main"
    assert found / 1e9 == pytest.approx(gmac, rel=1e-9 if is_by_hand else 0.02)


def test_a_part_alone_does_what_it_did_in_the_whole():
    torch.manual_seed(0)
    first, second = nn.Linear(4, 5), nn.Linear(5, 3)
    x = torch.randn(2, 4)
    with recorded({"first": first, "second": second}) as calls:
        loss = second(first(x).tanh()).sum()
    loss.backward()
    expected = [p.grad.clone() for p in second.parameters()]
    part = Part("second", second, detached(calls["second"]), list(second.parameters()))
    for _ in range(2):  # gradients do not pile up
        part.step()
        assert all(torch.equal(p.grad, e) for p, e in zip(part.parameters, expected, strict=True))
    given = part.calls[0][0][0]
    assert given.is_leaf
    assert torch.equal(given.grad, second.weight.detach().sum(0).expand(2, 5))
    assert part.num_parameters == 18


def test_detached_keeps_structure_and_wishes():
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    pyramid = FeaturePyramid([x * 2, torch.zeros(1, 2, 2, 2)], (1, 2))
    inputs = NodeInputs([pyramid], torch.zeros(1, 3, 4, 4), {"K": torch.eye(3)[None]}, 1)
    copy = detached(inputs)
    assert copy.pyramids[0].strides == (1, 2)
    assert [level.requires_grad for level in copy.pyramids[0].levels] == [True, False]
    assert all(level.is_leaf for level in copy.pyramids[0].levels)
    assert copy.pyramids[0].levels[0].data_ptr() == pyramid.levels[0].data_ptr()
    assert copy.batch_size == 1
    assert torch.equal(copy.values["K"], inputs.values["K"])


def test_sides_take_turns():
    order = []
    sides = {name: lambda name=name: order.append(name) for name in "ab"}
    taken = take_turns(sides, Pace(seconds=0.0, min_rounds=5, max_rounds=9))
    assert [len(samples.values) for samples in taken.values()] == [5, 5]
    rounds = [set(order[i : i + 2]) for i in range(0, len(order), 2)]
    assert rounds == [{"a", "b"}] * 6  # one of them before the clock runs
    assert len(set(zip(order[2::2], order[3::2], strict=True))) == 2, "always the same one first"


def test_samples():
    samples = Samples((4.0, 1.0, 2.0, 3.0, 100.0))
    assert (samples.median, samples.quartiles) == (3.0, (2.0, 4.0))
    assert samples.spread == pytest.approx(2 / 3)
    slow = Samples(tuple(2 * v for v in samples.values))
    assert slow.over(samples).values == (2.0,) * 5
    assert samples.record(10, 1) == {"median": 30.0, "low": 20.0, "high": 40.0, "rounds": 5}


def test_a_product_of_matrices():
    gemm = Gemm("fp32", CPU, largest=256)
    assert gemm.size == 256
    assert gemm.rate(2.0) == pytest.approx(256**3 / 1e9)
    record = gemm.record(Samples((2.0, 1.0, 4.0)))
    assert record["gflops"] == pytest.approx(2 * 256**3 / 1e9, abs=0.01)
    assert record["gflops_median"] == pytest.approx(256**3 / 1e9, abs=0.01)


def test_the_highest_point_of_memory():
    def work():
        a = torch.zeros(250_000)  # 1 MB
        b = torch.zeros(500_000)
        del a
        c = torch.zeros(1_000_000)
        del b, c
        return torch.zeros(1000)

    assert highest(work, CPU) == pytest.approx(6e6, abs=1e4)
    net = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(20)))
    x = torch.zeros(5000, 64)
    # With gradients, every Tanh keeps what it made; without, at most three tensors live at once.
    assert 20 <= highest(lambda: net(x).sum().backward(), CPU) / x.nbytes < 23
    with torch.no_grad():
        assert 2 <= highest(lambda: net(x), CPU) / x.nbytes <= 3


def test_checkpointing_is_asked_of_every_node():
    preset = with_checkpointing(load_preset("unified-tiny"))
    nodes = [*preset.network.encoders.values(), *preset.network.heads.values()]
    assert all(node.checkpointing for node in nodes)


def test_which_parts():
    assert choose_parts([]) == list(PARTS)
    assert choose_parts(["video", "gemm", "video"]) == ["gemm", "video"]
    with pytest.raises(UsageError, match="no part 'vidoe'.*'video'"):
        choose_parts(["vidoe"])


def test_requests_that_make_no_sense(tmp_path):
    with pytest.raises(UsageError, match="brings its own preset"):
        bench(preset="unified-tiny", checkpoint=tmp_path)
    assert run(["bench", "gemm", "--preset", "unifed-tiny"]) == 2
    assert run(["bench", "gemm", "--store", str(tmp_path / "none")]) == 3
    assert run(["bench", "gemm", "--checkpoint", str(tmp_path / "none")]) == 3


def test_a_dry_run_measures_nothing(capsys):
    assert run(["bench", "--dry-run", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["parts"] == list(PARTS)
    assert not set(PARTS) & set(report)


@pytest.fixture(scope="module")
def report():
    said: list[str] = []
    reporter = Reporter(progress=lambda p: said.append(p.task), say=said.append)
    made = bench(
        overrides=["image_size=[64, 96]", "streams.triplets.batch_size=1"],
        device="cpu",
        quick=True,
        reporter=reporter,
    )
    assert {"bench", "gemm", "inference", "training step", "store", "video"} <= set(said)
    return json.loads(json.dumps(made, allow_nan=False))


def test_report_of_the_network(report):
    inference = {row["part"]: row for row in report["inference"]["parts"]}
    training = {row["part"]: row for row in report["training"]["parts"]}
    nodes = {"encoders.main", "heads.depth", "heads.pose"}
    assert set(inference) == nodes | {"whole"}
    terms = {"terms.photometric", "terms.smooth"}
    assert set(training) == nodes | terms | {"view synthesis", "optimizer", "whole"}
    network = build_network(load_preset("unified-tiny"), load_pretrained=False)
    for rows in (inference, training):
        for name, count in network.parameter_counts().items():
            assert rows[name]["parameters"] == count
        for row in rows.values():
            assert 0 <= row["share"] <= 1, row
            assert 0 < row["ms"]["low"] <= row["ms"]["median"] <= row["ms"]["high"]
        parts = sum(row["macs"] for name, row in rows.items() if name != "whole")
        assert rows["whole"]["macs"] == pytest.approx(parts, rel=0.01)
    # A step encodes three images and needs no gradient of them: less than 3 times forward.
    forward = 3 * inference["encoders.main"]["macs"]
    assert 2.5 * forward < training["encoders.main"]["macs"] < 3 * forward
    assert training["heads.pose"]["macs"] == 3 * 2 * inference["heads.pose"]["macs"]


def test_report_of_everything_else(report):
    assert set(PARTS) <= set(report)
    assert set(report["peak_gflops"]) == {"fp32", "bf16"}
    memory = report["memory"]
    assert memory["preset"]["peak_bytes"] > memory["preset"]["resident_bytes"] > 4 * 3 * 4_324_405
    assert 0 < memory["ratio"] <= 1.05
    assert report["render"]["frames_per_second"] > 0
    assert report["store"]["encoding"] == "png"
    assert 0 <= report["loader"]["idle_share"] <= 1
    assert report["loader"]["steps"] == report["loader"]["step_ms"]["rounds"]
    for stage in ("decode", "compute", "draw", "encode", "overlapped"):
        assert report["video"][stage]["median"] > 0


def test_report_for_people(capsys):
    arguments = ["bench", "gemm", "store", "--quick", "--device", "cpu"]
    assert run([*arguments, "--set", "image_size=[64, 96]"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("unified-tiny, 64x96, on ")
    assert "GEMM peak: fp32 " in out
    assert "store reads: " in out
    assert "video" not in out


def test_a_given_store_and_checkpoint_are_used(tmp_path, capsys):
    city = tmp_path / "city"
    sizes = ["--train", "1x4", "--val", "1x3", "--test", "1x3", "--size", "64x128", "--quiet"]
    assert run(["prepare-data", "synth-city", "--out", str(city), *sizes]) == 0
    sets = ["--set", "stages.0.steps=1", "--set", "image_size=[64, 96]", "--workers", "0"]
    train = ["train-student", str(city), "--out", str(tmp_path / "run"), *sets, "--device", "cpu"]
    assert run([*train, "--quiet"]) == 0
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    arguments = ["bench", "store", "--quick", "--json", "--checkpoint", str(tmp_path / "run")]
    assert run([*arguments, "--store", str(city), "--device", "cpu"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["store"]["image_size"] == [64, 128]
    assert made["image_size"] == [64, 96]
    assert made["checkpoint"].endswith("step-0000001")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_chance_of_others_is_left_alone():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global one is what must not be touched
    expected = random.Random(1).random()
    take_turns({"a": lambda: None}, Pace(0.0, 2, 2))
    assert random.random() == expected


def test_averaged_weights_lie_there_all_the_time(tmp_path):
    held = {}
    for decay in ("null", "0.9"):
        preset = load_preset("unified-tiny", [f"optimizer.ema_decay={decay}"])
        setting = Setting(preset, None, CPU, None, tmp_path, True, Reporter())
        held[decay] = step_memory(StepRig(setting), CPU)["resident_bytes"]
    tensors = build_network(load_preset("unified-tiny")).state_dict().values()
    assert held["0.9"] - held["null"] == sum(tensor.nbytes for tensor in tensors)
