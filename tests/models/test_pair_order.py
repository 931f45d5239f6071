"""In temporal order, swapping the frames of a pair inverts its motion, exactly and by construction.

Through the whole network, for every way in which a preset can get a pose.
"""

import pytest
import torch

from unienc_core.contracts import Head
from unienc_core.errors import WiringError
from unienc_core.models.network import Network, build_network
from unienc_core.presets import Preset, preset_from_dict
from unienc_core.registry import register

SIZE = (64, 96)
BACKBONE = {"name": "resnet18", "model_args": {"channels": [4, 4, 6, 8], "layers": [1] * 4}}
MULTI = {"type": "multi_scale", "options": {"widths": [4, 4, 4, 4], "squeeze": 4}}
SINGLE = {"type": "single_scale", "options": {"squeeze": 4}}


def preset(encoders: dict, heads: dict) -> Preset:
    return preset_from_dict(
        {
            "name": "t",
            "image_size": SIZE,
            "network": {"encoders": encoders, "heads": heads},
            "streams": {"triplets": {"kind": "triplets", "batch_size": 2}},
            "terms": {},
            "stages": [{"name": "s", "steps": 1, "terms": []}],
        }
    )


def network(head: dict, *, separate: bool, order="temporal", encoder_order=None) -> Network:
    reads = "main"
    encoders = {"main": {"type": "timm", "options": BACKBONE}}
    if separate:
        reads = "pose"
        pair = BACKBONE | {"pair_order": encoder_order or order}
        encoders["pose"] = {"type": "timm", "view": "pair", "options": pair}
    options = head["options"] | {"pair_order": order}
    pose = {"type": head["type"], "view": "pair", "reads": [reads], "options": options}
    built = build_network(preset(encoders, {"pose": pose})).eval()
    # Motions that can be told from zero, and a rotation from its opposite.
    torch.nn.init.normal_(
        built.heads["pose"].decode.body[-1].weight,
        std=40.0,
        generator=torch.Generator().manual_seed(0),
    )
    return built


def motion(net: Network, source, target, offset: int) -> torch.Tensor:
    """T_source_target, as the predictor of a stream asks for it."""
    encode = net.encode
    with torch.no_grad():
        made = net.decode_pair(
            encode(source),
            encode(target),
            torch.cat([source, target], 1),
            {"source_offsets": torch.full((len(source), 1), offset)},
        )
    return made["T_source_target"][:, 0].double()


WAYS = {
    "multi_scale, shared": (MULTI, False),
    "single_scale, shared": (SINGLE, False),
    "single_scale, separate": (SINGLE, True),
    "multi_scale, separate": (MULTI, True),
}


@pytest.mark.parametrize(("head", "separate"), WAYS.values(), ids=WAYS)
def test_swapping_the_frames_inverts_the_motion(head, separate):
    net = network(head, separate=separate)
    earlier, later = torch.rand(2, 3, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    forth, back = motion(net, earlier, later, -1), motion(net, later, earlier, 1)
    identity = torch.eye(4, dtype=torch.float64).expand(3, 4, 4)
    torch.testing.assert_close(forth @ back, identity, atol=1e-6, rtol=0)
    assert (forth - identity).abs().amax((1, 2)).min() > 1e-3
    # Time reversed is another question, which only learning answers consistently.
    reversed_time = motion(net, later, earlier, -1)
    assert (forth @ reversed_time - identity).abs().max() > 1e-4


@pytest.mark.parametrize(("head", "separate"), WAYS.values(), ids=WAYS)
def test_training_sees_the_same_motions_as_a_stream(head, separate):
    net = network(head, separate=separate)
    before, target, after = torch.rand(3, 2, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    batch = {
        "target_image": target,
        "source_images": torch.stack([before, after], 1),
        "source_offsets": torch.tensor([[-1, 1], [-1, 1]]),
    }
    with torch.no_grad():
        made = net({"a": batch})["a"]["T_source_target"].double()
    torch.testing.assert_close(made[:, 0], motion(net, before, target, -1))
    torch.testing.assert_close(made[:, 1], motion(net, after, target, 1))


@pytest.mark.parametrize(("head", "separate"), WAYS.values(), ids=WAYS)
def test_target_last_needs_no_offsets_and_promises_nothing(head, separate):
    net = network(head, separate=separate, order="target_last")
    assert net.heads["pose"].requires == ()
    first, second = torch.rand(2, 1, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    forth = motion(net, first, second, -1)
    assert torch.equal(forth, motion(net, first, second, 1))
    product = forth @ motion(net, second, first, 1)
    assert (product - torch.eye(4)).abs().max() > 1e-4


def test_an_encoder_of_pairs_is_shown_the_earlier_frame_first():
    net = network(SINGLE, separate=True)
    seen = []
    net.encoders["pose"].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    target, sources = torch.rand(1, 3, *SIZE), torch.rand(1, 2, 3, *SIZE)
    offsets = torch.tensor([[-1, 1]])
    net({"a": {"target_image": target, "source_images": sources, "source_offsets": offsets}})
    expected = torch.stack(
        [torch.cat([sources[0, 0], target[0]]), torch.cat([target[0], sources[0, 1]])]
    )
    assert torch.equal(seen[0], expected)


def test_encoder_and_head_must_agree():
    for order, encoder_order in (("temporal", "target_last"), ("target_last", "temporal")):
        with pytest.raises(WiringError, match=f"pair_order {order}, but .* {encoder_order}; give"):
            network(SINGLE, separate=True, order=order, encoder_order=encoder_order)


@register("head", "toy_means")
class ToyMeans(Head):
    """A head of pairs that needs no offsets itself."""

    produces = ("means",)

    def __init__(self, site):
        super().__init__()

    def forward(self, inputs):
        return {"means": inputs.pyramids[0].levels[-1].mean((2, 3))}


def test_without_offsets_an_ordered_encoder_cannot_run():
    pair = {"type": "timm", "view": "pair", "options": BACKBONE | {"pair_order": "temporal"}}
    means = {"type": "toy_means", "view": "pair", "reads": ["motion"]}
    net = build_network(preset({"motion": pair}, {"means": means}))
    batch = {"target_image": torch.rand(1, 3, *SIZE), "source_images": torch.rand(1, 1, 3, *SIZE)}
    with pytest.raises(WiringError, match="the batch has no 'source_offsets'"):
        net({"a": batch}, ["means"])
    assert net({"a": batch | {"source_offsets": torch.tensor([[1]])}}, ["means"])["a"]


def test_only_pairs_have_an_order():
    frame = {"type": "timm", "options": BACKBONE | {"pair_order": "temporal"}}
    with pytest.raises(WiringError, match="main: pair_order temporal is for .* view: pair"):
        build_network(preset({"main": frame}, {}))
