"""Checkpoints: a run that was killed anywhere goes on to the very bits of one that was not; what is odd is refused.

Killed means here that an exception leaves the fit right after a checkpoint was written, and that nothing but the file is
used afterwards.  Real kills are in test_checkpoint_kills.py.
"""

import errno
import os
import shutil

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from scipy import sparse
from small_models import CLASSES, Stopper, interrupt_in, small, state_of

import pymlp
from pymlp import MLPClassifier, MLPRegressor, ModelFormatError, backends, checkpoints, container, epochs
from pymlp.checkpoints import Checkpoints
from pymlp.layers import Dense
from pymlp.losses import CustomLoss, GaussianNLL
from pymlp.network import Network
from pymlp.optimizers import OPTIMIZERS, SGD, Adam
from pymlp.replacement import previous_of
from pymlp.schedules import SCHEDULES, Constant, Cosine, OneCycle, Plateau
from pymlp.training import train

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:lbfgs failed")

# rates that change within a few epochs
CHANGING = {"plateau": Plateau(patience=1, tol=1e9, factor=0.5), "cosine": Cosine(warmup=2, restarts=1)}
OF_SCHEDULES = {name: CHANGING.get(name, kind()) for name, kind in SCHEDULES.items()}
NAMES_AND_CALLABLES = {"adaptive": "adaptive", "by rows": "invscaling", "callable": lambda step: 0.1 / (step + 1)}


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def killed(monkeypatch):
    """A function that makes the run end right after its n-th checkpoint; None lets it live."""
    keep = Checkpoints.keep

    def after(number):
        written = []

        def keep_and_die(self, run):
            keep(self, run)
            written.append(run)
            if len(written) == number:
                raise Killed

        monkeypatch.setattr(Checkpoints, "keep", keep_and_die)
        return written

    return after


@pytest.fixture
def single_steps(monkeypatch):
    """Every slice is one step."""
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e-9)
    monkeypatch.setattr(epochs, "HELPED_SLICE_SECONDS", 1e-9)


def fitted(model, data, **options):
    return model.fit(data[0], data[1], **options)


def check_resumed(make, data, path, killed, number, every=1, **options):
    """The fit of ``make()`` killed after checkpoint `number` and resumed is the one that was not."""
    expected = fitted(make(), data, **options)
    killed(number)
    with pytest.raises(Killed):
        fitted(make(), data, checkpoint=path, checkpoint_every=every, **options)
    killed(None)
    resumed = fitted(make(), data, checkpoint=path, checkpoint_every=every, resume=True, **options)
    assert state_of(resumed) == state_of(expected)
    return resumed


# ------------------------------------------------------------------------------------------------------ the same bits


@pytest.mark.parametrize("average", [None, "ema", "swa"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(iris, tmp_path, killed, name, average):
    solver = OPTIMIZERS[name](average=average)

    def make():
        return small(solver=solver, max_iter=20, batch_size=40)

    model = check_resumed(make, iris, tmp_path / "c", killed, number=1, every=10)
    # and on from there
    again = fitted(make(), iris)
    assert state_of(model.partial_fit(*iris)) == state_of(again.partial_fit(*iris))


@pytest.mark.parametrize("schedule", [*OF_SCHEDULES.values(), *NAMES_AND_CALLABLES.values()])
@pytest.mark.parametrize("solver", ["sgd", "adamw"])
def test_every_schedule(iris, tmp_path, killed, solver, schedule):
    options = {"solver": solver, "learning_rate": schedule, "learning_rate_init": 0.02, "tol": 0.02}
    check_resumed(
        lambda: small(**options, max_iter=20, batch_size=40, n_iter_no_change=2), iris, tmp_path / "c", killed, 5
    )


@pytest.mark.parametrize("schedule", [*OF_SCHEDULES.values(), *NAMES_AND_CALLABLES.values()])
def test_twenty_epochs_are_ten_and_ten_more(iris, tmp_path, schedule):
    options = {"solver": "sgd", "learning_rate": schedule, "batch_size": 40, "n_iter_no_change": 100}
    fitted(small(**options, max_iter=10), iris, checkpoint=tmp_path / "c")
    longer = small(**options, max_iter=20)
    if isinstance(schedule, (Cosine, OneCycle)):
        before = vars(longer).copy()
        with pytest.raises(ValueError, match="spreads its rates over all epochs: with 20 of them"):
            fitted(longer, iris, checkpoint=tmp_path / "c", resume=True)
        assert vars(longer) == before
        return
    expected = fitted(small(**options, max_iter=20), iris)
    assert state_of(fitted(longer, iris, checkpoint=tmp_path / "c", resume=True)) == state_of(expected)
    # there is nothing more to do
    same = fitted(small(**options, max_iter=20), iris, checkpoint=tmp_path / "c", resume=True)
    assert state_of(same) == state_of(expected)
    with pytest.raises(ValueError, match="the checkpoint has 20 epochs, more than the 10 there shall be"):
        fitted(small(**options, max_iter=10), iris, checkpoint=tmp_path / "c", resume=True)


def columns(y):
    return np.stack([y == 0, y > 1], axis=1).astype(int)


def misfit(y, output):
    difference = output - y
    return 0.5 * (difference**2).mean(axis=1), difference


OPTIONS = {
    "early stopping": (MLPClassifier, {"early_stopping": True, "n_iter_no_change": 30, "learning_rate_init": 0.02}),
    "dropout": (MLPClassifier, {"dropout": 0.4, "input_dropout": 0.1}),
    "float32": (MLPRegressor, {"dtype": "float32"}),
    "standardised": (MLPRegressor, {"standardize": True, "standardize_target": True, "early_stopping": True}),
    "weights of classes": (MLPClassifier, {"class_weight": "balanced", "scoring": "f1_macro", "early_stopping": True}),
    "without shuffling": (MLPClassifier, {"shuffle": False}),
    "layers": (MLPClassifier, {"hidden_layer_sizes": [Dense(6, "gelu", normalization="layer"), Dense(6, residual=True)]}),
    "own loss": (MLPRegressor, {"loss": misfit}),
    "deviations": (MLPRegressor, {"loss": GaussianNLL(), "early_stopping": True}),
    "elastic net": (MLPRegressor, {"alpha": 0.1, "l1_ratio": 0.5}),
    "rolling back": (MLPClassifier, {"roll_back": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option(iris, tmp_path, killed, name):
    cls, options = OPTIONS[name]
    X, y = iris
    y = y if cls is MLPClassifier else X[:, 0] * y + 3.0
    check_resumed(lambda: small(cls, max_iter=12, batch_size=32, **options), (X, y), tmp_path / "c", killed, 5)


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("kind", ["weights", "sparse", "thick sparse", "several targets", "own validation rows"])
def test_every_kind_of_data(iris, tmp_path, killed, cls, kind):
    X, y = iris
    options = {}
    if kind == "weights":
        options["sample_weight"] = np.linspace(0.1, 2.0, 150)
    elif kind == "sparse":
        X = sparse.csr_matrix(np.where(X > 1.2, X, 0.0))
    elif kind == "thick sparse":
        X = sparse.csc_matrix(X)
    elif kind == "several targets":
        y = columns(y)
    else:
        options = {"X_val": X[::2], "y_val": y[::2], "sample_weight_val": np.linspace(1.0, 2.0, 75)}
    check_resumed(lambda: small(cls, max_iter=6), (X, y), tmp_path / "c", killed, 3, **options)


def test_the_orders_of_any_random_state(iris, tmp_path, killed):
    X, y = iris
    options = {"checkpoint": tmp_path / "c", "checkpoint_every": 2}
    parameters = {"max_iter": 6, "batch_size": 20, "early_stopping": True, "dropout": 0.2}
    state = np.random.RandomState(5)
    expected = small(**parameters, random_state=state).fit(X, y)
    following = state.normal()
    killed(1)
    with pytest.raises(Killed):
        small(**parameters, random_state=np.random.RandomState(5)).fit(X, y, **options)
    killed(None)
    # what it would draw itself does not count
    state = np.random.RandomState(77)
    resumed = small(**parameters, random_state=state).fit(X, y, **options, resume=True)
    assert resumed.params_.tobytes() == expected.params_.tobytes()
    assert state.normal() == following

    np.random.seed(5)
    killed(1)
    with pytest.raises(Killed):
        small(**parameters, random_state=None).fit(X, y, **options)
    killed(None)
    np.random.seed(77)
    resumed = small(**parameters, random_state=None).fit(X, y, **options, resume=True)
    assert resumed.params_.tobytes() == expected.params_.tobytes()


def test_a_warm_start_goes_on(iris, tmp_path, killed):
    X, y = iris
    before = small(warm_start=True, max_iter=3, standardize=True).fit(X, y)

    def make():
        return pickled_copy(before).set_params(max_iter=8)

    resumed = check_resumed(make, (X, y), tmp_path / "c", killed, 4)
    # from the checkpoint alone: the same without what it began from
    new = small(warm_start=True, max_iter=8, standardize=True).fit(X, y, checkpoint=tmp_path / "c", resume=True)
    assert new.params_.tobytes() == resumed.params_.tobytes()
    assert new.loss_curve_ == resumed.loss_curve_


def pickled_copy(model):
    import pickle

    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("name", ["plain", "early stopping", "rolling back", "thick sparse"])
def test_at_every_step(iris, tmp_path, killed, single_steps, name):
    X, y = iris
    if name == "thick sparse":
        X = sparse.csr_matrix(X)
    parameters = {
        "early stopping": {"early_stopping": True}, "rolling back": {"roll_back": True, "solver": "sgd"},
    }.get(name, {})  # fmt: skip

    def make():
        return small(max_iter=3, batch_size=40, **parameters)

    expected = fitted(make(), (X, y))
    written = killed(None)
    fitted(make(), (X, y), checkpoint=tmp_path / "c", checkpoint_every=1e-9)
    assert len(written) == 12
    assert sum(run["begun"] is not None for run in written) == 9
    for number in range(1, 13):
        killed(number)
        with pytest.raises(Killed):
            fitted(make(), (X, y), checkpoint=tmp_path / "c", checkpoint_every=1e-9)
        killed(None)
        resumed = fitted(make(), (X, y), checkpoint=tmp_path / "c", resume=True)
        assert state_of(resumed) == state_of(expected)


def test_by_seconds_there_are_few(iris, tmp_path, killed):
    written = killed(None)
    fitted(small(max_iter=30), iris, checkpoint=tmp_path / "c")
    # the one at the end
    assert [run["epochs"] for run in written] == [30]


@pytest.mark.parametrize("every", [1, 4, 7, 100])
def test_by_epochs_also_where_they_are_trained_together(iris, tmp_path, killed, every):
    written = killed(None)
    fitted(small(max_iter=30, n_iter_no_change=100), iris, checkpoint=tmp_path / "c", checkpoint_every=every)
    assert [run["epochs"] for run in written] == [*range(every, 30, every), 30]


def test_killed_again_and_again(iris, tmp_path, killed):
    expected = fitted(small(max_iter=9), iris)
    for _ in range(4):
        killed(2)
        with pytest.raises(Killed):
            fitted(small(max_iter=9), iris, checkpoint=tmp_path / "c", checkpoint_every=1, resume=True)
    killed(None)
    resumed = fitted(small(max_iter=9), iris, checkpoint=tmp_path / "c", checkpoint_every=1, resume=True)
    assert state_of(resumed) == state_of(expected)


def test_epochs_undone_before_and_after(iris, tmp_path, killed, monkeypatch):
    plan = backends.get().Plan
    train_steps = plan.train_steps

    def fail_once(self, optimizer, params, slots, step, *rest):
        train_steps(self, optimizer, params, slots, step, *rest)
        # by what it has come to, as a real failure would
        if rest[-2][0] == 0.02 and step in (0, 8):
            params[3] = np.inf

    monkeypatch.setattr(plan, "train_steps", fail_once)

    def make():
        return small(roll_back=True, max_iter=7, learning_rate_init=0.02, solver="sgd", batch_size=75)

    for number in (1, 2, 3, 4, 5):
        with pytest.warns(RuntimeWarning, match="not finite"):
            check_resumed(make, iris, tmp_path / "c", killed, number)


def test_patience_that_ran_out_stays_so(iris, tmp_path):
    options = {"tol": 1e9, "n_iter_no_change": 2}
    ended = fitted(small(max_iter=10, **options), iris, checkpoint=tmp_path / "c", checkpoint_every=1)
    assert ended.n_iter_ == 4
    longer = fitted(small(max_iter=20, **options), iris, checkpoint=tmp_path / "c", resume=True)
    assert longer.params_.tobytes() == ended.params_.tobytes()
    assert longer.n_iter_ == 4


@pytest.mark.parametrize("ending", ["time", "callback", "Ctrl-C"])
def test_what_ended_otherwise_goes_on(iris, tmp_path, ending, monkeypatch):
    expected = fitted(small(max_iter=9, batch_size=30), iris)
    model = small(max_iter=9, batch_size=30)
    options = {"checkpoint": tmp_path / "c", "checkpoint_every": 1}
    if ending == "time":
        fitted(model.set_params(max_time=1e-9), iris, **options)
    elif ending == "callback":
        fitted(model.set_callbacks(Stopper(lambda number, fitted_estimator: number == 2)), iris, **options)
    else:
        with pytest.raises(KeyboardInterrupt):
            fitted(model.set_callbacks(interrupt_in(3)), iris, **options)
    assert 1 <= model.n_iter_ < 9
    resumed = fitted(small(max_iter=9, batch_size=30), iris, **options, resume=True)
    assert state_of(resumed) == state_of(expected)


def test_a_time_limit_inside_an_epoch(iris, tmp_path, single_steps, monkeypatch):
    expected = fitted(small(max_iter=5, batch_size=30), iris)
    fitted(small(max_iter=5, batch_size=30, max_time=1e-9), iris, checkpoint=tmp_path / "c")
    found = checkpoints.read(tmp_path / "c").run
    assert found["epochs"] == 1
    # a limit that is over before the first step: what there was stays
    fitted(small(max_iter=5, batch_size=30, max_time=1e-9), iris, checkpoint=tmp_path / "c", resume=True)
    resumed = fitted(small(max_iter=5, batch_size=30), iris, checkpoint=tmp_path / "c", resume=True)
    assert state_of(resumed) == state_of(expected)


def test_callbacks_see_what_is_trained_anew(iris, tmp_path, killed):
    killed(3)
    with pytest.raises(Killed):
        fitted(small(max_iter=6), iris, checkpoint=tmp_path / "c", checkpoint_every=1)
    killed(None)
    seen = []
    model = small(max_iter=6).set_callbacks(Stopper(lambda number, fitted_estimator: seen.append(number)))
    fitted(model, iris, checkpoint=tmp_path / "c", resume=True)
    assert seen == [3, 4, 5]


# ------------------------------------------------------------------------------------------------- lbfgs, streams, train


@pytest.mark.parametrize("kind", ["float64", "float32", "converted", "scored", "standardised"])
def test_lbfgs_at_every_evaluation(iris, tmp_path, killed, kind):
    X, y = iris
    options, parameters = {}, {}
    if kind == "float32":
        X = X.astype("float32")
    elif kind == "converted":
        # dense rows of a sparse matrix: gradients are sums in float64
        X = sparse.csr_matrix(X.astype("float32"))
    elif kind == "scored":
        options = {"X_val": X[::2], "y_val": y[::2]}
    elif kind == "standardised":
        parameters = {"standardize": True, "hidden_layer_sizes": ()}

    def make():
        return small(solver="lbfgs", max_iter=6, **parameters)

    written = killed(None)
    expected = fitted(make(), (X, y), **options)
    fitted(make(), (X, y), checkpoint=tmp_path / "c", checkpoint_every=1e-9, **options)
    numbers = len(written)
    assert numbers > 12
    for number in range(1, numbers + 1):
        check_resumed(make, (X, y), tmp_path / "c", killed, number, every=1e-9, **options)
    assert expected.n_iter_ == 6


def test_lbfgs_by_iterations_and_further(iris, tmp_path, killed):
    def make(max_iter):
        return small(solver="lbfgs", max_iter=max_iter)

    check_resumed(lambda: make(10), iris, tmp_path / "c", killed, 2, every=3)
    asked = []
    model = make(15).set_callbacks(Stopper(lambda number, fitted_estimator: asked.append(number)))
    resumed = fitted(model, iris, checkpoint=tmp_path / "c", resume=True)
    assert asked == list(range(10, 15))
    assert resumed.params_.tobytes() == fitted(make(15), iris).params_.tobytes()


def test_lbfgs_of_another_scipy_finds_its_own_way(iris, tmp_path, killed, monkeypatch):
    killed(4)
    with pytest.raises(Killed):
        fitted(small(solver="lbfgs", max_iter=8), iris, checkpoint=tmp_path / "c", checkpoint_every=1)
    killed(None)
    keep = Checkpoints.taking_up
    found = checkpoints.read(tmp_path / "c")
    # as if the third point had been another
    found.run["points"][2] ^= 1
    monkeypatch.setattr(checkpoints, "find", lambda path: found)
    resumed = fitted(small(solver="lbfgs", max_iter=8), iris, checkpoint=tmp_path / "c", resume=True)
    monkeypatch.setattr(Checkpoints, "taking_up", keep)
    assert state_of(resumed) == state_of(fitted(small(solver="lbfgs", max_iter=8), iris))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_streams(iris, tmp_path, killed, cls, shuffle):
    X, y = iris
    chunks = [(X[start : start + 37], y[start : start + 37]) for start in range(0, 150, 37)]

    def make():
        return small(cls, shuffle=shuffle, standardize=True, batch_size=20, max_iter=5)

    expected = make().fit_stream(chunks)
    for every in (1, 1e-9):
        written = killed(None)
        make().fit_stream(chunks, checkpoint=tmp_path / "c", checkpoint_every=every)
        assert [run["epochs"] for run in written] == [1, 2, 3, 4, 5]
        for number in (1, 4):
            killed(number)
            with pytest.raises(Killed):
                make().fit_stream(chunks, checkpoint=tmp_path / "c", checkpoint_every=every)
            killed(None)
            resumed = make().fit_stream(chunks, checkpoint=tmp_path / "c", resume=True)
            assert state_of(resumed) == state_of(expected)
    with pytest.raises(ValueError, match="X is 'a stream of 113 rows and 4 columns'"):
        make().fit_stream(chunks[1:], checkpoint=tmp_path / "c", resume=True)


GENERATORS = {
    "seed": lambda: 3,
    "legacy": lambda: np.random.RandomState(3),
    "pcg": lambda: np.random.default_rng(3),
    "philox": lambda: np.random.Generator(np.random.Philox(3)),
    "none": lambda: None,
}
NETWORK = Network.from_widths((4, 6, 3), "tanh", loss="log_loss", dtype="float64", l2=1e-3, dropout=0.2, seed=9)


@pytest.mark.parametrize("backend", backends.available())
@pytest.mark.parametrize("generator", GENERATORS)
def test_train(iris, tmp_path, killed, single_steps, backend, generator):
    X, y = iris[0], np.eye(3)[iris[1]]
    make = GENERATORS[generator]

    def run(params, random_state, **options):
        return train(
            NETWORK, params, X, y, optimizer=Adam(average="ema"), schedule=Cosine(), X_val=X[::3], y_val=y[::3],
            patience=2, tol=1.0, epochs=6, batch_size=40, random_state=random_state, backend=backend, **options,
        )  # fmt: skip

    path = tmp_path / "c"
    if generator == "none":
        np.random.seed(3)
    expected, draw = NETWORK.initial_params(1), make()
    result = run(expected, draw)
    for number in (1, 4, 6):
        killed(number)
        if generator == "none":
            np.random.seed(3)
        with pytest.raises(Killed):
            run(NETWORK.initial_params(1), make(), checkpoint=path, checkpoint_every=1e-9)
        killed(None)
        params, again = np.zeros_like(expected), make()
        resumed = run(params, again, checkpoint=path, resume=True)
        assert params.tobytes() == expected.tobytes()
        assert resumed.slots.tobytes() == result.slots.tobytes()
        assert resumed.average.tobytes() == result.average.tobytes()
        assert (resumed.steps, resumed.rate) == (result.steps, result.rate)
        assert resumed.losses == result.losses
        assert resumed.history["validation_loss"] == result.history["validation_loss"]
        if hasattr(draw, "normal"):
            assert again.normal(size=3).tolist() == pickled_copy(draw).normal(size=3).tolist()


def test_train_goes_on_from_slots_and_further(iris, tmp_path):
    X, y = iris[0], np.eye(3)[iris[1]]
    options = {"optimizer": SGD(), "random_state": 0, "roll_back": True}
    expected, first = NETWORK.initial_params(1), NETWORK.initial_params(1)
    begun = train(NETWORK, expected, X, y, epochs=2, **options)
    slots, step = begun.slots.copy(), begun.steps
    first[:] = expected
    train(NETWORK, expected, X, y, epochs=8, slots=begun.slots, step=step, **options)
    train(NETWORK, first, X, y, epochs=3, slots=slots, step=step, checkpoint=tmp_path / "c", **options)
    resumed = train(
        NETWORK, first, X, y, epochs=8, slots=slots, step=step, checkpoint=tmp_path / "c", resume=True, **options
    )
    assert first.tobytes() == expected.tobytes()
    assert slots.tobytes() == begun.slots.tobytes()
    assert len(resumed.losses) == 8
    with pytest.raises(ValueError, match=r"step is 0 \(there 2\)"):
        train(NETWORK, first, X, y, epochs=9, checkpoint=tmp_path / "c", resume=True, **options)


# --------------------------------------------------------------------------------------------------- what is found there


def test_resuming_begins_where_there_is_nothing(iris, tmp_path):
    expected = fitted(small(), iris)
    assert state_of(fitted(small(), iris, checkpoint=tmp_path / "c", resume=True)) == state_of(expected)
    assert os.listdir(tmp_path) == ["c"]


def written_twice(iris, path, killed, **parameters):
    killed(2)
    with pytest.raises(Killed):
        fitted(small(**parameters), iris, checkpoint=path, checkpoint_every=1)
    killed(None)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "a model"])
def test_the_one_before_serves_where_the_newest_does_not(iris, tmp_path, killed, damage):
    path = tmp_path / "c"
    written_twice(iris, path, killed)
    expected = fitted(small(), iris)
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "flipped":
        content[-3] ^= 4
        path.write_bytes(content)
    else:
        expected.save(path)
    reason = "is missing" if damage == "missing" else "is not a valid checkpoint"
    with pytest.warns(RuntimeWarning, match=f"{reason}.*going on from the checkpoint before it, .*c.previous"):
        resumed = fitted(small(), iris, checkpoint=path, resume=True)
    assert state_of(resumed) == state_of(expected)


def test_nothing_whole_is_an_error(iris, tmp_path, killed):
    path = tmp_path / "c"
    written_twice(iris, path, killed)
    for each in (path, previous_of(path)):
        each.write_bytes(each.read_bytes()[:-1])
    model = small()
    with pytest.raises(ModelFormatError, match=r"c\.previous is not a valid checkpoint"):
        fitted(model, iris, checkpoint=path, resume=True)
    previous_of(path).unlink()
    with pytest.raises(ModelFormatError, match="c is not a valid checkpoint"):
        fitted(model, iris, checkpoint=path, resume=True)
    assert not hasattr(model, "params_")
    # without resume they are overwritten, but not before the first new one
    killed(1)
    with pytest.raises(Killed):
        fitted(model, iris, checkpoint=path, checkpoint_every=1)
    assert checkpoints.find(path).run["epochs"] == 1


def test_an_old_checkpoint_stays_until_the_first_new_one(iris, tmp_path):
    path = tmp_path / "c"
    fitted(small(), iris, checkpoint=path)
    old = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        fitted(small().set_callbacks(interrupt_in(1)), iris, checkpoint=path)
    assert path.read_bytes() == old


def test_another_run_is_refused_by_what_differs(iris, tmp_path):
    X, y = iris
    path = tmp_path / "c"
    small(early_stopping=True, loss=CustomLoss(misfit, "softmax")).fit(X, y, np.ones(150), checkpoint=path)
    content = path.read_bytes()

    def refused(message, X=X, y=y, weight=np.ones(150), cls=MLPClassifier, options=None, **parameters):
        model = small(cls, **{"early_stopping": True, "loss": CustomLoss(misfit, "softmax"), **parameters})
        before = vars(model).copy()
        with pytest.raises(ValueError, match=message):
            model.fit(X, y, weight, checkpoint=path, resume=True, **(options or {}))
        assert vars(model) == before
        assert path.read_bytes() == content

    refused(r"c is the checkpoint of another run.*: alpha is 0.5 \(there 0.0001\)", alpha=0.5)
    refused(r"random_state is 1 \(there 0\)", random_state=1)
    refused(r"solver is 'SGD\(\)' \(there 'adam'\)", solver=SGD())
    refused(r"network.layers.*hidden_layer_sizes is '\[7\]' \(there '\[6\]'\)", hidden_layer_sizes=(7,))
    refused("random_state is 'RandomState MT19937'", random_state=np.random.RandomState(0))
    refused("network.dtype is 'float32'", dtype="float32")
    refused("kind is 'MLPRegressor'", cls=MLPRegressor, y=y * 1.0, loss="squared_error")
    changed = X.copy()
    changed[77, 2] = np.nextafter(changed[77, 2], 9)
    refused(r": X is 'float64 \(150, 4\) \w+' \(there 'float64 \(150, 4\) \w+'\)$", X=changed)
    refused("X is", X=X[:149], y=y[:149], weight=np.ones(149))
    refused("y is", y=y[::-1])
    refused("classes is", y=y + 1)
    refused("sample_weight is", weight=np.full(150, 2.0))
    refused(r"X_val is .* \(there None\)", options={"X_val": X, "y_val": y})


def test_what_may_change(iris, tmp_path, killed):
    written_twice(iris, tmp_path / "c", killed)
    model = small(max_time=1000, verbose=False, max_fun=7)
    assert state_of(fitted(model, iris, checkpoint=tmp_path / "c", resume=True)).keys()
    assert model.params_.tobytes() == fitted(small(), iris).params_.tobytes()


def test_another_version_warns(iris, tmp_path, killed, monkeypatch):
    written_twice(iris, tmp_path / "c", killed)
    monkeypatch.setattr(pymlp, "__version__", "99")
    with pytest.warns(RuntimeWarning, match="was written by pymlp 0.1.0 and goes on with 99"):
        fitted(small(), iris, checkpoint=tmp_path / "c", resume=True)


def test_loading_a_checkpoint_says_what_it_is(iris, tmp_path):
    fitted(small(), iris, checkpoint=tmp_path / "c")
    with pytest.raises(ModelFormatError, match="it is the checkpoint of a training run"):
        pymlp.load(tmp_path / "c")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"resume": True}, ValueError, "resume=True needs the path of a checkpoint"),
        ({"checkpoint": 3}, TypeError, "checkpoint must be a path or None, got 3"),
        ({"checkpoint": "c", "checkpoint_every": 0}, ValueError, "checkpoint_every must be an integer above 0"),
        ({"checkpoint": "c", "checkpoint_every": -1.0}, ValueError, r"got -1\.0"),
        ({"checkpoint": "c", "checkpoint_every": np.inf}, ValueError, "got inf"),
        ({"checkpoint": "c", "checkpoint_every": np.nan}, ValueError, "got nan"),
        ({"checkpoint": "c", "checkpoint_every": True}, ValueError, "got True"),
        ({"checkpoint": "c", "checkpoint_every": "1"}, ValueError, "got '1'"),
        ({"checkpoint": os.path.join("missing", "c")}, FileNotFoundError, "the folder does not exist"),
        ({"checkpoint": "."}, IsADirectoryError, ""),
    ],
)
def test_odd_arguments(iris, tmp_path, monkeypatch, options, error, message):
    monkeypatch.chdir(tmp_path)
    X, y = iris
    for fit in (small().fit, small(MLPRegressor).fit):
        with pytest.raises(error, match=message):
            fit(X, y, **options)
    with pytest.raises(error, match=message):
        small().fit_stream([(X, y)], **options)
    with pytest.raises(error, match=message):
        train(NETWORK, NETWORK.initial_params(0), X, np.eye(3)[y], **options)
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------------------------------------- malformed files


def rewritten(path, change):
    """Write the file anew, with a right digest, after `change` of its metadata and arrays."""
    file = container.read(path)
    metadata = dict(file.metadata)
    arrays = {name: file.array(name).copy() for name in file.entries}
    change(metadata, arrays)
    container.write(path, metadata, arrays)


def text(old, new, name="state"):
    def change(metadata, arrays):
        assert old in metadata[name]
        metadata[name] = metadata[name].replace(old, new, 1)

    return change


def without(name):
    return lambda metadata, arrays: arrays.pop(name)


def with_array(name, make):
    def change(metadata, arrays):
        arrays[name] = make(arrays.get(name))

    return change


MALFORMED = {
    "format": (text("checkpoint", "chequepoint", "format"), "'format'] must be"),
    "version": (text("1", "2", "format_version"), "'format_version'] must be '1', found '2'"),
    "more metadata": (lambda metadata, arrays: metadata.update(more=""), "unknown key 'more'"),
    "no JSON": (text("{", "[", "fingerprint"), "is not JSON"),
    "array missing": (without("run.params"), "needs an array 'run.params' of its own"),
    "array too much": (with_array("more", lambda _: np.zeros(3)), "has no place for the array 'more'"),
    "no run": (text('"run": ', '"walk": '), "the state has no 'run'"),
    "more state": (text('"start": ', '"more": {}, "start": '), "the state has the unknown key 'more'"),
    "epochs": (text('"epochs": 2', '"epochs": "2"'), "epochs must be an integer of at least 0, found '2'"),
    "negative": (text('"epochs": 2', '"epochs": -2'), "epochs must be an integer of at least 0, found -2"),
    "no course": (text('"course": ', '"curse": '), "the state of the run is malformed: KeyError: 'course'"),
    "params": (with_array("run.params", lambda old: old[:-1]), "its params must be a float64 array of shape"),
    "slots": (with_array("run.slots", lambda old: old.astype("f4")), "its slots must be a float64 array of shape"),
    "rows": (with_array("run.order", lambda old: old + 1), "its order is not one of the rows"),
    "rows twice": (with_array("run.order", np.zeros_like), "its order is not one of the rows"),
    "type of rows": (with_array("run.order", lambda old: old.astype("u8")), "its order is not one of the rows"),
    "generator": (with_array("start.generator.state.key", lambda old: old[:5]), "the state of the run is malformed"),
    "later generator": (text('"MT19937"', '"PCG64"'), "the state of the run is malformed"),
    "scaling": (with_array("start.standardisation.inputs.0", lambda old: old[1:]), "must have 4 means and deviations"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files(iris, tmp_path, killed, name):
    path = tmp_path / "c"
    written_twice(iris, path, killed, standardize=True)
    previous_of(path).unlink()
    change, message = MALFORMED[name]
    rewritten(path, lambda metadata, arrays: None)
    fitted(small(standardize=True), iris, checkpoint=tmp_path / "d", resume=True)
    rewritten(path, change)
    model = small(standardize=True)
    with pytest.raises(ModelFormatError) as caught:
        fitted(model, iris, checkpoint=path, resume=True)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert not hasattr(model, "params_")


def test_malformed_epochs_under_way(iris, tmp_path, killed, single_steps):
    path = tmp_path / "c"
    killed(6)
    with pytest.raises(Killed):
        fitted(small(batch_size=40), iris, checkpoint=path, checkpoint_every=1e-9)
    killed(None)
    shutil.copy(path, tmp_path / "whole")
    for make in (lambda old: np.zeros(4), lambda old: np.zeros(0)):
        shutil.copy(tmp_path / "whole", path)
        rewritten(path, with_array("run.begun.losses", make))
        with pytest.raises(ModelFormatError, match="of an epoch's 4 steps cannot be done"):
            fitted(small(batch_size=40), iris, checkpoint=path, resume=True)


def test_malformed_evaluations(iris, tmp_path):
    path = tmp_path / "c"
    fitted(small(solver="lbfgs", max_iter=2), iris, checkpoint=path)
    rewritten(path, with_array("run.gradients.1", lambda old: old[1:]))
    with pytest.raises(ModelFormatError, match="a gradient must be a float64 array of shape"):
        fitted(small(solver="lbfgs", max_iter=3), iris, checkpoint=path, resume=True)


# ---------------------------------------------------------------------------------------------------------- failed writes


@pytest.mark.parametrize("function", ["fsync", "replace", "link", "chmod", "unlink"])
@pytest.mark.parametrize("fit", ["epochs", "lbfgs"])
def test_a_failed_write_leaves_everything(iris, tmp_path, killed, monkeypatch, function, fit):
    path = tmp_path / "c"
    parameters = {"solver": "lbfgs"} if fit == "lbfgs" else {"batch_size": 50}
    expected = fitted(small(**parameters), iris)
    written_twice(iris, path, killed, **parameters)
    files = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    real = getattr(os, function)
    failed = []

    def fail_once(*arguments, **options):
        if failed or (function == "unlink" and not str(arguments[0]).endswith("previous")):
            return real(*arguments, **options)
        failed.append(arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    model = small(alpha=7.0).fit(*iris).set_params(alpha=0.0001, **parameters)
    before = state_of(model)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail_once)
        with pytest.raises(OSError, match="No space left"):
            fitted(model, iris, checkpoint=path, checkpoint_every=1, resume=True)
    assert state_of(model) == before
    assert {"c"} <= set(os.listdir(tmp_path)) <= {"c", "c.previous"}
    assert path.read_bytes() == files["c"]
    assert state_of(fitted(small(**parameters), iris, checkpoint=path, resume=True)) == state_of(expected)
    assert sorted(os.listdir(tmp_path)) == ["c", "c.previous"]


def test_train_that_cannot_write_changes_nothing(iris, tmp_path, monkeypatch):
    params = NETWORK.initial_params(0)
    before = params.tobytes()

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        train(NETWORK, params, iris[0], np.eye(3)[iris[1]], checkpoint=tmp_path / "c")
    assert params.tobytes() == before
    assert os.listdir(tmp_path) == []


def test_the_constant_rate_is_no_news():
    # what spreads over all epochs, and what does not
    from pymlp.course import Course

    for schedule, agrees in ((Constant(), True), (Cosine(), False), (Cosine(warmup=5), True), ("adaptive", True)):
        course = Course(schedule, 0.1)
        course.begin(200, 10, 100)
        assert course.agrees(300, 0, 40) is agrees
        assert course.agrees(200, 0, 100_000)
    course = Course(Cosine(warmup=10_000), 0.1)
    course.begin(200_000, 10, 100)
    assert course.agrees(300_000, 0, 100_000)
    assert not course.agrees(300_000, 0, 100_003)
