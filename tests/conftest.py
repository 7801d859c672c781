"""Strict numerics for every test, and the place of the real data."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 3)  # for runs that are spread over devices


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data, or a skip where CARDIOTWIN_DATA is unset."""
    folder = os.environ.get("CARDIOTWIN_DATA")
    if not folder:
        pytest.skip("CARDIOTWIN_DATA is unset")
    return Path(folder).resolve()
