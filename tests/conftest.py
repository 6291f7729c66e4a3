"""Tests compile a lot and compute little: compilation is kept cheap, and shared between tests and their processes."""

import os

import jax
import pytest
from jaxtyping import install_import_hook

# Before the package is imported: the arrays of its calls are checked against their types.
install_import_hook(["mer_jax.models", "mer_jax.features.pooling"], "beartype.beartype")

CHEAP = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {CHEAP}"  # read when the backend starts


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent  # of all of its processes
    folder = str(session / "compilations")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # for processes that tests start
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name != "test_train.py")  # the longest file first, beside all the others
