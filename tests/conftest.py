"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

# One thread a test process: tests run side by side, and results do not depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data fragments, or a skip that says where it was looked for."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("UNIENC_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data fragments at {folder} (set UNIENC_TEST_DATA)")
    return folder
