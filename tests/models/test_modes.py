"""Evaluation for a while."""

import pytest
from torch import nn

from unienc_core.models.modes import evaluating


def test_every_module_gets_its_own_mode_back() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1)))
    network[1].eval()
    with pytest.raises(KeyError), evaluating(network):
        assert not any(module.training for module in network.modules())
        raise KeyError
    assert [module.training for module in network.modules()] == [True, True, False, False, False]
