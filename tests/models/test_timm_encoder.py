"""The timm adapter: layouts, normalisation, pairs, weights and their errors."""

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from unienc_core.errors import CheckpointError, DataError, PresetError
from unienc_core.models import timm_compat
from unienc_core.models.encoders import TimmEncoder
from unienc_core.models.site import EncoderSite

SMALL = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
SMALL_SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}
SWIN = "swin_tiny_patch4_window7_224"


def encoder(name="resnet18", channels=3, size=(64, 128), **options) -> TimmEncoder:
    options = {"model_args": SMALL} | options
    return TimmEncoder(EncoderSite("main", size, channels), name=name, **options).eval()


@pytest.mark.parametrize(
    ("name", "model_args", "strides"),
    [
        (SWIN, SMALL_SWIN, (4, 8, 16, 32)),
        ("resnet18", SMALL, (2, 4, 8, 16, 32)),
        ("resnet18", SMALL | {"output_stride": 8}, (2, 4, 8, 8, 8)),
        ("hrnet_w18_small", {"feature_location": "", "out_indices": [1, 2, 3, 4]}, (4, 8, 16, 32)),
        ("convnext_atto", {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}, (4, 8, 16, 32)),
    ],
)
@pytest.mark.parametrize("channels", [3, 6])
def test_any_backbone_keeps_its_promise(name, model_args, strides, channels):
    made = encoder(name, channels, model_args=model_args)
    with torch.no_grad():
        pyramid = made(torch.rand(2, channels, 64, 128))
    assert made.spec.strides == strides
    assert pyramid.spec == made.spec
    for level, stride, width in zip(pyramid.levels, strides, made.spec.channels, strict=True):
        assert level.shape == (2, width, 64 // stride, 128 // stride)


def test_images_are_normalised_as_in_pretraining():
    made = encoder()
    image = torch.rand(1, 3, 64, 128)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = made.net((image - mean.view(3, 1, 1)) / std.view(3, 1, 1))
        levels = made(image).levels
    for level, wanted in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, wanted)


def test_grey_statistics_are_those_of_monodepth2():
    image = torch.rand(1, 6, 64, 128)
    made = encoder(channels=6, normalisation="grey")
    with torch.no_grad():
        expected = made.net((image - 0.45) / 0.225)
        levels = made(image).levels
    for level, wanted in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, wanted)


def test_each_level_gets_its_own_layer_norm():
    for name, args in ((SWIN, SMALL_SWIN), ("resnet18", SMALL)):
        with torch.no_grad():
            levels = encoder(name, model_args=args, norm_levels=True)(
                torch.rand(1, 3, 64, 128)
            ).levels
        for level in levels:
            torch.testing.assert_close(
                level.mean(1), torch.zeros_like(level[:, 0]), atol=1e-4, rtol=0
            )
    assert [n for n, _ in encoder(norm_levels=True).norms.named_parameters()][:2] == [
        "0.weight",
        "0.bias",
    ]


def test_drop_path_is_off_unless_asked_for():
    rates = {
        drop: [
            getattr(m, "drop_prob", 0.0)
            for m in encoder(SWIN, model_args=SMALL_SWIN, drop_path=drop).modules()
            if type(m).__name__ == "DropPath"
        ]
        for drop in (0.0, 0.3)
    }
    assert rates[0.0] == []
    assert max(rates[0.3]) == pytest.approx(0.3)


@pytest.fixture
def weights(tmp_path):
    """A file as timm publishes them: the classifier included."""
    torch.manual_seed(3)
    model = timm_compat.create_model("resnet18", num_classes=10, **SMALL)
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    return path, model


def test_weights_come_from_a_file(weights):
    path, model = weights
    said = []
    site = EncoderSite("main", (64, 128), 3, say=said.append)
    made = TimmEncoder(site, name="resnet18", weights=str(path), model_args=SMALL)
    assert made.pretrained
    assert torch.equal(made.net["conv1"].weight, model.conv1.weight)
    assert torch.equal(made.net["layer4"][0].conv2.weight, model.layer4[0].conv2.weight)
    assert said == [f"encoder 'main': resnet18 starts from weights of {path}"]


def test_pairs_get_the_first_weights_twice_and_halved(weights):
    path, model = weights
    made = encoder(channels=6, weights=str(path))
    first = model.conv1.weight / 2
    torch.testing.assert_close(made.net["conv1"].weight, torch.cat([first, first], 1))
    # so that a pair of equal images starts as the single image did
    image = torch.rand(1, 3, 64, 128)
    single = encoder(weights=str(path))
    with torch.no_grad():
        pair, alone = made(torch.cat([image, image], 1)), single(image)
    torch.testing.assert_close(pair.levels[-1], alone.levels[-1], rtol=1e-4, atol=1e-4)
    # and any pair as the mean of what its images give
    other = torch.rand(1, 3, 64, 128)
    with torch.no_grad():
        mean = (model.conv1(image) + model.conv1(other)) / 2
        torch.testing.assert_close(made.net["conv1"](torch.cat([image, other], 1)), mean)


def test_a_grey_input_sums_the_first_weights(weights):
    path, model = weights
    made = encoder(channels=1, weights=str(path))
    torch.testing.assert_close(made.net["conv1"].weight, model.conv1.weight.sum(1, keepdim=True))
    assert made.mean.item() == pytest.approx((0.485 + 0.456 + 0.406) / 3)


def test_pretrained_takes_what_the_hub_has_cached(weights, monkeypatch):
    path, model = weights
    asked = []

    def cached(repository, file):
        asked.append((repository, file))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    made = encoder(pretrained=True)
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]
    assert torch.equal(made.net["conv1"].weight, model.conv1.weight)


def test_swin_weights_come_from_a_file(tmp_path):
    model = timm_compat.create_model(SWIN, num_classes=5, **SMALL_SWIN)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(state, tmp_path / "swin.safetensors")
    made = encoder(SWIN, model_args=SMALL_SWIN, weights=str(tmp_path / "swin.safetensors"))
    assert torch.equal(
        made.net["layers_2"].blocks[0].attn.qkv.weight, model.layers[2].blocks[0].attn.qkv.weight
    )


def test_weights_are_not_looked_at_when_a_checkpoint_follows():
    site = EncoderSite("main", (64, 128), 3, load_pretrained=False, say=pytest.fail)
    made = TimmEncoder(site, name="resnet18", pretrained=True, weights="no.safetensors")
    assert made.pretrained


def test_random_weights_are_said_aloud():
    said = []
    site = EncoderSite("main", (64, 128), 3, say=said.append)
    TimmEncoder(site, name="resnet18", model_args=SMALL)
    assert said == ["encoder 'main': resnet18 starts from random weights"]


def test_pretrained_without_a_network_says_what_to_do(monkeypatch):
    def refuse(*args, **options):
        raise ConnectionError("no\nway")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", pytest.fail)
    with pytest.raises(DataError) as caught:
        encoder(pretrained=True)
    message = str(caught.value)
    assert "\n" not in message
    assert "(no way)" in message
    assert "--weights FILE" in message
    assert "network.encoders.main.options.pretrained=false" in message


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("gone.safetensors", None, DataError, "cannot read"),
        ("model.pth", b"x", DataError, "must be a .safetensors file"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{", DataError, "cannot read"),
    ],
)
def test_unusable_weight_files(tmp_path, name, content, error, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=words) as caught:
        encoder(weights=str(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_model(tmp_path, weights):
    path, model = weights
    with pytest.raises(CheckpointError, match="does not fit resnet18"):
        encoder(weights=str(path), model_args=SMALL | {"channels": [8, 8, 16, 32]})
    half = {k: v for k, v in model.state_dict().items() if not k.startswith("layer4")}
    save_file(half, tmp_path / "half.safetensors")
    with pytest.raises(CheckpointError, match="lacks .* such as 'layer4"):
        encoder(weights=str(tmp_path / "half.safetensors"))


def test_unknown_models_and_arguments():
    with pytest.raises(PresetError, match="no model 'resnet81' \\(did you mean 'resnet18'"):
        encoder("resnet81")
    with pytest.raises(PresetError, match="timm cannot build 'resnet18'.*strides_of"):
        encoder(model_args={"strides_of": [8]})


@pytest.mark.parametrize("args", [SMALL, SMALL | {"stem_type": "deep", "stem_width": 8}])
def test_from_scratch_half_of_the_first_layer_sees_differences(args):
    site = EncoderSite("pose", (64, 128), 6, view="pair")
    made = TimmEncoder(site, name="resnet18", model_args=args)
    first = next(m for m in made.net.modules() if isinstance(m, torch.nn.Conv2d))
    image, other = torch.rand(2, 1, 3, 8, 8)
    still, moved = (first(torch.cat([image, x], 1))[0] for x in (image, other))
    half = first.out_channels // 2
    torch.testing.assert_close(still[:half], torch.zeros_like(still[:half]), atol=1e-6, rtol=0)
    assert moved[:half].abs().amax((1, 2)).min() > 1e-3
    assert still[half:].abs().amax((1, 2)).min() > 1e-3


def test_pretrained_weights_of_a_pair_are_left_alone(weights):
    path, model = weights
    site = EncoderSite("pose", (64, 128), 6, view="pair")
    made = TimmEncoder(site, name="resnet18", weights=str(path), model_args=SMALL)
    half = model.conv1.weight / 2
    torch.testing.assert_close(made.net["conv1"].weight, torch.cat([half, half], 1))
