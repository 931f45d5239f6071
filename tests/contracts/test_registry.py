"""Options are bound to signatures before anything runs."""

import pytest

from unienc_core import registry
from unienc_core.errors import PresetError


class Toy:
    def __init__(self, spec: int, *, width: int, rate: float = 0.5, mode: str | None = None):
        self.made = (spec, width, rate, mode)


@pytest.fixture(autouse=True)
def toy_term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._FACTORIES, "term", {"toy": Toy})
    monkeypatch.setitem(registry._HOMES, "term", ())


def test_build_binds_types_and_defaults() -> None:
    assert registry.build("term", "toy", 3, options={"width": 8, "rate": 1}).made == (3, 8, 1, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widht": 1}, "no option 'widht' (did you mean 'width'?)"),
        ({"width": "wide"}, "terms.toy.options.width: input should be a valid integer"),
        ({"width": True}, "terms.toy.options.width: input should be a valid integer, found True"),
        ({"width": 1, "rate": True}, "terms.toy.options.rate: input should be a valid number"),
        ({"width": {1}}, "terms.toy.options: not plain data"),
        ({}, "terms.toy.options.width: field required"),
        ({"width": 1, "spec": 2}, "no option 'spec'"),
    ],
)
def test_bad_options_name_the_path(options: dict, message: str) -> None:
    with pytest.raises(PresetError) as caught:
        registry.build("term", "toy", 3, options=options, where="terms.toy")
    assert message in str(caught.value)


def test_unknown_type_names_the_nearest() -> None:
    with pytest.raises(PresetError, match="unknown term type 'tov'.*did you mean 'toy'"):
        registry.factory_of("term", "tov")


def test_registering_twice_is_refused() -> None:
    with pytest.raises(PresetError, match="registered twice"):
        registry.register("term", "toy")(Toy)
