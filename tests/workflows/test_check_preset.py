"""`presets check` finds what would stop a run, stages that come late included."""

import pytest

from unienc_core.errors import UsageError, WiringError
from unienc_core.presets import load_preset
from unienc_core.workflows.inspect_preset import check_preset


def test_counts_by_node() -> None:
    counts = check_preset(load_preset("unified-tiny"))
    assert set(counts) == {"encoders.main", "heads.depth", "heads.pose"}
    assert min(counts.values()) > 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.0.warp=final", "warp 'final' needs a scene flow head"),
        ("stages.0.trains=[heads.flow.*]", "matches no parameter"),
        ("network.heads.pose.options.pair_order=backwards", "pair_order"),
    ],
)
def test_what_cannot_run_is_refused(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_preset(load_preset("unified-tiny", [override]))


def test_a_term_without_its_keys_names_them() -> None:
    preset = load_preset("unified-tiny")
    heads = {"depth": preset.network.heads["depth"]}
    network = preset.network.model_copy(update={"heads": heads})
    with pytest.raises(WiringError, match="terms.photometric reads .*T_source_target"):
        check_preset(preset.model_copy(update={"network": network}))
