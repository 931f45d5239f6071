"""The steering head: what it may know of a sequence, its controls, and grids in place of images."""

import pytest
import torch

from unienc_core.contracts import FeaturePyramid, NodeInputs, PyramidSpec
from unienc_core.errors import DataError, PresetError, ShapeError, WiringError
from unienc_core.models.heads.steering import Steering
from unienc_core.models.network import Network, build_network
from unienc_core.models.pooling import join_grid, pool_to_grid
from unienc_core.models.site import NodeSite
from unienc_core.presets import preset_from_dict
from unienc_core.registry import bind_options

SIZE, FRAMES, BATCH = (64, 128), 4, 2
SPEC = PyramidSpec((8, 16, 32), (6, 8, 10))
BACKBONE = {"name": "resnet18", "model_args": {"channels": [4, 4, 6, 8], "layers": [1] * 4}}


def site(**changes) -> NodeSite:
    given = {
        "name": "steering",
        "view": "sequence",
        "image_size": SIZE,
        "image_channels": 3,
        "pyramids": (SPEC,),
        "frames": (1,),
    }
    return NodeSite(**(given | changes))


def head(**options) -> Steering:
    torch.manual_seed(0)
    small = {"frames": FRAMES, "width": 8, "hidden": 5, "ratio": 1.0}
    return Steering(site(), **(small | options)).eval()


def features(batch: int = BATCH, frames: int = FRAMES, seed: int = 0) -> torch.Tensor:
    """Grids of all frames, joined: `B N C h w`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, sum(SPEC.channels), 2, 4, generator=generator)


def steer(made: Steering, joined: torch.Tensor) -> torch.Tensor:
    levels = list(joined.flatten(0, 1).split(SPEC.channels, 1))
    inputs = NodeInputs([FeaturePyramid(levels, SPEC.strides)], torch.empty(0), {}, len(joined))
    with torch.no_grad():
        return made(inputs)[made.produces[0]]


@pytest.mark.parametrize("time", ["attentive", "average", "last", "gru"])
@pytest.mark.parametrize("space", ["attentive", "average"])
def test_shapes_of_all_ways(time, space):
    for levels in ("all", "last"):
        options = {"time": time, "space": space, "levels": levels}
        assert steer(head(**options), features()).shape == (BATCH,)
        assert steer(head(target="all", **options), features()).shape == (BATCH, FRAMES)


@pytest.mark.parametrize(
    ("time", "ordered"), [("attentive", True), ("gru", True), ("average", False)]
)
def test_the_order_of_the_frames_matters_where_it_should(time, ordered):
    made, joined = head(time=time), features()
    if time == "attentive":  # positions start small, and are learned
        torch.nn.init.normal_(made.over_time.position_embedding)
    apart = (steer(made, joined) - steer(made, joined.flip(1))).abs().max()
    assert apart > 1e-4 if ordered else apart < 1e-6
    if time == "attentive":  # it is they alone that tell the order
        torch.nn.init.zeros_(made.over_time.position_embedding)
        assert (steer(made, joined) - steer(made, joined.flip(1))).abs().max() < 1e-6


def test_columns_are_pooled_apart():
    """In closed form, where all weights of a pooling are one."""
    made, joined = head(space="average", time="last", columns=2), features()
    vectors = []
    for level, pool in zip(joined[:, -1].double().split(SPEC.channels, 1), made.pools, strict=True):
        halves = torch.stack([level[..., :2].mean((2, 3)), level[..., 2:].mean((2, 3))], 2)
        mixed = torch.einsum("oc,bcx->box", pool.mix.weight[:, :, 0, 0].double(), halves)
        vectors.append((mixed / (1 + pool.norm.eps) ** 0.5).flatten(1))
    expected = torch.cat(vectors, 1) @ made.read_off.weight[0].double() + made.read_off.bias
    torch.testing.assert_close(steer(made, joined).double(), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("columns", "sees"), [(1, False), (2, True)])
def test_averages_tell_left_from_right_by_columns_alone(columns, sees):
    made, joined = head(space="average", columns=columns), features()
    apart = (steer(made, joined) - steer(made, joined.flip(4))).abs().max()
    assert apart > 1e-2 if sees else apart < 2e-3


@pytest.mark.parametrize(("asked", "made"), [(1, 1), (3, 3), (4, 4), (9, 4)])
@pytest.mark.parametrize("space", ["attentive", "average"])
def test_columns_are_as_many_as_asked_but_at_most_one_a_window(space, asked, made):
    found = head(columns=asked, window=1, space=space)
    assert found.read_off.in_features == 8 * made * len(SPEC.channels)
    assert steer(found, features()).shape == (BATCH,)


def test_attentive_columns_without_attention_are_averages():
    made, joined = head(columns=2, window=1, time="last"), features()
    for pool in made.pools:
        torch.nn.init.zeros_(pool.rest.restore.weight)  # all logits alike
    averages = head(columns=2, window=1, time="last", space="average")
    averages.load_state_dict(made.state_dict(), strict=False)
    torch.testing.assert_close(steer(made, joined), steer(averages, joined), rtol=0, atol=1e-5)


@pytest.mark.parametrize("units", [0, 7])
def test_units_between_bend_what_is_linear_without_them(units):
    made, joined = head(space="average", time="average", mlp_units=units), features()
    torch.nn.init.zeros_(made.read_off.bias)
    minus = steer(made, -joined)
    assert torch.allclose(minus, -steer(made, joined), atol=1e-5) == (units == 0)


def test_the_last_frame_alone_is_read_where_it_is_said():
    made, joined = head(time="last"), features()
    other = features(seed=1)
    other[:, -1] = joined[:, -1]
    assert torch.equal(steer(made, joined), steer(made, other))
    assert not torch.allclose(steer(head(), joined), steer(head(), other), atol=1e-4)


@pytest.mark.parametrize("time", ["last", "gru"])
def test_targets_in_time_see_no_later_frame(time):
    made, joined = head(time=time, target="all"), features()
    other = features(seed=1)
    other[:, :2] = joined[:, :2]
    first, second = steer(made, joined), steer(made, other)
    torch.testing.assert_close(first[:, :2], second[:, :2])
    assert not torch.allclose(first[:, 2:], second[:, 2:], atol=1e-4)


def test_the_last_level_alone_is_read_where_it_is_said():
    made, joined = head(levels="last"), features()
    other = features(seed=1)
    other[:, :, -SPEC.channels[-1] :] = joined[:, :, -SPEC.channels[-1] :]
    assert torch.equal(steer(made, joined), steer(made, other))


def test_average_pooling_is_blind_to_where_things_are():
    joined = features()
    mirrored = joined.flip(-1)
    average, attentive = head(space="average"), head()
    for pool in attentive.pools:  # positions start small, and are learned
        torch.nn.init.normal_(pool.near.position_embedding)
    torch.testing.assert_close(steer(average, joined), steer(average, mirrored))
    assert (steer(attentive, joined) - steer(attentive, mirrored)).abs().max() > 1e-5


def test_in_evaluation_a_sequence_does_not_depend_on_its_neighbours():
    made = head()
    alone = steer(made, features()[:1])
    torch.testing.assert_close(steer(made, features())[:1], alone, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(WiringError, match="needs view: sequence"):
        Steering(site(view="frame"))
    with pytest.raises(ShapeError, match="sequences of 4 frames, found 3"):
        steer(head(), features(frames=3))
    with pytest.raises(PresetError, match=r"heads.x.options.predicts"):
        bind_options("head", "steering", {"predicts": "Wheel angle"}, "heads.x")


def network(**options) -> Network:
    small = {"frames": FRAMES, "width": 8, **options}
    preset = preset_from_dict(
        {
            "name": "t",
            "image_size": SIZE,
            "network": {
                "encoders": {"main": {"type": "timm", "options": BACKBONE}},
                "heads": {
                    "steering": {
                        "type": "steering",
                        "reads": ["main"],
                        "view": "sequence",
                        "options": small,
                    }
                },
            },
            "streams": {"drives": {"kind": "sequences", "batch_size": 2}},
            "terms": {},
            "stages": [{"name": "s", "steps": 1, "terms": []}],
        }
    )
    return build_network(preset).eval()


@torch.no_grad()
def test_grids_give_what_images_give_and_need_no_encoder():
    net = network(predicts="steering_unit")
    images = torch.rand(BATCH, FRAMES, 3, *SIZE)
    live = net({"a": {"sequence_images": images}})["a"]["steering_unit"]
    assert live.shape == (BATCH,)
    frames = [net.encode(images[:, i])["main"] for i in range(FRAMES)]  # one pass a frame
    grids = torch.stack([join_grid(pool_to_grid(x)) for x in frames], 1)
    assert grids.dtype == torch.float16 and grids.shape[3:] == (2, 4)
    net.encoders["main"].register_forward_pre_hook(lambda *_: pytest.fail("encoded again"))
    batch = {"sequence_grids/main": grids}
    assert net.possible({"a": batch}) == {"a": ["steering_unit"]}
    cached = net({"a": batch})["a"]["steering_unit"]
    torch.testing.assert_close(cached, live, rtol=1e-5, atol=1e-5)


def test_grids_of_another_network_are_refused():
    net = network()
    channels = sum(net.wiring.specs["main"].channels)
    with pytest.raises(DataError, match="grids of 'mian', .* \\(did you mean 'main'"):
        net({"a": {"sequence_grids/mian": torch.zeros(1, FRAMES, channels, 2, 4)}})
    with pytest.raises(ShapeError, match="grids of 9 channels"):
        net({"a": {"sequence_grids/main": torch.zeros(1, FRAMES, 9, 2, 4)}})
    batch = {"sequence_grids/main": torch.zeros(1, FRAMES, channels, 2, 4)}
    with pytest.raises(WiringError, match="no node makes 'depth'"):
        net({"a": batch}, {"a": ["depth"]})
