"""Presets: what is accepted, what is refused, and that the refusal helps."""

from pathlib import Path

import pytest
import yaml

from unienc_core.class_tables import cityscapes_table
from unienc_core.errors import PresetError
from unienc_core.presets import (
    dump_preset,
    load_preset,
    preset_from_dict,
    preset_names,
    preset_text,
)
from unienc_core.safe_yaml import MAX_YAML_BYTES, parse_yaml


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_loads_and_round_trips(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert preset_from_dict(yaml.safe_load(dump_preset(preset))) == preset


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.0.step=3", "'stages.0.step' (did you mean 'steps'?)"),
        ("netwrk=1", "'netwrk' (did you mean 'network'?)"),
        ("network.encoders.main.optons={}", "did you mean 'options'?"),
        ("network.heads.depth.reads=[mian]", "did you mean 'main'?"),
        ("stages.0.terms=[photometrc]", "did you mean 'photometric'?"),
        ("optimizer.lr=fast", "'optimizer.lr'"),
        ("optimizer.lr=-1", "'optimizer.lr'"),
        ("image_size=[0, 320]", "image_size"),
        ("stages.7.steps=1", "'7' is no index of a list of 1"),
        ("name.x=1", "'name' holds no keys"),
        ("steps", "expected path.to.key=value"),
        ("stages=[]", "'stages'"),
        ("optimizer.lr=.inf", "'optimizer.lr': input should be a finite number"),
        ("depth.min=200", "min = 200.0 must lie below max"),
        ("stages.0.steps=true", "'stages.0.steps': input should be a valid integer, found True"),
        ("stages.0.steps='3'", "'stages.0.steps': input should be a valid integer, found '3'"),
        ("stages.0.steps=1e3", "'stages.0.steps': input should be a valid integer, found 1000.0"),
        ("optimizer.lr=true", "'optimizer.lr': input should be a valid number, found True"),
        ("image_size=[64, true]", "'image_size.1': input should be a valid integer, found True"),
        ("terms.smooth.ramp=1", "'terms.smooth.ramp': input should be a valid boolean, found 1"),
        ("terms.smooth.options.since=2020-01-01", "not plain data"),
        (
            "network.encoders.main={type: timm, checkpointing: true, compile: true}",
            "'network.encoders.main': checkpointing and compile exclude each other",
        ),
    ],
)
def test_faults_are_named_with_their_path(override: str, message: str) -> None:
    with pytest.raises(PresetError) as caught:
        load_preset("unified-tiny", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_reach_lists_and_new_keys() -> None:
    preset = load_preset(
        "unified-tiny", ["stages.0.steps=7", "optimizer.clip_norm=1e-2", "terms.smooth.ramp=true"]
    )
    assert preset.stages[0].steps == preset.total_steps == 7
    assert preset.optimizer.clip_norm == 0.01
    assert preset.terms["smooth"].ramp is True


def test_scientific_notation_is_a_number() -> None:
    assert parse_yaml("a: [1e-4, 1E3, .5e2, -2e-1, 1.5]", "x") == {"a": [1e-4, 1e3, 50, -0.2, 1.5]}
    assert parse_yaml("a: [e4, 1e, v1e4]", "x") == {"a": ["e4", "1e", "v1e4"]}


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: &x [1]\nb: *x",
        "a: 1\na: 2",
        "a: [",
        "[" * 5000,
        "a: '" + "x" * MAX_YAML_BYTES + "'",
    ],
)
def test_hostile_yaml_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(PresetError) as caught:
        parse_yaml(text, "evil.yaml")
    assert str(caught.value).startswith("evil.yaml: ")
    assert "\n" not in str(caught.value)


def test_a_whole_number_may_be_a_float() -> None:
    preset = load_preset("unified-tiny", ["optimizer.lr=1", "optimizer.clip_norm=1e-4"])
    assert preset.optimizer.lr == 1.0
    assert isinstance(preset.optimizer.lr, float)
    assert preset.optimizer.clip_norm == 1e-4


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(PresetError, match="did you mean 'unified-tiny'"):
        load_preset("unifed-tiny")
    with pytest.raises(PresetError, match="cannot read preset"):
        load_preset("no/such/file.yaml")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(PresetError, match="not a preset"):
        load_preset("/dev/zero")


def test_a_preset_is_a_mapping() -> None:
    with pytest.raises(PresetError, match="a preset is a mapping, found list"):
        preset_from_dict([1, 2])


def test_a_preset_may_bring_its_classes():
    rooms = {
        "name": "rooms",
        "classes": [
            {"id": 3, "name": "lamp", "thing": True},
            {"id": 0, "name": "unknown", "ignore": True},
            {"id": 1, "name": "wall"},
        ],
    }
    raw = parse_yaml(preset_text("unified-tiny")[0], "unified-tiny")
    made = preset_from_dict({**raw, "class_table": rooms})
    assert [entry.name for entry in made.classes.evaluated] == ["wall", "lamp"]
    assert preset_from_dict(yaml.safe_load(dump_preset(made))) == made
    assert preset_from_dict(raw).classes == cityscapes_table()
    rooms["classes"][2]["id"] = 3
    with pytest.raises(PresetError, match="2 classes have the id 3"):
        preset_from_dict({**raw, "class_table": rooms})
