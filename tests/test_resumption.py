"""A run that was killed anywhere and resumed comes to the very bits of one that was not, whatever it is a run of.

Killed means here that an exception leaves the fit right after a checkpoint was written, and that nothing but the file
is used afterwards.  Real kills are in test_checkpoint_kills.py.
"""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from killed_runs import Killed, dying
from scipy import sparse
from small_models import CLASSES, Stopper, interrupt_in, small, state_of

from pymlp import MLPClassifier, MLPRegressor, backends, checkpoints, epochs
from pymlp.course import Course
from pymlp.layers import Dense
from pymlp.losses import GaussianNLL
from pymlp.network import Network
from pymlp.optimizers import OPTIMIZERS, SGD, Adam
from pymlp.schedules import SCHEDULES, Constant, Cosine, OneCycle, Plateau
from pymlp.training import train

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:lbfgs failed")

# rates that change within a few epochs
CHANGING = {"plateau": Plateau(patience=1, tol=1e9, factor=0.5), "cosine": Cosine(warmup=2, restarts=1)}
OF_SCHEDULES = {name: CHANGING.get(name, kind()) for name, kind in SCHEDULES.items()}


def falling(step):
    return 0.1 / (step + 1)


SCHEDULES_OF_ALL_KINDS = {**OF_SCHEDULES, "adaptive": "adaptive", "by rows": "invscaling", "callable": falling}


@pytest.fixture
def killed(monkeypatch):
    return dying(monkeypatch)


@pytest.fixture
def single_steps(monkeypatch):
    """Every slice is one step."""
    monkeypatch.setattr(epochs, "DIRECT_SECONDS", 1e-9)
    monkeypatch.setattr(epochs, "HELPED_SLICE_SECONDS", 1e-9)
    monkeypatch.setattr(epochs, "TOGETHER_SECONDS", 1e-9)


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


# -------------------------------------------------------------------------------------------------------- the same bits


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


@pytest.mark.parametrize("schedule", SCHEDULES_OF_ALL_KINDS.values(), ids=SCHEDULES_OF_ALL_KINDS)
@pytest.mark.parametrize("solver", ["sgd", "adamw"])
def test_every_schedule(iris, tmp_path, killed, solver, schedule):
    options = {"solver": solver, "learning_rate": schedule, "learning_rate_init": 0.02, "tol": 0.02}
    check_resumed(
        lambda: small(**options, max_iter=20, batch_size=40, n_iter_no_change=2), iris, tmp_path / "c", killed, 5
    )


@pytest.mark.parametrize("schedule", SCHEDULES_OF_ALL_KINDS.values(), ids=SCHEDULES_OF_ALL_KINDS)
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
    "layers": (MLPClassifier, {"hidden_layer_sizes": [Dense(6, normalization="layer"), Dense(6, residual=True)]}),
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
    # also of the epochs behind the best one
    assert resumed.loss_curve_ == expected.loss_curve_
    assert state.normal() == following

    np.random.seed(5)
    killed(1)
    with pytest.raises(Killed):
        small(**parameters, random_state=None).fit(X, y, **options)
    killed(None)
    np.random.seed(77)
    resumed = small(**parameters, random_state=None).fit(X, y, **options, resume=True)
    assert resumed.params_.tobytes() == expected.params_.tobytes()
    assert resumed.loss_curve_ == expected.loss_curve_


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


# ------------------------------------------------------------------------------------------------ lbfgs, streams, train


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
    for number in range(1, numbers + 1) if kind == "float64" else (1, 2, numbers - 1):
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
    found = checkpoints.read(tmp_path / "c")
    # as if the third point had been another: what came of it and of those behind it is not to be used
    found.run["points"][2] ^= 1
    found.run["gradients"][2:] = 7.0
    monkeypatch.setattr(checkpoints, "find", lambda path: found)
    resumed = fitted(small(solver="lbfgs", max_iter=8), iris, checkpoint=tmp_path / "c", resume=True)
    assert state_of(resumed) == state_of(fitted(small(solver="lbfgs", max_iter=8), iris))
    assert checkpoints.read(tmp_path / "c").run["points"].shape[0] > 8


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


@pytest.mark.parametrize(
    ("backend", "generator"),
    [*((name, "seed") for name in backends.available()), *((None, name) for name in GENERATORS if name != "seed")],
)
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


def test_the_constant_rate_is_no_news():
    # what spreads over all epochs, and what does not
    for schedule, agrees in ((Constant(), True), (Cosine(), False), (Cosine(warmup=5), True), ("adaptive", True)):
        course = Course(schedule, 0.1)
        course.begin(200, 10, 100)
        assert course.agrees(300, 0, 40) is agrees
        assert course.agrees(200, 0, 100_000)
    course = Course(Cosine(warmup=10_000), 0.1)
    course.begin(200_000, 10, 100)
    assert course.agrees(300_000, 0, 100_000)
    assert not course.agrees(300_000, 0, 100_003)
