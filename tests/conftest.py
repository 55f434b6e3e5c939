"""What every test may rely on: Ctrl-C arrives, however the run was started; irises; the library of faults.  And which
tests take long for Numba's sake."""

import os
import signal
import tempfile
from pathlib import Path

import pytest
from allocation_faults import build

# what shows in the fast set that the Numba backend works
FAST_NUMBA = ("test_backends.py", "test_backends_numba.py", "test_parity.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    # Numba compiles each of its ways through layers, losses and optimizers anew on a new machine: minutes in all
    for item in items:
        if "numba" in item.name and item.path.name not in FAST_NUMBA and item.path.name.startswith("test_"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _deliver_interrupts():
    # a shell starts background jobs with SIGINT ignored, Python then installs no handler, and the tests of Ctrl-C would
    # wait for ever
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def faults_library(tmp_path_factory):
    """Path of the library that refuses allocations; see allocation_faults.py."""
    return build(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def model_path():
    """Of a file in memory, where there is such a place: some tests write thousands."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder) / "model"


@pytest.fixture(scope="module")
def iris():
    datasets = pytest.importorskip("sklearn.datasets", reason="the data are scikit-learn's")
    X, y = datasets.load_iris(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y
