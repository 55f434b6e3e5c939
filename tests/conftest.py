"""What every test may rely on: Ctrl-C arrives, however the run was started; standardised irises."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def _deliver_interrupts():
    # a shell starts background jobs with SIGINT ignored, Python then installs no handler, and the tests of Ctrl-C would
    # wait for ever
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def iris():
    datasets = pytest.importorskip("sklearn.datasets", reason="the data are scikit-learn's")
    X, y = datasets.load_iris(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y
