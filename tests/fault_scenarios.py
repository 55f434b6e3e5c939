"""What the faults of allocation_faults.c are let loose on: everything an estimator, a plan or a file is asked for.

Run as a script, with the library preloaded, it prints JSON: for each scenario the cases tried and what went wrong.  A
scenario is a subject, what it is asked to do, and the state that a failure must leave as it was.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from allocation_faults import ALLOCATION, ENGINE, FOR_EVER, Faults
from scipy import sparse
from small_models import small, state_of

import pymlp
from pymlp import Dense, MLPRegressor, Network, Predictor, backends, config_context
from pymlp.optimizers import Adam, new_slots

PACKAGE = Path(pymlp.__file__).parent
# arrays of numbers, not the small ones of shapes and places
DATA_BYTES = 256
# after so many refused objects in a row that nobody missed, it is taken that there is none left to be refused
ENOUGH = 20
ROWS, COLUMNS, CLASSES = 120, 12, 3

draw = np.random.RandomState(5)
X = draw.standard_normal((ROWS, COLUMNS))
LABELS = draw.randint(0, CLASSES, ROWS)
LABELS[:CLASSES] = range(CLASSES)
NUMBERS = X[:, 0] - X[:, 1] ** 2
WEIGHT = draw.uniform(0.5, 2, ROWS)
THIN = sparse.random(ROWS, 60, 0.05, "csr", random_state=draw)
COUNTS = draw.poisson(2, (ROWS, COLUMNS)).astype(float)


@dataclass(frozen=True)
class Scenario:
    """``run(subject)`` meets the faults; ``outcome`` of what it gives, looked at without them, is the same bytes each
    time; ``state(subject)`` is what a failure must not change."""

    name: str
    prepare: Callable[[], Any]
    run: Callable[[Any], Any]
    state: Callable[[Any], Any] = lambda subject: None
    outcome: Callable[[Any], bytes] = lambda given: given
    n_threads: int = 1
    backend: str = "c"


def learnt(model: Any) -> bytes:
    """What a fit has made of a model, in bytes."""
    numbers = [value for name, value in sorted(vars(model).items()) if isinstance(value, np.ndarray)]
    parts = [array.tobytes() for array in numbers] + [repr(getattr(model, "loss_curve_", None)).encode()]
    descent = getattr(model, "_descent", None)
    if descent is not None:
        parts.append(descent.slots.tobytes())
    return hashlib.sha256(b"|".join(parts)).digest()


def called_back(name: str) -> Scenario:
    """Calling a function made of a predictor, which has no error but NaN."""
    network = Network.from_widths((3000, 3, 2), "tanh")
    x, slopes = np.linspace(-1, 1, 3000), np.empty(3000)

    def prepare() -> Any:
        predictor = Predictor(network, network.initial_params(0))
        return predictor.as_cfunc("point", column=1, value_and_gradient=True)

    def run(function: Any) -> bytes:
        value = function.ctypes(len(x), x.ctypes.data, slopes.ctypes.data, function.user_data)
        if np.isnan(value):
            assert np.isnan(slopes).all()
            engine = backends.get("c")
            engine._fail(engine.OUT_OF_MEMORY)
        return np.array(value).tobytes() + slopes.tobytes()

    return Scenario(name, prepare, run)


def fit(name: str, model: Any, *data: Any, verb: str = "fit", **options: Any) -> Scenario:
    """Fitting a copy of the model."""

    def run(subject: Any) -> Any:
        return getattr(subject, verb)(*data)

    return Scenario(name, lambda: copy.deepcopy(model), run, state_of, learnt, **options)


def asking(name: str, model: Any, question: Callable[[Any], Any], **options: Any) -> Scenario:
    """Asking a fitted model something."""
    return Scenario(name, lambda: model, lambda subject: np.asarray(question(subject)).tobytes(), state_of, **options)


def training(name: str, optimizer: Any = pymlp.Adam(), n_threads: int = 1, **options: Any) -> Scenario:  # noqa: B008
    """`pymlp.train` on arrays of the user's own."""
    network = Network.from_widths((COLUMNS, 40, 30, CLASSES), "tanh", loss="log_loss", dtype="float64")
    y = np.eye(CLASSES)[LABELS]

    def prepare() -> tuple[np.ndarray, np.ndarray]:
        return network.initial_params(0), new_slots(optimizer, network.n_parameters, "float64")

    def run(subject: tuple[np.ndarray, np.ndarray]) -> Any:
        terms = {"epochs": 2, "batch_size": 64, "random_state": 1, "n_threads": n_threads}
        pymlp.train(network, subject[0], X, y, slots=subject[1], optimizer=optimizer, **terms)
        return subject

    def state(subject: tuple[np.ndarray, np.ndarray]) -> bytes:
        return b"".join(array.tobytes() for array in subject)

    return Scenario(name, prepare, run, state, state, **options)


def verbs(name: str, n_threads: int = 1) -> Scenario:
    """The verbs of one plan, on sparse rows whose numbers become more from batch to batch."""
    network = Network.from_widths((60, 20, 1), dtype="float64")
    rows = pymlp.SparseRows.of(THIN, "float64")
    y = NUMBERS[:, None].copy()

    def run(plan: Any) -> bytes:
        params, gradient = network.initial_params(0), np.empty(network.n_parameters)
        slots = new_slots(Adam(), network.n_parameters, "float64")
        found = []
        for count in (10, 40, 100):
            found.append(plan.loss_gradient(params, rows[:count], y[:count], None, gradient))
            plan.backward(params, rows[:count], y[:count], gradient)
            plan.train_steps(
                Adam(), params, slots, 0, rows, y, None, np.arange(count), np.array([0, count]), np.array([0.01]),
                np.empty(1),
            )  # fmt: skip
        return params.tobytes() + gradient.tobytes() + np.array(found).tobytes()

    return Scenario(name, lambda: backends.get().Plan(network, 100, n_threads), run)


def saving(name: str, model: Any, folder: Path) -> Scenario:
    """Writing a model file over an older one."""
    path, whole = folder / "model.safetensors", [b"the old file"]

    def prepare() -> Any:
        path.write_bytes(whole[0])
        return model

    def outcome(given: None) -> bytes:
        assert os.listdir(folder) == [path.name], f"litter: {os.listdir(folder)}"
        whole.append(path.read_bytes())
        return whole[-1]

    def state(subject: Any) -> Any:
        # the new file is there already where what fails comes after it has got its name
        return state_of(subject), sorted(os.listdir(folder)), path.read_bytes() in whole

    return Scenario(name, prepare, lambda subject: subject.save(path), state, outcome)


def checkpointing(name: str, model: Any, folder: Path) -> Scenario:
    """A fit that keeps a checkpoint of each epoch: after a failure it goes on from there to the same bits."""
    path = folder / "run.checkpoint"

    def prepare() -> Any:
        for old in folder.iterdir():
            old.unlink()
        return copy.deepcopy(model)

    def run(subject: Any) -> Any:
        return subject.fit(X, LABELS, checkpoint=path, checkpoint_every=1, resume=True)

    def outcome(given: Any) -> bytes:
        strange = {name for name in os.listdir(folder) if not name.startswith(path.name)}
        assert strange == set(), f"litter: {strange}"
        return learnt(given)

    return Scenario(name, prepare, run, state_of, outcome)


def loading(name: str, model: Any, path: Path) -> Scenario:
    """Reading a model file."""
    model.save(path)
    return Scenario(name, lambda: path, pymlp.load, lambda subject: subject.read_bytes(), learnt)


def reading(name: str, model: Any, path: Path) -> Scenario:
    """Reading a model file without Python, and what it says of rows."""
    from pymlp._engine import ffi, lib

    model.save(path)

    def run(subject: Path) -> bytes:
        read, message = ffi.new("pymlp_model **"), ffi.new("char[200]")
        code = lib.pymlp_model_load(read, str(subject).encode(), message, 200)
        assert (code == 0) == (read[0] != ffi.NULL)
        if code == 1:
            raise MemoryError(ffi.string(message).decode())
        assert code == 0, ffi.string(message)
        try:
            out = np.empty((ROWS, lib.pymlp_model_columns(read[0])))
            code = lib.pymlp_predict(read[0], ffi.from_buffer(X), ROWS, ffi.from_buffer(out))
            if code == 1:
                raise MemoryError("the engine asked for scratch")
            return out.tobytes()
        finally:
            lib.pymlp_model_free(read[0])

    return Scenario(name, lambda: path, run, lambda subject: subject.read_bytes())


def scenarios(folder: Path) -> list[Scenario]:
    """All of them; those of files work in `folder`."""
    fitted = small(hidden_layer_sizes=(30, 20)).fit(X, LABELS)
    single = small(MLPRegressor, hidden_layer_sizes=(30,), dtype="float32").fit(X, NUMBERS)
    rare = small(hidden_layer_sizes=(20,)).fit(THIN, LABELS)
    rich = [Dense(30, "gelu", normalization="layer", dropout=0.1), Dense(30, residual=True, max_norm=2.0)]
    chunks = [(X[i : i + 40], LABELS[i : i + 40]) for i in range(0, ROWS, 40)]
    new_rows = np.repeat(X, 30, axis=0)
    for name in ("saved", "runs"):
        (folder / name).mkdir()
    return [
        fit("fit", small(hidden_layer_sizes=(30, 20)), X, LABELS),
        fit("fit, four threads", small(hidden_layer_sizes=(96, 64)), X, LABELS, n_threads=4),
        fit("fit again", fitted, X[:100], LABELS[:100]),
        fit("fit, going on", small(warm_start=True).fit(X, LABELS), X, LABELS),
        fit("partial_fit", small(max_iter=2).fit(X, LABELS), X, LABELS, verb="partial_fit"),
        fit("fit, weighted, lbfgs", small(solver="lbfgs", max_iter=6), X, LABELS, WEIGHT),
        fit("fit, sparse rows", small(), THIN, LABELS),
        fit("fit, sparse rows, lbfgs", small(solver="lbfgs"), THIN, LABELS),
        fit("fit, early stopping", small(early_stopping=True), X, LABELS),
        fit("fit, standardised, float32", small(standardize=True, dtype="float32"), X, LABELS),
        fit("fit, layers", small(hidden_layer_sizes=rich, solver=pymlp.AdamW(average="ema", clip_norm=1.0)), X, LABELS),
        fit("fit, rows of bytes", small(), COUNTS.astype("uint8"), LABELS),
        fit("fit, numbers", small(MLPRegressor, loss=pymlp.Quantile([0.1, 0.5, 0.9])), X, NUMBERS),
        fit("fit_stream", small(max_iter=2), chunks, verb="fit_stream"),
        fit("fit, numpy", small(), X, LABELS, backend="numpy"),
        fit("logistic regression", pymlp.LogisticRegression(max_iter=20), X, LABELS),
        fit("linear SVC", pymlp.LinearSVC(max_iter=20), X, LABELS),
        fit("perceptron", pymlp.Perceptron(max_iter=3, random_state=0), X, LABELS),
        fit("Fourier SVC", pymlp.FourierSVC(n_components=30, max_iter=20, random_state=0), X, LABELS),
        fit("Gaussian naive Bayes", pymlp.GaussianNB(), X, LABELS),
        fit("multinomial naive Bayes", pymlp.MultinomialNB(), COUNTS, LABELS),
        training("train"),
        training("train, four threads", n_threads=4),
        training("train, numpy", backend="numpy"),
        training("train, averaged", pymlp.AdamW(average="ema")),
        verbs("verbs, sparse rows"),
        verbs("verbs, sparse rows, three threads", n_threads=3),
        asking("predict", fitted, lambda model: model.predict(new_rows)),
        asking("predict_proba, four threads", fitted, lambda model: model.predict_proba(new_rows), n_threads=4),
        asking("predict, sparse rows", rare, lambda model: model.predict_proba(THIN)),
        asking("predict, numbers, Fortran order", single, lambda model: model.predict(np.asfortranarray(new_rows))),
        asking("Predictor", fitted, lambda model: Predictor(model)(new_rows)),
        Scenario("Predictor, first call", lambda: Predictor(fitted), lambda subject: subject(new_rows).tobytes()),
        Scenario("Predictor, sparse rows", lambda: Predictor(rare), lambda subject: subject(THIN).tobytes()),
        asking("Predictor.jacobian", fitted, lambda model: Predictor(model).jacobian(new_rows)),
        asking("value_and_gradient, four threads", fitted,
               lambda model: Predictor(model).value_and_gradient(new_rows)[1], n_threads=4),
        called_back("as_cfunc, a row longer than the stack has room for"),
        Scenario("Plan", lambda: fitted.network_, lambda network: bytes([backends.get().Plan(network, 50).n_threads])),
        saving("save", fitted, folder / "saved"),
        checkpointing("fit, checkpoints", small(solver="sgd"), folder / "runs"),
        checkpointing("fit, checkpoints, lbfgs", small(solver="lbfgs"), folder / "runs"),
        loading("load", fitted, folder / "model.safetensors"),
        reading("a model file in C", fitted, folder / "read.safetensors"),
    ]  # fmt: skip


class Sweep:
    """One scenario, and the faults it has met."""

    def __init__(self, scenario: Scenario, faults: Faults) -> None:
        self.scenario, self.faults = scenario, faults
        self.cases = self.failures = self.strange_errors = self.lived_through = 0
        self.problems: list[str] = []
        with self._configured():
            self.expected = scenario.outcome(scenario.run(scenario.prepare()))

    def _configured(self) -> Any:
        return config_context(n_threads=self.scenario.n_threads, backend=self.scenario.backend)

    def allocations(self, every: int, word: str) -> None:
        """Let the n-th watched allocation fail, n = 1, 1 + every, ... until none does; it alone, then it and all later
        ones.  A message must hold `word`."""
        # what is kept from call to call is there by now
        gc.collect()
        held = self.faults.live_blocks
        for forever in (False, True):
            first, failures = 1, 1
            while failures:
                armed = self.faults.armed(ALLOCATION, first, FOR_EVER if forever else first + 1)
                self.case(f"allocation {first}{' and all later ones' if forever else ''}", armed, word)
                failures = self.faults.failures
                self.failures += failures > 0
                first += every
        gc.collect()
        if self.faults.live_blocks != held:
            self.problems.append(f"{self.faults.live_blocks - held} blocks have leaked")

    def case(self, place: str, fault: AbstractContextManager[None], word: str = "") -> None:
        """Run the scenario once within `fault`, and once again if it failed."""
        scenario = self.scenario
        self.cases += 1
        with self._configured():
            subject = scenario.prepare()
            before = scenario.state(subject)
            failed = False
            try:
                with fault:
                    given = scenario.run(subject)
            except MemoryError as error:
                failed = True
                if word not in str(error):
                    self.problems.append(f"{place}: the error says {str(error)!r}")
            except Exception as error:
                # Python itself, and NumPy, at some places do not say what the matter is; pymlp shall
                failed = True
                self.strange_errors += 1
                where = traceback.extract_tb(error.__traceback__)[-1]
                if Path(where.filename).is_relative_to(PACKAGE) and where.line.startswith("raise"):
                    self.problems.append(f"{place}: {error!r} of {where.filename}, line {where.lineno}")
            # cases in a row
            self.lived_through = 0 if failed else self.lived_through + 1
            if failed:
                if scenario.state(subject) != before:
                    self.problems.append(f"{place}: the failure has left its traces")
                given = scenario.run(subject)
            if scenario.outcome(given) != self.expected:
                self.problems.append(f"{place}: other bits")

    def result(self) -> dict[str, Any]:
        """What to print of it."""
        return {
            "cases": self.cases,
            "failures": self.failures,
            "strange errors": self.strange_errors,
            "problems": self.problems,
        }


def of_modules(which: str, every: int, folder: Path) -> dict[str, Any]:
    """All scenarios, with faults in the engine's allocations or in NumPy's of data."""
    faults = Faults()
    if which == "engine":
        faults.watch(ENGINE)
    else:
        faults.watch_arrays(DATA_BYTES)
    results = {}
    for scenario in scenarios(folder):
        sweep = Sweep(scenario, faults)
        sweep.allocations(every, "the engine asked for" if which == "engine" else "")
        results[scenario.name] = sweep.result()
    return results


@contextmanager
def _python_without_memory(first: int) -> Iterator[None]:
    import _testcapi

    _testcapi.set_nomemory(first, first + 1)
    try:
        yield
    finally:
        _testcapi.remove_mem_hooks()


def _of_python(sweep: Sweep, first: int, last: int, every: int, report: int) -> None:
    """Cases first .. last - 1, in a process that may end any time: before each its number goes to `report`."""
    held = sweep.faults.live_blocks
    for number in range(first, last, every):
        os.write(report, f"{number}\n".encode())
        sweep.case(f"object {number}", _python_without_memory(number))
        if sweep.lived_through == ENOUGH:
            break
    gc.collect()
    if sweep.faults.live_blocks != held:
        os.write(report, f"!{sweep.faults.live_blocks - held} blocks of the engine have leaked\n".encode())
    for problem in sweep.problems:
        os.write(report, f"!{problem}\n".encode())
    os.write(report, f"strange {sweep.strange_errors}\n".encode())


def of_python(names: list[str], last: int, every: int, folder: Path) -> dict[str, Any]:
    """Some scenarios, where the n-th object of Python cannot be had, in children, because Python itself may not live
    through it: such cases are counted as ``ended``."""
    faults = Faults()
    faults.watch(ENGINE)
    results = {}
    for scenario in scenarios(folder):
        if scenario.name not in names:
            continue
        sweep, first, cases, strange, ended, problems = Sweep(scenario, faults), 1, 0, 0, [], []
        while first < last:
            there, here = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(there)
                # what Python says of errors that it can raise nowhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                try:
                    _of_python(sweep, first, last, every, here)
                except BaseException as error:
                    # it must not get to what the parent does at its end
                    os.write(here, f"!{error!r} after a failure\n".encode())
                os._exit(0)
            os.close(here)
            with open(there) as lines:
                said = lines.read().split("\n")[:-1]
            _, status = os.waitpid(child, 0)
            problems += [line[1:] for line in said if line.startswith("!")]
            strange += sum(int(line[8:]) for line in said if line.startswith("strange "))
            reached = int([line for line in said if line.isdigit()][-1])
            cases += len(range(first, reached + 1, every))
            first = reached + every if status else last
            if status:
                ended.append(reached)
        results[scenario.name] = {
            "cases": cases, "ended": ended, "strange errors": strange, "problems": problems
        }  # fmt: skip
    return results


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    # what was imported need not be looked through each time that garbage is collected
    gc.freeze()
    with tempfile.TemporaryDirectory() as place:
        if sys.argv[1] == "python":
            print(json.dumps(of_python(sys.argv[4:], int(sys.argv[3]), int(sys.argv[2]), Path(place))))
        else:
            print(json.dumps(of_modules(sys.argv[1], int(sys.argv[2]), Path(place))))
