"""What people, scripts and enemies put on command lines."""

from hypothesis import strategies as st

PRESET = "small.yaml"
"""A preset of the sandbox that is built and trained in a moment."""

NUMBERS = [
    *("0", "-1", "1", "2", "3", "1.5", "-0", "007", "1_000", "0x10", "１２", "²", "nan", "-nan"),
    *("inf", "-inf", "1e309", "1e-400", "1e4", "9" * 30, "-" + "9" * 30, "9" * 5000),
]

WORDS = [
    *("", " ", "true", "None", "-", "--", "---", "-5", "=", "=1", "x=", "a=b=c", "*", "?", "~"),
    *("%s%n", "{}", "[", "é", "日本", "\u202e", "a\nb", "a\rb", "\x1b[31mred", "\udcff\udcfe"),
    "x" * 5000,
]

SIZES = [
    *("96x320", "64x96", "0x5", "00x5", "1x1", "-1x5", "5x", "x", "9999999x9999999", "９x９"),
    *("999999999x1", f"{'9' * 5000}x2", "2x" + "9" * 40),
]

PATHS = [
    *("nowhere", "nowhere/deeper.npy", ".", "..", "folder", "empty", "text.txt", "text.txt/below"),
    *("garbage.bin", "garbage.mp4", "broken.yaml", "latin.yaml", "loop", "dangling", "/dev/null"),
    *("/dev/zero", "/dev/full", "/proc/self/mem", "city", "city/val", "city/val/shard-00000.h5"),
    *("runs/a", "runs/a/checkpoints", "runs/a/run.json", "clip.mp4", "depths", "truths"),
    *("depths/0001.npy", "unified-tiny", "unified-tinny", "@list.txt", "@nowhere", "*.mp4"),
    *("folder/*", "**", PRESET, "n\nl", "\udcff", "x" * 300, "a/" * 3000),
]

DEVICES = ["cpu", "cuda", "cuda:99", "cuda:-1", "cuda:", "meta", "mps", "CPU", "cpu:0", "xla"]

LISTS = [
    *("1,2,3", "1,2,3,4", "nan,1,1,1", "1,,2,3", "0,0,0,0", "1e309,1,1,1", "mp4,png16", ","),
    "a,b",
]

LIMITS = [
    *("abs_rel=0.1", "abs_rel=nan", "abs_rel=", "=1", "abs_rell=1", "abs_rel=1=2"),
    "abs_rel=-inf",
]

SCALES = [
    *("median", "none", "camera_height=1.5", "camera_height=0", "camera_height=nan", "factor="),
    "factor=-1",
]

STAGES = [
    *("1", "1..1", "2..3", "0", "3..1", "..", "1..", "1..2..3", "depth-pose", "¹", "1.5"),
    "9" * 5000,
]

MOMENTS = ["0", "5", "12.5s", "1:30", "1:2:3:4", "-1s", "99999999999", "nans", "::"]

SETS = [
    *("stages.0.steps=1", "stages.0.steps=0", "stages.0.steps=" + "9" * 30, "stages.-1.steps=1"),
    *("stages.².steps=1", "stages.9.steps=1", f"stages.{'9' * 5000}.steps=1", "stages.0.x.y=1"),
    *("stages=", "stages=[]", "stages.0={}", "name=", "name=../x", "name=a/b", "=", "a", "..="),
    *("image_size=[64, 96]", "image_size=[99999968, 99999968]", "image_size=[32]"),
    *("image_size=.inf", "depth.min=.nan", "depth=2020-01-01", "description=2020-13-45"),
    *("optimizer.lr=1e400", "optimizer.lr=-1", "terms.smooth.options={a: .nan}", "terms.=1"),
    *("terms.photometric.options=&a [*a]", "terms.smooth.weight=!!python/x 1", "x=!!binary /w=="),
    *("streams.triplets.batch_size=99999999999999", "streams={}", "kind=x"),
    *("network.encoders.main.options.name=nothing", "network.heads={}", "network.encoders={}"),
    "network.encoders.main.options.model_args={output_stride: 3}",
    "network.encoders.main.options.model_args={block: x}",
    "network.heads.depth.options.scales=1000000000",
    "network.heads.depth.options.channels=[0]",
    "network.heads.depth.options.norm=5",
    "network.heads.pose.options.squeeze=99999999999",
    "network.heads.pose.options.squeeze=-1",
    "description=!!binary /w==",
]

JUNK = [["--bogus"], ["-z"], ["--no-json"], ["--json=1"], ["--"], ["more"], ["--help"]]

ANYTHING = [
    *NUMBERS,
    *WORDS,
    *SIZES,
    *PATHS,
    *DEVICES,
    *LISTS,
    *LIMITS,
    *SCALES,
    *STAGES,
    *MOMENTS,
    *SETS,
]

HOSTILE = st.sampled_from(ANYTHING) | st.text(st.characters(exclude_characters="\0"), max_size=8)

FITTING = {
    "checkpoint": ["runs/a"],
    "clips": ["clip.mp4"],
    "device": ["cpu"],
    "drive": ["test-0000"],
    "fail_over": LIMITS,
    "fail_under": LIMITS,
    "fov": ["60"],
    "folder": ["runs"],
    "fps": ["10"],
    "ground_truth": ["truths"],
    "init": ["runs/a"],
    "inputs": ["clip.mp4", "city"],
    "intrinsics": ["80,80,48,32"],
    "kind": ["depth", "disparity"],
    "max_depth": ["60"],
    "name": [PRESET, "unified-tiny"],
    "out": ["new", "new.mp4"],
    "parts": ["gemm", "store"],
    "paths": ["city", "clip.mp4"],
    "plots": ["new"],
    "predictions": ["depths"],
    "preset": [PRESET],
    "protocol": ["synth", "kitti-eigen"],
    "run": ["runs/a"],
    "scale": SCALES,
    "seed": ["0"],
    "sets": SETS,
    "sink": ["mp4", "png16,npz,h5,jsonl", "ply,jsonl"],
    "size": ["64x96"],
    "stages": STAGES,
    "start": MOMENTS,
    "stop": MOMENTS,
    "store": ["city"],
    "split": ["train", "val=0.2"],
    "stores": ["city"],
    "stride": ["1", "2"],
    "teacher": ["runs/a"],
    "threads": ["1"],
    "to": ["mine.yaml"],
    "train_store": ["city/train"],
    "unit": ["1/km", "deg"],
    "versus": ["runs/a"],
    "weights": ["runs/a/checkpoints/step-0000002/model.safetensors"],
    "workers": ["0", "1"],
}
"""What a parameter is meant for, so that some lines get as far as the work itself."""
