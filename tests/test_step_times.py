"""What a run takes over from the one before it: the time of a step, where that is sure to be alike."""

import numpy as np
import pytest

from pymlp import Adam, Dense, Network, backends, step_times, train
from pymlp.losses import CompiledLoss, CustomLoss
from pymlp.optimizers import SGD
from pymlp.rows import rows_of

WIDTHS = (3, 8, 1)


@pytest.fixture(autouse=True)
def nothing_known():
    step_times.forget()
    yield
    step_times.forget()


def alike(network=None, X=None, optimizer=None, batch_size=5, n_threads=1):
    network = Network.from_widths(WIDTHS) if network is None else network
    X = np.zeros((20, network.inputs), network.dtype) if X is None else X
    rows = rows_of(network, X, np.zeros((len(X), 1), network.dtype), None)
    plan = backends.get("numpy").Plan(Network.from_widths(WIDTHS), batch_size, n_threads)
    plan.network = network
    return step_times.step_time(plan, optimizer or Adam(), rows, batch_size)


def test_what_is_noted_is_recalled_for_what_is_alike():
    assert alike().seconds is None
    alike().seconds = 0.5
    assert alike(X=np.ones((20, 3), "float32")[4:]).seconds == 0.5


@pytest.mark.parametrize(
    "changes",
    [
        # with as many parameters
        {"network": Network.from_widths((3, Dense(8, "tanh"), 1))},
        {"network": Network.from_widths((8, 3, 2, 2, 1))},
        {"network": Network.from_widths(WIDTHS, dtype="float64")},
        {"network": Network.from_widths(WIDTHS, loss="absolute_error")},
        {"optimizer": SGD()},
        {"batch_size": 6},
        {"n_threads": 2},
    ],
    ids=str,
)
def test_what_is_not_alike(changes):
    alike().seconds = 0.5
    assert alike(**changes).seconds is None


@pytest.mark.parametrize("loss", [CompiledLoss(1), CustomLoss(lambda y, output: (output, output))], ids=["C", "Python"])
def test_a_function_of_the_users_takes_what_it_takes(loss):
    network = Network(3, (Dense(8), Dense(1, "identity")), loss)
    alike(network).seconds = 0.5
    assert alike(network).seconds is None


def test_numbers_that_are_not_in_memory(tmp_path):
    stored = np.memmap(tmp_path / "rows", "float32", "w+", shape=(20, 3))
    for X in (stored, stored[2:], np.asarray(stored), np.frombuffer(bytes(240), "float32").reshape(20, 3)):
        alike(X=X).seconds = 0.5
        assert alike(X=X).seconds is None
    assert alike().seconds is None
    alike(X=np.array(stored)).seconds = 0.5
    assert alike(X=np.array(stored)).seconds == 0.5


def test_the_table_stays_small():
    sizes = range(1, 3 * step_times.MOST_KNOWN)
    for size in sizes:
        alike(batch_size=size).seconds = 1.0
    assert 0 < len(step_times._known) <= step_times.MOST_KNOWN
    assert alike(batch_size=sizes[-1]).seconds == 1.0


def test_what_callbacks_see_does_not_depend_on_what_was_trained_before():
    class Progress:
        def __init__(self):
            self.seen = []

        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context):
            return False

        def on_fit_progress(self, estimator, context):
            self.seen.append(context.metrics["step"])

    network, X = Network.from_widths(WIDTHS), np.zeros((20, 3), "float32")
    first, second = Progress(), Progress()
    for progress in (first, second):
        train(network, network.initial_params(0), X, X[:, :1], epochs=2, batch_size=5, callbacks=[progress])
    assert first.seen == second.seen
    assert first.seen[0] == 1
