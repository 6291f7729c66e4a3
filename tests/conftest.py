"""Tests share one compilation cache: several compile the same programs, some of them in processes of their own."""

import os

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("compilations"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # for processes that tests start
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
