"""What `doctor` tries out, small: a store, the network, a video."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from unienc_core.errors import ResourceError
from unienc_core.files import check_writable
from unienc_core.workflows.doctor import Check, Finding

# Each check imports what it tries: where that is broken, the others shall still be told.
if TYPE_CHECKING:
    import numpy as np

PRESET = "unified-tiny"

_SIZE = (64, 96)
_ENCODER = "libx264"
_FRAMES = 3
_LOSSY = 8.0
"""Mean difference, of 255, that encoding may cost a smooth picture."""


def try_store() -> Iterator[Finding]:
    """Write a store, read it back, and see whether HDF5 can lock files where stores would lie."""
    import h5py
    import numpy as np

    from unienc_core.data.keys import standard_keys
    from unienc_core.data.manifest import StoreSpec
    from unienc_core.data.store import Store
    from unienc_core.data.store_writer import StoreWriter

    written = _pictures()
    K = np.array([[80.0, 0, 48], [0, 80, 32], [0, 0, 1]])
    spec = StoreSpec(source="doctor", image_size=_SIZE, keys=standard_keys("image", "K"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        with StoreWriter(path, spec) as writer:
            writer.add_drive("drive", [{"image": image, "K": K} for image in written])
        store = Store(path, verify=True)
        read = [store.frame(0, i, ["image"])["image"] for i in range(_FRAMES)]
        store.close()
    same = all(np.array_equal(a, b) for a, b in zip(written, read, strict=True))
    found = f"HDF5 {h5py.version.hdf5_version}, h5py {h5py.__version__}"
    if not same:
        remedy = "install h5py and opencv-python of constraints.txt again"
        yield Finding("store", "problem", f"{found}: a frame came back changed", remedy)
    else:
        yield Finding("store", "ok", f"{found}: {_FRAMES} frames written and read back unchanged")
    yield _file_locks()


def try_network() -> Iterator[Finding]:
    """Run a small network forward and backward where training would run."""
    import torch
    from torch import Tensor

    from unienc_core.device import resolve_device
    from unienc_core.models.network import build_network
    from unienc_core.presets import load_preset

    device = resolve_device("auto")
    preset = load_preset(PRESET, [f"image_size={list(_SIZE)}"])
    network = build_network(preset, load_pretrained=False).to(device)
    image = torch.rand(1, 3, *_SIZE, generator=torch.Generator().manual_seed(0)).to(device)
    K = torch.tensor([[[80.0, 0, 48], [0, 80, 32], [0, 0, 1]]], device=device)
    batch = {"target_image": image, "source_images": image[:, None], "K": K}
    made = network({"trial": batch})["trial"]
    means = [value.float().mean() for value in made.values() if isinstance(value, Tensor)]
    torch.stack(means).sum().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    finite = bool(gradients) and all(bool(g.isfinite().all()) for g in gradients)
    where = f"{PRESET} at {_SIZE[0]}x{_SIZE[1]} on {device}"
    if finite:
        yield Finding("network", "ok", f"{where}: forward and backward, all gradients finite")
    else:
        remedy = "--device cpu, or the torch of constraints.txt"
        yield Finding("network", "problem", f"{where}: gradients are not finite", remedy)


def try_video() -> Iterator[Finding]:
    """Encode and decode a few frames."""
    import av
    import numpy as np

    from unienc_core.inference.video import VideoReader
    from unienc_core.inference.video_writer import VideoWriter

    found = f"PyAV {av.__version__}, FFmpeg {getattr(av, 'ffmpeg_version_info', 'of its own')}"
    if _ENCODER not in av.codecs_available:
        remedy = "pip install --force-reinstall --only-binary av av: its wheels bring the encoder"
        yield Finding("video", "problem", f"{found}, without the encoder {_ENCODER}", remedy)
        return
    written = _pictures()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        writer = VideoWriter(path, Fraction(10), Fraction(1, 10))
        for i, image in enumerate(written):
            writer.write(image, i)
        writer.close()
        with VideoReader(path) as reader:
            read = [frame.image for frame in reader]
    errors = [float(np.abs(a.astype(float) - b).mean()) for a, b in zip(written, read, strict=True)]
    if max(errors) > _LOSSY:
        remedy = "install av of constraints.txt again"
        yield Finding("video", "problem", f"{found}: frames came back changed", remedy)
    else:
        yield Finding("video", "ok", f"{found}, {_ENCODER}: {_FRAMES} frames encoded and decoded")


CHECKS: Mapping[str, Check] = {"store": try_store, "network": try_network, "video": try_video}


def _pictures() -> list[np.ndarray]:
    """Smooth frames that differ: `H W 3`, uint8, RGB."""
    import numpy as np

    y, x = np.mgrid[: _SIZE[0], : _SIZE[1]]
    return [np.stack([2 * y, 2 * x, y + 30 * i], -1).astype(np.uint8) for i in range(_FRAMES)]


def _file_locks() -> Finding:
    import h5py

    try:
        check_writable(Path())
        here = Path.cwd()
    except ResourceError:
        here = Path(tempfile.gettempdir())
    setting = os.environ.get("HDF5_USE_FILE_LOCKING")
    said = f" (HDF5_USE_FILE_LOCKING={setting})" if setting else ""
    with tempfile.TemporaryDirectory(dir=here, prefix=".tmp-doctor-") as folder:
        path = Path(folder) / "locks.h5"
        try:
            for mode in ("w", "r"):
                h5py.File(path, mode).close()
        except OSError as error:
            fault = f"a file cannot be opened at {here}: {' '.join(str(error).split())}"
            remedy = "export HDF5_USE_FILE_LOCKING=FALSE: this file system may not know locks"
            return Finding("HDF5 files", "problem", fault + said, remedy)
    return Finding("HDF5 files", "ok", f"can be opened and locked at {here}{said}")
