import numpy as np
import pytest

from unienc_core import classes
from unienc_core.data.sets.cityscapes_cities import missing_cities, split_cities


def test_nineteen_classes_in_order():
    assert [x.train_id for x in classes.TRAIN_LABELS] == list(range(19))
    assert [x.id for x in classes.TRAIN_LABELS] == [
        7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33,
    ]  # fmt: skip
    assert classes.TRAIN_NAMES[0] == "road"
    assert classes.TRAIN_NAMES[6] == "traffic light"
    assert classes.TRAIN_NAMES[18] == "bicycle"


def test_ids_are_complete_and_unique():
    assert [x.id for x in classes.LABELS] == list(range(-1, 34))
    assert len({x.name for x in classes.LABELS}) == 35
    assert len({x.category for x in classes.LABELS}) == 8


def test_things_and_stuff():
    assert tuple(range(11, 19)) == classes.THING_TRAIN_IDS
    assert tuple(range(11)) == classes.STUFF_TRAIN_IDS
    with_instances = {x.id for x in classes.LABELS if x.has_instances}
    assert with_instances == {24, 25, 26, 27, 28, 29, 30, 31, 32, 33}
    assert not classes.LABEL_BY_NAME["caravan"].is_thing


def test_tables_are_inverse_on_the_evaluated_classes():
    to_train, to_id = classes.id_to_train_id(), classes.train_id_to_id()
    train_ids = np.arange(19, dtype=np.uint8)
    np.testing.assert_array_equal(to_train[to_id[train_ids]], train_ids)
    assert to_train[0] == to_train[9] == to_train[29] == to_train[255] == 255
    assert to_id[255] == 0


@pytest.mark.parametrize(
    ("name", "color"),
    [("road", (128, 64, 128)), ("car", (0, 0, 142)), ("person", (220, 20, 60))],
)
def test_palettes(name, color):
    label = classes.LABEL_BY_NAME[name]
    assert tuple(classes.train_palette()[label.train_id]) == color
    assert tuple(classes.id_palette()[label.id]) == color
    assert tuple(classes.train_palette()[255]) == (0, 0, 0)


def test_splits_of_cityscapes_share_no_city():
    train, val, test = (split_cities(split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (18, 3, 6)
    assert len({*train, *val, *test}) == 27
    assert val == ("frankfurt", "lindau", "munster")
    assert split_cities("train_extra") == ()


def test_missing_cities_are_named():
    assert missing_cities("val", {"frankfurt", "munster"}) == [
        "1 of the 3 cities of split val are not there: lindau"
    ]
    (line,) = missing_cities("train", {"aachen"})
    assert line.endswith("not there: bochum, bremen, cologne, darmstadt and 13 more")
    assert missing_cities("val", {"frankfurt", "lindau", "munster"}) == []
    assert missing_cities("val", {"synthcity"}) == []
