"""Weights of other libraries: the same outputs as theirs, and refusals that name what is wrong."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unienc_core.checkpoint import load_checkpoint, load_tensors
from unienc_core.errors import CheckpointError, DataError, UsageError
from unienc_core.models import timm_compat  # noqa: F401 - others import torchvision
from unienc_core.models.network import Network, build_network
from unienc_core.workflows.import_weights import import_weights, read_foreign

WIDTH, HEADS, QUERIES, LAYERS = 64, 4, 7, 2
SWIN = {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
ONEFORMER = [
    f"network.encoders.main.options.model_args={SWIN}",
    "network.heads.masks.options={width: 64, heads: 4, pixel_layers: 1, pixel_hidden: 48, "
    f"queries: {QUERIES}, layers: {LAYERS}, hidden: 64, context: 3, text_width: 64, "
    "text_layers: 1, text_heads: 1}",
    "image_size=[96, 160]",
]


def oneformer(num_labels: int = 19) -> nn.Module:
    """A OneFormer of transformers at toy size, all of its weights random."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.SwinConfig(**SWIN, out_features=[f"stage{n}" for n in range(1, 5)])
    config = transformers.OneFormerConfig(
        backbone_config=backbone,
        conv_dim=WIDTH,
        mask_dim=WIDTH,
        hidden_dim=WIDTH,
        num_attention_heads=HEADS,
        encoder_layers=1,
        encoder_feedforward_dim=48,
        dim_feedforward=64,
        num_queries=QUERIES,
        decoder_layers=LAYERS + 1,
        text_encoder_width=WIDTH,
        text_encoder_num_layers=1,
        text_encoder_n_ctx=3,
        num_labels=num_labels,
        is_training=True,
        dropout=0.0,
    )
    torch.manual_seed(0)
    made = transformers.OneFormerForUniversalSegmentation(config)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "bias" in name or "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return made.eval()


def plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def load(report: dict) -> Network:
    checkpoint = load_checkpoint(Path(report["checkpoint"]))
    network = build_network(checkpoint.preset, load_pretrained=False)
    load_tensors(network, checkpoint.model_tensors(), "import")
    return network.eval()


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_oneformer_gives_the_logits_of_transformers(tmp_path: Path, kind: str) -> None:
    theirs = oneformer()
    file = tmp_path / f"model.{kind}"
    (save_file if kind == "safetensors" else torch.save)(plain(theirs.state_dict()), file)
    report = import_weights(file, tmp_path / "run", overrides=ONEFORMER)
    assert report["imported"] == ["encoders.main", "heads.masks"] and report["random"] == []
    network = load(report).double()
    theirs = theirs.double()
    theirs.model.is_training = False
    encoder = network.encoders["main"]
    image = torch.rand(2, 3, 96, 160, dtype=torch.float64)
    for task in range(3):
        tasks = torch.tensor([task, task])
        with torch.no_grad():
            made = network({"labels": {"image": image, "task": tasks}})["labels"]
            expected = theirs(
                pixel_values=(image - encoder.mean) / encoder.std,
                task_inputs=network.heads["masks"].sentences[tasks],
            )
        for ours, their_logits in (
            (made["class_logits"], expected.class_queries_logits),
            (made["mask_logits"], expected.masks_queries_logits),
        ):
            worst = (ours - their_logits).abs().max() / their_logits.abs().max()
            assert worst < 1e-8


def test_texts_keep_the_embeddings_of_their_words(tmp_path: Path) -> None:
    theirs = oneformer().state_dict()
    save_file(plain(theirs), tmp_path / "model.safetensors")
    network = load(
        import_weights(tmp_path / "model.safetensors", tmp_path / "r", overrides=ONEFORMER)
    )
    texts = network.heads["masks"].text_queries
    table = theirs["model.text_mapper.text_encoder.token_embedding.weight"]
    assert torch.equal(texts.embed.weight, table[texts.tokens])


OLD_NAMES = (
    ("attention.q_proj.", "attention.self.query."),
    ("attention.k_proj.", "attention.self.key."),
    ("attention.v_proj.", "attention.self.value."),
    ("attention.relative_position_bias.relative", "attention.self.relative"),
    ("attention.o_proj.", "attention.output.dense."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
    ("encoder.swin.", "encoder."),
)


def test_the_names_of_older_files_are_known(tmp_path: Path) -> None:
    state = plain(oneformer().state_dict())
    old = {}
    for name, tensor in state.items():
        if "pixel_level_module.encoder." in name:
            for since, before in OLD_NAMES:
                name = name.replace(since, before)
        old[name] = tensor
    assert len(old.keys() - state.keys()) > 50
    networks = []
    for run, tensors in (("new", state), ("old", old)):
        save_file(tensors, tmp_path / f"{run}.safetensors")
        report = import_weights(
            tmp_path / f"{run}.safetensors", tmp_path / run, overrides=ONEFORMER
        )
        networks.append(load(report).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(n.values() for n in networks), strict=True))


def test_a_swin_of_torchvision_computes_the_same(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    theirs = torchvision.models.swin_t(weights=None).eval()
    torch.save({"model": theirs.state_dict()}, tmp_path / "swin_t.pth")
    overrides = ["network.encoders.main.options.norm_levels=false", "image_size=[448, 448]"]
    report = import_weights(
        tmp_path / "swin_t.pth",
        tmp_path / "run",
        preset="unified-depth-pose-cityscapes",
        overrides=overrides,
    )
    assert report["imported"] == ["encoders.main"] and "heads.depth" in report["random"]
    encoder = load(report).encoders["main"]
    levels: list[Tensor] = []
    for stage in (1, 3, 5, 7):
        theirs.features[stage].register_forward_hook(lambda m, i, out: levels.append(out))
    image = torch.rand(1, 3, 448, 448)
    with torch.no_grad():
        theirs((image - encoder.mean) / encoder.std)
        made = encoder(image).levels
    for ours, expected in zip(made, levels, strict=True):
        torch.testing.assert_close(ours, expected.permute(0, 3, 1, 2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_resnet_is_taken_over(tmp_path: Path, library: str) -> None:
    torch.manual_seed(0)
    if library == "timm":
        theirs = timm_compat.create_model("resnet18")
    else:
        theirs = pytest.importorskip("torchvision").models.resnet18(weights=None)
    save_file(plain(theirs.state_dict()), tmp_path / "resnet18.safetensors")
    overrides = ["network.encoders.main.options={name: resnet18}"]
    report = import_weights(
        tmp_path / "resnet18.safetensors",
        tmp_path / "run",
        preset="unified-tiny",
        overrides=overrides,
    )
    made = load(report).encoders["main"].state_dict()
    weights = theirs.state_dict()
    assert torch.equal(made["net.layer3.1.conv2.weight"], weights["layer3.1.conv2.weight"])
    assert torch.equal(made["net.bn1.running_mean"], weights["bn1.running_mean"])


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def test_a_pickle_runs_no_code(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Evil()}, "evil.pth")
    with pytest.raises(DataError, match="cannot be read as plain weights"):
        read_foreign(Path("evil.pth"))
    assert not Path("touched").exists()


QUERY = "model.pixel_level_module.encoder.swin.encoder.layers.0.blocks.0.attention.q_proj.weight"


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = plain(oneformer().state_dict())
    key = "model.transformer_module.decoder.class_embed.weight"
    for name, change, words in (
        ("lacks", {key: None}, "lack 1 entries .*decoder.class_embed.weight"),
        ("extra", {"model.novel.weight": torch.zeros(1)}, "1 unknown weights: novel.weight"),
        ("nan", {key: state[key] * float("nan")}, "not finite, or no fraction: to_class.weight"),
        ("whole", {key: state[key].to(torch.int8)}, "not finite, or no fraction: to_class"),
        ("uneven", {QUERY: torch.zeros(3, 4)}, r"lacks 1 of .*net.layers_0.blocks.0.attn.qkv"),
        ("single", {QUERY: torch.tensor(1.0)}, r"lacks 1 of .*net.layers_0.blocks.0.attn.qkv"),
        ("sizes", {key: torch.zeros(8, WIDTH)}, r"to_class.weight is \[8, 64\].* \[20, 64\]"),
    ):
        changed = {n: t for n, t in {**state, **change}.items() if t is not None}
        save_file(changed, tmp_path / f"{name}.safetensors")
        with pytest.raises(CheckpointError, match=words) as error:
            import_weights(tmp_path / f"{name}.safetensors", tmp_path / name, overrides=ONEFORMER)
        assert "\n" not in str(error.value)
        assert not (tmp_path / name).exists()
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="no head of the preset is of the type masks"):
        import_weights(tmp_path / "model.safetensors", tmp_path / "x", preset="unified-tiny")


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"not a pickle")
    (tmp_path / "a.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    (tmp_path / "cut.pth").write_bytes(b"\x80\x02}q\x00(X")
    (tmp_path / "bare.pth").write_bytes(b"\x80\x02.")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"w": torch.eye(2).to_sparse()}, tmp_path / "sparse.pth")
    torch.save({"w": torch.eye(2) * 1j}, tmp_path / "complex.pth")
    torch.save({"w": torch.eye(2), "model.w": torch.zeros(2)}, tmp_path / "twice.pth")
    for name, words in (
        ("a.pth", "cannot be read as plain weights"),
        ("a.safetensors", "safetensors|no named tensors"),
        ("cut.pth", "damaged, or it would run code"),
        ("bare.pth", "damaged, or it would run code"),
        ("list.pth", "no named tensors"),
        ("sparse.pth", "'w' is no plain tensor"),
        ("complex.pth", "'w' is no plain tensor"),
        ("twice.pth", "twice, with and without 'model.'"),
        ("none.pth", "no such file"),
    ):
        with pytest.raises(DataError, match=words):
            read_foreign(tmp_path / name)


def test_nothing_that_exists_is_overwritten_unasked(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(plain(oneformer().state_dict()), file)
    run = tmp_path / "run"
    assert import_weights(file, run, overrides=ONEFORMER, dry_run=True)["checkpoint"] is None
    assert not run.exists()
    import_weights(file, run, overrides=ONEFORMER)
    with pytest.raises(UsageError, match="--force"):
        import_weights(file, run, overrides=ONEFORMER)
    import_weights(file, run, overrides=ONEFORMER, force=True)
    (run / "checkpoints" / "step-0000100").mkdir()
    with pytest.raises(UsageError, match="exists"):
        import_weights(file, run, overrides=ONEFORMER, force=True)
