"""Random small panoptic pictures, true and predicted, full of what evaluators disagree about."""

from dataclasses import dataclass

import numpy as np

STUFF, THINGS = (7, 8, 11, 23), (24, 25, 26, 33)
SIZE = (18, 26)


@dataclass
class Picture:
    """Ids of segments and what they are: id to (class, is a crowd)."""

    ids: np.ndarray
    classes: dict[int, tuple[int, bool]]

    def colours(self) -> np.ndarray:
        """`H W 3` uint8, RGB."""
        return np.stack([self.ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)

    def segments_info(self) -> list[dict]:
        """As the documents list them."""
        return [
            {
                "id": value,
                "category_id": category,
                "area": int((self.ids == value).sum()),
                "iscrowd": int(crowd),
            }
            for value, (category, crowd) in self.classes.items()
        ]

    def keep_visible(self) -> "Picture":
        """Forget segments that later ones hide."""
        seen = set(np.unique(self.ids).tolist())
        return Picture(self.ids, {i: c for i, c in self.classes.items() if i in seen})


def random_case(seed: int) -> tuple[Picture, Picture]:
    """Return a prediction and its ground truth."""
    rng = np.random.default_rng(seed)
    true = _truth(rng)
    predicted = _prediction(rng, true)
    if seed % 3 == 0:
        _put_half_overlap(rng, true, predicted)
    if seed % 29 == 0:  # a picture in which nothing was found
        predicted = Picture(np.zeros(SIZE, np.int32), {})
    return predicted.keep_visible(), true.keep_visible()


def _new_id(rng: np.random.Generator, taken: dict) -> int:
    while True:
        value = int(rng.choice([rng.integers(1, 40_000), rng.integers(65_536, 1 << 24)]))
        if value not in taken:
            return value


def _rectangle(rng: np.random.Generator, tiny: bool = False) -> tuple[slice, slice]:
    height, width = (1, 1) if tiny else (int(rng.integers(2, 9)), int(rng.integers(2, 12)))
    top, left = (
        int(rng.integers(0, SIZE[0] - height + 1)),
        int(rng.integers(0, SIZE[1] - width + 1)),
    )
    return slice(top, top + height), slice(left, left + width)


def _truth(rng: np.random.Generator) -> Picture:
    picture = Picture(np.zeros(SIZE, np.int32), {})
    for stuff in rng.choice(STUFF, 2, replace=False).tolist():
        value = _new_id(rng, picture.classes)
        picture.classes[value] = (stuff, False)
        picture.ids[_rectangle(rng) if rng.random() < 0.5 else slice(None)] = value
    for number in range(int(rng.integers(2, 8))):
        value = _new_id(rng, picture.classes)
        crowd = bool(rng.random() < 0.35)
        picture.classes[value] = (int(rng.choice(THINGS[:2] if crowd else THINGS)), crowd)
        picture.ids[_rectangle(rng, tiny=number == 4)] = value
    for _ in range(int(rng.integers(0, 3))):
        picture.ids[_rectangle(rng)] = 0
    return picture


def _prediction(rng: np.random.Generator, true: Picture) -> Picture:
    """Move, rename, misclassify, lose and invent segments of the truth."""
    picture = Picture(np.zeros(SIZE, np.int32), {})
    for value, (category, _) in true.keep_visible().classes.items():
        if rng.random() < 0.15:
            continue
        name = value if rng.random() < 0.3 else _new_id(rng, picture.classes | true.classes)
        wrong = rng.random() < 0.15
        picture.classes[name] = (int(rng.choice(STUFF + THINGS)) if wrong else category, False)
        mask = true.ids == value
        if rng.random() < 0.6:
            mask = np.roll(mask, rng.integers(-2, 3, 2), (0, 1))
        picture.ids[mask] = name
    for _ in range(int(rng.integers(0, 4))):
        name = _new_id(rng, picture.classes | true.classes)
        picture.classes[name] = (int(rng.choice(STUFF + THINGS)), False)
        picture.ids[_rectangle(rng, tiny=rng.random() < 0.2)] = name
    if rng.random() < 0.5:
        picture.ids[_rectangle(rng)] = 0
    return picture


def _put_half_overlap(rng: np.random.Generator, true: Picture, predicted: Picture) -> None:
    """Add a true segment of 8 pixels, half of one of 4 predicted ones: an IoU of exactly 0.5."""
    category = int(rng.choice(THINGS))
    floor = _new_id(rng, true.classes)
    true.classes[floor], true.ids[:2, :12] = (8, False), floor
    value = _new_id(rng, true.classes)
    true.classes[value], true.ids[:1, :8] = (category, False), value
    other = _new_id(rng, predicted.classes)
    predicted.classes[other], predicted.ids[:2, :12] = (8, False), other
    name = _new_id(rng, predicted.classes)
    predicted.classes[name], predicted.ids[:1, :4] = (category, False), name
