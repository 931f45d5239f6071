"""Our OneFormer against that of transformers: the same weights, the same answers, time and memory.

Three tasks for a frame: one pass of ours against three of theirs, which have one task each. The
deformable attention of the pixel decoder, forwards and with its gradients. Texts of a training
step: distinct sentences encoded once against all of them. Memory: a training step of either in a
process of its own. Random weights, float32; both sides in turn in one process, so that whatever
else the machine does meets both alike.

Run: python benchmarks/oneformer.py [--size H W] [--rounds N] [--threads N] [--no-memory]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from unienc_core.checkpoint import load_checkpoint, load_tensors
from unienc_core.models import timm_compat  # noqa: F401 - transformers imports torchvision
from unienc_core.models.masks import MultiScaleDeformableAttention
from unienc_core.models.masks.position import pixel_centres
from unienc_core.models.network import Network, build_network
from unienc_core.presets import load_preset
from unienc_core.workflows.import_weights import import_weights

PRESET = "oneformer-cityscapes"
BATCH = 3
OBJECTS = 12
"""Segments of an image in a training step."""
LEAST_RATIO = 2.0
TOLERANCE = 1e-2
"""Of the largest logit: in float32 a last bit may flip a place of an attention mask."""


def main() -> None:
    """Measure, print one JSON document, and fail where three tasks gain too little."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(192, 512))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-memory", action="store_true", help="no training steps (minutes)")
    parser.add_argument("--step", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = (options.size[0], options.size[1])
    if options.step:
        print(json.dumps(training_step(options.step, size)))
        return
    result = measure(size, options.rounds)
    if not options.no_memory:
        result["training_step"] = {side: in_own_process(side, options) for side in SIDES}
    print(json.dumps({"benchmark": "oneformer", "threads": options.threads, **result}, indent=1))
    if result["three_tasks"]["ratio"] < LEAST_RATIO:
        raise SystemExit(f"three tasks are less than {LEAST_RATIO:g} times as fast as theirs")


SIDES = ("theirs", "ours")


def measure(size: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Time what inference and training share."""
    torch.manual_seed(0)
    theirs = reference(size, training=False)
    ours = imported(theirs.state_dict(), size)
    with torch.inference_mode():
        tasks = three_tasks(ours, theirs, size, rounds)
    return {
        "size": list(size),
        "three_tasks": tasks,
        "deformable": deformable(size, rounds, gradients=False),
        "deformable_with_gradients": deformable(size, rounds, gradients=True),
        "texts": texts(ours, max(1, rounds // 3)),
    }


def reference(size: tuple[int, int], *, training: bool) -> Any:
    """Return transformers' network with random weights."""
    import transformers

    backbone = transformers.SwinConfig(
        image_size=size, out_features=[f"stage{number}" for number in range(1, 5)]
    )
    config = transformers.OneFormerConfig(
        backbone_config=backbone, num_labels=19, is_training=training
    )
    return transformers.OneFormerForUniversalSegmentation(config).train(training)


def imported(state: Mapping[str, Tensor], size: tuple[int, int]) -> Network:
    """Return our network with their weights; they give no texts without training."""
    preset = load_preset(PRESET, [f"image_size={list(size)}"])
    own = build_network(preset, load_pretrained=False)
    width = own.heads["masks"].text_queries.embed.embedding_dim
    state = {name: tensor.clone() for name, tensor in state.items()}
    whole = reference(size, training=True).state_dict()
    missing = {name: tensor for name, tensor in whole.items() if name not in state}
    assert all("text_mapper" in name for name in missing) and width == 256
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "theirs.safetensors"
        save_file({**missing, **state}, file)
        report = import_weights(
            file, Path(folder) / "run", preset=PRESET, overrides=[f"image_size={list(size)}"]
        )
        load_tensors(own, load_checkpoint(Path(report["checkpoint"])).model_tensors(), "import")
    return own.eval()


def three_tasks(ours: Network, theirs: Any, size: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Segment a frame for all three tasks; check that both say the same."""
    image = torch.rand(1, 3, *size)
    encoder, head = ours.encoders["main"], ours.heads["masks"]
    pixels = (image - encoder.mean) / encoder.std
    values = {"task": torch.tensor([[0, 1, 2]])}

    def one_pass() -> tuple[Tensor, Tensor]:
        made = ours.decode_frame(
            ours.encode(image), image, values, outputs=("class_logits", "mask_logits")
        )
        return made["class_logits"][0], made["mask_logits"][0]

    def three_passes() -> tuple[Tensor, Tensor]:
        made = [theirs(pixels, task_inputs=head.sentences[[task]]) for task in range(3)]
        return (
            torch.cat([x.class_queries_logits for x in made]),
            torch.cat([x.masks_queries_logits for x in made]),
        )

    differences = [
        float((a - b).abs().max() / b.abs().max())
        for a, b in zip(one_pass(), three_passes(), strict=True)
    ]
    figures = compare({"ours": one_pass, "theirs": three_passes}, rounds)
    return {
        **figures,
        "largest_difference": max(differences),
        "equal": max(differences) < TOLERANCE,
    }


def deformable(size: tuple[int, int], rounds: int, *, gradients: bool) -> dict[str, Any]:
    """Time one layer over the levels of a training batch."""
    from transformers.models.oneformer import modeling_oneformer

    theirs = modeling_oneformer.OneFormerPixelDecoderEncoderMultiscaleDeformableAttention(
        256, 8, 3, 4
    )
    ours = MultiScaleDeformableAttention(256, heads=8, levels=3, points=4)
    sizes = tuple((size[0] // s, size[1] // s) for s in (32, 16, 8))
    references = pixel_centres(sizes, torch.device("cpu"), torch.float32)
    query, value = torch.randn(2, BATCH, len(references), 256)
    query.requires_grad_(gradients)
    value.requires_grad_(gradients)

    def run_ours() -> None:
        finish(ours(query, references, value, sizes))

    def run_theirs() -> None:
        made = theirs(
            query,
            encoder_hidden_states=value,
            reference_points=references[None, :, None].expand(BATCH, -1, 3, -1),
            spatial_shapes=torch.tensor(sizes),
            spatial_shapes_list=sizes,
        )
        finish(made[0])

    def finish(made: Tensor) -> None:
        if gradients:
            made.square().mean().backward()

    with torch.set_grad_enabled(gradients):
        return compare({"ours": run_ours, "theirs": run_theirs}, 3 * rounds)


def texts(ours: Network, rounds: int) -> dict[str, Any]:
    """Encode the texts of a training batch, distinct ones once or all of them."""
    head = ours.heads["masks"]
    slots = head.texts
    rows = torch.full((BATCH, slots), 5)  # "a panoptic photo"
    rows[:, :OBJECTS] = torch.randint(6, len(head.sentences), (BATCH, OBJECTS))
    sentences = head.sentences[rows]
    branch = head.text_queries
    flat = sentences.flatten(0, 1)
    ends = (flat == 49407).int().argmax(1)

    def distinct() -> Tensor:
        return branch(sentences)

    def every() -> Tensor:
        encoded = branch.project(branch._encode(flat, ends)).unflatten(0, rows.shape)
        return torch.cat([encoded, branch.context.weight.expand(BATCH, -1, -1)], 1)

    with torch.no_grad():
        difference = float((distinct() - every()).abs().max())
    figures = compare(
        {
            "ours": lambda: distinct().square().mean().backward(),
            "theirs": lambda: every().square().mean().backward(),
        },
        rounds,
    )
    return {**figures, "largest_difference": difference}


def compare(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Run both sides in turn, the order changing; return seconds and the ratio pair by pair."""
    for side in sides.values():
        side()
    pairs = []
    for number in range(rounds):
        order = list(sides)[:: 1 - 2 * (number % 2)]
        took = {}
        for name in order:
            began = time.perf_counter()
            sides[name]()
            took[name] = time.perf_counter() - began
        pairs.append(took)
    ratios = [took["theirs"] / took["ours"] for took in pairs]
    return {
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        **{f"ms_{n}": round(1e3 * statistics.median(p[n] for p in pairs), 1) for n in sides},
    }


def in_own_process(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """Take a training step in a process of its own and return its figures."""
    command = [sys.executable, __file__, "--step", side, "--threads", str(options.threads)]
    command += ["--size", *map(str, options.size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def training_step(side: str, size: tuple[int, int]) -> dict[str, Any]:
    """Go forwards and backwards once; return seconds and the memory that it took, MB."""
    torch.manual_seed(0)
    masks = [torch.zeros(OBJECTS, *size, dtype=torch.bool) for _ in range(BATCH)]
    for of_image in masks:
        for number in range(OBJECTS):
            of_image[number, 16 * (number % 8) : 16 * (number % 8) + 16, 40 * number :] = True
    classes = [torch.arange(OBJECTS) % 19 for _ in range(BATCH)]
    image = torch.rand(BATCH, 3, *size)
    step = (our_step if side == "ours" else their_step)(size, image, masks, classes)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = memory("VmRSS")
    began = time.perf_counter()
    step()
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 1), "mb": round(memory("VmHWM") - before)}


def memory(kind: str) -> float:
    """Return a figure of this process's memory, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def our_step(
    size: tuple[int, int], image: Tensor, masks: list[Tensor], classes: list[Tensor]
) -> Callable[[], None]:
    """Return a step of ours: network and the four terms."""
    from unienc_core.contracts import StepContext
    from unienc_core.losses.objective import Objective
    from unienc_core.training.module import TrainModule

    preset = load_preset(PRESET, [f"image_size={list(size)}"])
    network = build_network(preset, load_pretrained=False)
    module = TrainModule(network, Objective(preset), preset).train()
    batch = {
        "image": image,
        "task": torch.full((BATCH,), 2),
        "target_masks": masks,
        "target_classes": classes,
    }
    return lambda: module({"labels": batch}, preset.stages[0], StepContext())[0].backward()


def their_step(
    size: tuple[int, int], image: Tensor, masks: list[Tensor], classes: list[Tensor]
) -> Callable[[], None]:
    """Return a step of theirs, on the same targets and as many texts."""
    model = reference(size, training=True)
    preset = load_preset(PRESET, [f"image_size={list(size)}"])
    head: Any = build_network(preset, load_pretrained=False).heads["masks"]
    rows = torch.full((BATCH, head.texts), 5)
    rows[:, :OBJECTS] = classes[0] + 6
    return lambda: model(
        image,
        task_inputs=head.sentences[[2] * BATCH],
        text_inputs=head.sentences[rows],
        mask_labels=[x.float() for x in masks],
        class_labels=classes,
    ).loss.backward()


if __name__ == "__main__":
    main()
