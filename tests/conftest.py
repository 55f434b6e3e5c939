"""What every test may rely on: Ctrl-C arrives, however the run was started; irises; the library of faults."""

import signal

import pytest
from allocation_faults import build


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


@pytest.fixture(scope="module")
def iris():
    datasets = pytest.importorskip("sklearn.datasets", reason="the data are scikit-learn's")
    X, y = datasets.load_iris(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y
