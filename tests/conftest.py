"""Fixtures of several folders. That this file lies here puts the folder on the path, so that tests can `import rig`."""

import numba
import pytest


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """Where the machine code of functions that are made in the test is kept."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path
