"""A Swin on two threads: the sums over its position tables must not depend on who comes first."""

import pytest
import torch
from tiny_store import write_tiny_store
from training_runs import Crash, assert_same_end, crash_at

from unienc_core.workflows.train import train

PRESET = """
name: swin
image_size: [64, 96]
network:
  encoders:
    main:
      type: timm
      options:
        name: swin_tiny_patch4_window7_224
        model_args: {embed_dim: 24, depths: [2, 2, 2, 2]}
        drop_path: 0.2
  heads:
    depth: {type: unet, reads: [main], options: {channels: [8, 8, 8, 8, 8], scales: 1}}
    pose: {type: single_scale, reads: [main], view: pair}
streams:
  triplets: {kind: triplets, batch_size: 2}
terms:
  photometric: {}
  smooth: {weight: 1e-3}
optimizer: {lr: 3e-4, clip_norm: 1.0}
stages:
  - {name: all, steps: 6, terms: [photometric, smooth]}
"""


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    yield 2
    torch.set_num_threads(before)


def test_resume_on_two_threads_ends_in_the_same_bytes(tmp_path, two_threads):
    (tmp_path / "swin.yaml").write_text(PRESET)
    store = write_tiny_store(tmp_path / "store")

    def run(out, crash=None):
        train(
            str(tmp_path / "swin.yaml"),
            [store],
            out=out,
            device="cpu",
            threads=two_threads,
            workers=0,
            checkpoint_every=2,
            reporter=crash_at(crash),
        )

    torch.use_deterministic_algorithms(False)
    run(tmp_path / "whole")
    # The race is rare in a network this small: without this the bytes below agree most times.
    assert torch.are_deterministic_algorithms_enabled()
    with pytest.raises(Crash):
        run(tmp_path / "torn", crash=3)
    run(tmp_path / "torn")
    assert_same_end(tmp_path / "whole", tmp_path / "torn")
