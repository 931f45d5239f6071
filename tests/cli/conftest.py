"""Fixtures of the command line's tests."""

import pytest
from hostile import Sandbox


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A folder that holds one of everything, whole and broken."""
    return Sandbox.make(tmp_path_factory.mktemp("sandbox"))
