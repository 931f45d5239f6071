"""The tables of docs/results.md as data: rows, seeds, columns, published figures."""

from __future__ import annotations

from results_rows import Column, Row, Table
from results_shared import MASKS, SEGMENTS, THREE, published
from results_steering import STEERING_TABLE

from unienc_core.metrics.published import published_depth

_DEPTH = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
_SUBSETS = tuple(
    Column(f"abs_rel {name}", f"subsets.{name}.abs_rel") for name in ("static", "moving")
)
_RIGID = ("eval-depth", "--pose")
_THRESHOLDED = ("thresholded_flow", "thresholded_flow_px", "thresholded_flow_ratio")
_ALONE = Row(
    "`unified-tiny`: depth and pose alone, 3,900 steps",
    "unified-tiny",
    ("stages.0.steps=3900",),
    THREE,
    scored_by=_RIGID,
)
_FLOW = Row(
    "+ flow (`unified-motion-tiny`, stage 2)",
    "unified-motion-tiny",
    seeds=THREE,
    stages="2",
    start=_ALONE,
)
_PAIRS = Row(
    "`monodepth2-tiny`, 1,200 steps",
    "monodepth2-tiny",
    ("stages.0.steps=1200",),
    scored_by=_RIGID,
)

_ON = ("stages.0.steps=150", "stages.0.lr=1e-4", "stages.0.schedule.type=constant")
"""Depth, pose and segments alone go on for as long as stage 4 lasts, at its rate."""

_SEPARATE = Row("stage 1", "teacher-tiny", verb="train-teacher", stages="1")
_TEACHER = Row(
    "separate encoders + FM (`teacher-tiny`, the teacher)",
    "teacher-tiny",
    verb="train-teacher",
    stages="2..4",
    start=_SEPARATE,
)

FREQUENT = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
)
"""Classes with half a percent or more of the training pixels of `city`."""


TABLES = {
    "depth": Table(
        title="Depth",
        caption="Self-supervised depth on held-out cities, 96x320, median-scaled, 0.5 to 80 m.",
        world="city",
        rows=(
            Row("`unified-tiny`, 1,200 steps", "unified-tiny", ("stages.0.steps=1200",)),
            Row("`unified-tiny`, 3,900 steps", "unified-tiny", ("stages.0.steps=3900",), THREE),
        ),
        columns=(
            *(Column(name, f"metrics.{name}", ranks=name == "abs_rel") for name in _DEPTH),
            *_SUBSETS,
        ),
        published={
            f"{row['method']}, KITTI": {name: f"{row['metrics'][name]:.3f}" for name in _DEPTH}
            for row in published_depth("kitti-eigen")
            if row["method"].startswith(("Nguyen", "Monodepth2"))
        },
    ),
    "pose": Table(
        title="Separate, shared and multi-scale pose",
        caption=(
            "The decoders of the five systems of Table I (upper half) of Nguyen et al., tiny, "
            "2,000 steps from random weights each, all on the same small ResNet, so what tells the "
            "rows apart is not the paper's Swin. sep has an encoder of its own for the pose, sh "
            "shares the depth's, MS is the multi-scale pose decoder. MD2 and Our differ in the "
            "depth decoder (U-Net, skip attention), its range and where it starts: compare rows "
            "within each. Held-out cities, 96x320, depth median-scaled, 0.5 to 80 m; rotation and "
            "direction of the translation per pair of neighbours, absolute trajectory error per 5 "
            "frames with one factor each."
        ),
        world="city",
        rows=(
            Row("U-Net, separate (MD2_sep)", "md2-sep-tiny"),
            Row("U-Net, shared (MD2_sh)", "md2-shared-tiny"),
            Row("skip attention, separate (Our_sep)", "unified-sep-tiny", seeds=THREE),
            Row("skip attention, shared (Our_sh)", "unified-shared-tiny", seeds=THREE),
            Row("skip attention, shared, MS (Our_sh + MS)", "unified-kitti-tiny", seeds=THREE),
        ),
        columns=(
            Column("abs_rel", "metrics.abs_rel", ranks=True),
            *_SUBSETS,
            Column("rmse_log", "metrics.rmse_log"),
            Column("a1", "metrics.a1"),
            Column("rotation, deg", "pose.rotation_deg", ranks=True),
            Column("direction, deg", "pose.translation_direction_deg", ranks=True),
            Column("ATE of 5, m", "pose.ate_5", ranks=True),
            Column("swap rotation, deg", "pose.swap_rotation_deg"),
            Column("swap translation", "pose.swap_translation"),
        ),
        evaluation=("--pose",),
        published={
            f"{label}, KITTI 192x640": published(("abs_rel", "rmse_log", "a1"), figures)
            for label, figures in (
                ("MD2_sep", ".115 .193 .877"),
                ("MD2_sh", ".125 .201 .857"),
                ("Our_sep", ".108 .183 .884"),
                ("Our_sh", ".117 .190 .872"),
                ("Our_sh + MS", ".109 .184 .884"),
            )
        },
    ),
    "segmentation": Table(
        title="Segmentation, alone and beside depth and pose",
        caption=(
            "Panoptic, instance and semantic segmentation from one network, trained from random "
            "weights on the masks of 40 synthetic cities: alone, and with self-supervised depth "
            "and pose on the same encoder, which then sees as many triplets beside the labelled "
            "images. 1,500 steps each. Held-out cities, 96x320, no test-time augmentation; depth "
            "median-scaled, 0.5 to 80 m. Frequent classes have 0.5% or more of the training pixels."
        ),
        world="city",
        rows=(
            SEGMENTS,
            Row("depth, pose, segmentation", "unified-masks-tiny", seeds=THREE),
        ),
        columns=(
            Column("PQ", "panoptic.metrics.pq", ranks=True),
            Column("PQ things", "panoptic.metrics.pq_things"),
            Column("PQ stuff", "panoptic.metrics.pq_stuff"),
            Column("AP", "instance.metrics.ap", ranks=True),
            Column("mIoU", "semantic.metrics.miou", ranks=True),
            Column("mIoU, frequent", f"semantic.per_class.{{{','.join(FREQUENT)}}}.iou"),
            Column("abs_rel", "metrics.abs_rel"),
            Column("a1", "metrics.a1"),
        ),
        tasks=("panoptic", "instance", "semantic"),
        published={
            "OneFormer with Swin-T in Nguyen et al., Cityscapes": published(
                ("PQ", "AP", "mIoU"), "0.558 0.284 0.743"
            ),
        },
    ),
    "motion": Table(
        title="Scene flow and motion mask",
        caption=(
            "Independent motion without labels, tiny, on held-out cities, 96x320. Flow, then mask, "
            "then everything together begin with the depth and pose of the first row; the second "
            "row goes on with depth and pose alone for as many steps as the last stage has, at its "
            "rate. Three separate encoders: `monodepth2-tiny` (depth and pose), and from there "
            "`dynamo-depth-tiny`. IoU of what moves: of the mask over one half; of the mask, and "
            "of the length of the flow F_C - F_R of the same network in m and in px, over the "
            "threshold that is best on these very images. End-point error of the independent flow "
            "on moving pixels, and in the image of the final flow, each beside that of no "
            "independent flow. Rows without flow are scored on all frames of a drive, the others "
            "without its first and last. Depth and flow median-scaled, 0.5 to 80 m; absolute "
            "trajectory error per 5 frames."
        ),
        world="city",
        rows=(
            _ALONE,
            Row(
                "the same for 300 steps more",
                "unified-tiny",
                (
                    *("stages.0.steps=300", "stages.0.lr=1e-4"),
                    "stages.0.schedule.type=constant",
                ),
                THREE,
                start=_ALONE,
                scored_by=_RIGID,
            ),
            _FLOW,
            Row(
                "+ mask, everything (stages 3 and 4)",
                "unified-motion-tiny",
                seeds=THREE,
                stages="3..4",
                start=_FLOW,
            ),
            _PAIRS,
            Row(
                "`dynamo-depth-tiny`, stages 2 to 4",
                "dynamo-depth-tiny",
                stages="2..4",
                start=_PAIRS,
            ),
        ),
        columns=(
            Column("IoU", "metrics.motion_iou", ranks=True),
            Column("best IoU", "metrics.motion_best_iou"),
            Column("best IoU, flow m", "baselines.thresholded_flow.motion_iou"),
            Column("best IoU, flow px", "baselines.thresholded_flow_px.motion_iou"),
            Column("AP", "metrics.motion_ap"),
            Column("EPE moving, m", "metrics.masked_epe_moving", ranks=True),
            Column("without", "baselines.zero_independent_flow.independent_epe_moving"),
            Column("EPE moving, px", "metrics.final_optical_epe_moving", ranks=True),
            Column("without, px", "baselines.zero_independent_flow.optical_epe_moving"),
            Column("abs_rel", "metrics.abs_rel"),
            *(
                Column(f"abs_rel {name}", f"subsets.{name}.abs_rel", ranks=name == "moving")
                for name in ("static", "moving")
            ),
            Column("ATE of 5, m", "pose.ate_5"),
        ),
        scored_by="eval-motion",
        own_baselines=_THRESHOLDED,
    ),
    "distil": Table(
        title="Distillation",
        caption=(
            "The lower part of Table I of Nguyen et al., tiny, on held-out cities, 96x320: depth, "
            "pose and segments from encoders of their own or from one (MS: multi-scale pose "
            "decoder), without and with flow and motion mask (FM), without and with a teacher of "
            "separate encoders (KD). All start from random weights; the shared ones begin with the "
            "same 1,500 steps of stage 1, then 300 of flow, 250 of the mask and 150 of everything. "
            "Rows without FM have 150 steps more of stage 1 at the rate of the last, scored "
            "on all frames of a drive, the others without its first and last. Depth and flow "
            "median-scaled, 0.5 to 80 m; IoU and end-point error as in the table of motion."
        ),
        world="city",
        rows=(
            _TEACHER,
            Row(
                "separate encoders",
                "teacher-tiny",
                _ON,
                verb="train-teacher",
                stages="1",
                start=_SEPARATE,
                scored_by=_RIGID,
            ),
            Row("shared + MS", "unified-masks-tiny", _ON, THREE, start=MASKS, scored_by=_RIGID),
            Row("shared + MS + FM", "unified-all-tiny", (), THREE, stages="2..4", start=MASKS),
            Row(
                "shared + MS + FM + KD",
                "unified-all-tiny",
                (),
                THREE,
                verb="distill",
                stages="2..4",
                start=MASKS,
                teacher=_TEACHER,
            ),
        ),
        columns=(
            Column("abs_rel", "metrics.abs_rel", ranks=True),
            *(
                Column(f"abs_rel {name}", f"subsets.{name}.abs_rel", ranks=name == "moving")
                for name in ("static", "moving")
            ),
            Column("rmse_log", "metrics.rmse_log"),
            Column("a1", "metrics.a1"),
            Column("EPE moving, m", "metrics.masked_epe_moving"),
            Column("without", "baselines.zero_independent_flow.independent_epe_moving"),
            Column("IoU", "metrics.motion_iou", ranks=True),
            Column("best IoU", "metrics.motion_best_iou"),
            Column("PQ", "panoptic.metrics.pq", ranks=True),
            Column("ATE of 5, m", "pose.ate_5"),
        ),
        scored_by="eval-motion",
        own_baselines=_THRESHOLDED,
        tasks=("panoptic",),
        published={
            f"{label}, Cityscapes 192x512": published(("abs_rel", "rmse_log", "a1"), figures)
            for label, figures in (
                ("Our_sep", ".103 .157 .885"),
                ("Our_sh + MS", ".126 .182 .850"),
                ("Our_sh + MS + FM", ".134 .183 .833"),
                ("Our_sh + MS + FM + KD", ".106 .158 .888"),
            )
        },
    ),
    "steering": STEERING_TABLE,
}
