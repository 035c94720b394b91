"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real images, annotations and weights that POLYHEAD_DATA names.

    Skips only when the variable is unset: a folder that was promised and is not there is a failure.
    """
    value = os.environ.get("POLYHEAD_DATA")
    if not value:
        pytest.skip("POLYHEAD_DATA is not set; point it at the folder of reference data to run this test")
    folder = Path(value).resolve()
    assert folder.is_dir(), f"POLYHEAD_DATA={value} is not a folder"
    return folder
