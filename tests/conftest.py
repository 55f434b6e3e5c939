"""What every test may rely on: Ctrl-C arrives, however the run was started."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def _deliver_interrupts():
    # a shell starts background jobs with SIGINT ignored, Python then installs no handler, and the tests of Ctrl-C would
    # wait for ever
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
