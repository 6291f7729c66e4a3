"""Tests compile a lot and compute little: compilation is kept cheap, and shared between tests and their processes."""

import inspect
import os
import signal
import threading

import jax
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

from benchmarks.memory import free_programs
from tests.oracle import Oracle
from tests.text.chat_server import KEY

# A process that was started in the background ignores SIGINT, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before the package is imported: the arrays of its calls are checked against their types.
TYPED = ["mer_jax.models", "mer_jax.features.pooling", "mer_jax.fusion", "mer_jax.tuning"]
install_import_hook(TYPED, "beartype.beartype")

CHEAP = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {CHEAP}"  # read when the backend starts

settings.register_profile("any machine", deadline=None)  # an example may take as long as it takes
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Nothing is written to the user's own, also by processes that tests start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_JAX_CACHE", str(folder))
        yield folder


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


@pytest.fixture(autouse=True)
def mapped_memory():
    """Many tests share a process."""
    yield
    free_programs()


@pytest.fixture(scope="session")
def oracle(request):
    return Oracle(write=request.config.getoption("--write-goldens"))


def pytest_addoption(parser):
    parser.addoption("--write-goldens", action="store_true", help="store what torch computes, see tests/oracle.py")


def pytest_collection_modifyitems(items):
    for item in items:
        if {"oracle", "torch"} & inspect.signature(item.function).parameters.keys():
            item.add_marker("parity")
    items.sort(key=lambda item: item.path.name != "test_train.py")  # the longest file first, beside all the others


@pytest.fixture
def usual_signals():
    """Python's own handlers, whatever a library has installed in a process that many tests share."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler or signal.SIG_DFL)


@pytest.fixture
def running(monkeypatch):
    """(HTTP server) -> the same, which serves until the test ends; with a key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    servers = []

    def start(server):
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
