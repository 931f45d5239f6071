import numpy as np
import pytest

from unienc_core.class_tables import cityscapes_table, load_class_table
from unienc_core.errors import DataError

ROOMS = """
name: rooms
classes:
  - {id: 3, name: chair, thing: true, category: furniture, color: [1, 2, 3], average_size: 40.5}
  - {id: 1, name: wall}
  - {id: 0, name: unknown, ignore: true}
"""


def _write(tmp_path, text):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    return path


def test_cityscapes_has_nineteen_classes_of_which_eight_are_things():
    table = cityscapes_table()
    assert [entry.id for entry in table.classes] == list(range(34))
    assert len(table.evaluated) == 19
    assert [entry.id for entry in table.things] == [24, 25, 26, 27, 28, 31, 32, 33]
    assert table.by_id[29].has_instances
    assert not table.by_id[29].is_thing
    assert {entry.category for entry in table.evaluated} == {
        "flat",
        "construction",
        "object",
        "nature",
        "sky",
        "human",
        "vehicle",
    }
    np.testing.assert_array_equal(table.palette[26], [0, 0, 142])


@pytest.mark.parity
def test_average_sizes_are_those_of_the_benchmark():
    official = pytest.importorskip(
        "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    ).args.avgClassSize
    sizes = {e.name: e.average_size for e in cityscapes_table().classes if e.average_size}
    assert sizes == official


def test_a_table_is_read_from_yaml(tmp_path):
    table = load_class_table(_write(tmp_path, ROOMS))
    assert [(e.id, e.name, e.is_thing, e.ignored) for e in table.classes] == [
        (0, "unknown", False, True),
        (1, "wall", False, False),
        (3, "chair", True, False),
    ]
    assert table.by_id[3].color == (1, 2, 3)
    assert table.by_id[3].category == "furniture"
    assert table.by_id[1].category == "wall"
    assert table.by_id[0].color != table.by_id[1].color
    assert table.instance_factor == 1000


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("id: 3", "id: 1", "2 classes have the id 1"),
        ("name: wall", "name: chair", "2 classes have the name chair"),
        ("id: 3", "id: 256", "less than or equal to 255"),
        ("id: 3", "id: '3'", "valid integer"),
        ("[1, 2, 3]", "[1, 2, 300]", "less than or equal to 255"),
        ("thing: true", "thin: true", "'classes.0.thin': extra inputs"),
        ("name: rooms", "", "'name': field required"),
        (ROOMS, "[]", "found no keys"),
        (ROOMS, "name: [", "not valid YAML"),
        (ROOMS, "{name: a, classes: [{id: 0, name: b, ignore: true}]}", "every class is ignored"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path, old, new, words):
    path = _write(tmp_path, ROOMS.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        load_class_table(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_bad_data(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_class_table(tmp_path / "none.yaml")
