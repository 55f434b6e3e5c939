"""Many Python threads at one model: predictions have the same bits, whoever else predicts or trains."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pymlp import MLPClassifier, MLPRegressor, Predictor, backends, config_context

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PREDICTING, TRAINING = 32, 4
SECONDS = [pytest.param(0.5), pytest.param(6.0, marks=pytest.mark.slow)]


def rows(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.standard_normal((count, 20), dtype=np.float32), draw.integers(3, size=count)


def run_for(seconds: float, works: list[Callable[[], bool]]) -> tuple[int, int]:
    """Each piece of work in a thread of its own, again and again: how often in all, and how often it was not right."""
    done, wrong, errors = [0] * len(works), [0] * len(works), []
    end, all_at_once = time.perf_counter() + seconds, threading.Barrier(len(works))

    def repeat(number: int) -> None:
        try:
            all_at_once.wait()
            while done[number] == 0 or time.perf_counter() < end:
                wrong[number] += not works[number]()
                done[number] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return sum(done), sum(wrong)


def cut(X: np.ndarray, number: int) -> list[np.ndarray]:
    """X in pieces, of another length for each thread."""
    size = 1 + 13 * number
    return [X[first : first + size] for first in range(0, len(X), size)]


@pytest.mark.parametrize(
    ("backend", "seconds"),
    [("c", 0.5), *(pytest.param(name, 6.0, marks=pytest.mark.slow) for name in backends.BACKENDS)],
)
def test_32_threads_predict_with_one_model_while_others_fit(backend: str, seconds: float) -> None:
    if backend not in backends.available():
        pytest.skip(str(backends.missing_reason(backend)))
    X, y = rows()

    def fitted() -> MLPClassifier:
        return MLPClassifier((50, 30), batch_size=100, max_iter=3, random_state=0).fit(X, y)

    # threads do not inherit the context
    def here(work: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with config_context(backend=backend, n_threads=2):
                return work()

        return run

    with config_context(backend=backend, n_threads=2):
        model = fitted()
        predictor = Predictor(model)
        params = model.params_.tobytes()
        expected = model.predict_proba(X)

    def by_predictor(number: int) -> bool:
        found = np.concatenate([predictor(piece) for piece in cut(X, number)])
        # the bits do not depend on the cuts where C computes
        return found.tobytes() == expected.tobytes() if backend == "c" else np.allclose(found, expected, atol=1e-6)

    works = [here(lambda number=number: by_predictor(number)) for number in range(PREDICTING // 2)]
    works += [here(lambda: model.predict_proba(X).tobytes() == expected.tobytes())] * (PREDICTING // 2)
    works += [here(lambda: fitted().params_.tobytes() == params)] * TRAINING
    count, wrong = run_for(seconds, works)
    print(f"{backend}: {count} predictions and fits, {wrong} of other bits")
    assert wrong == 0


@pytest.mark.parametrize("seconds", SECONDS)
def test_fits_of_many_threads_have_the_bits_of_one(seconds: float) -> None:
    X, y = rows()

    def bits(number: int) -> bytes:
        kinds = [
            lambda: MLPClassifier((40,), batch_size=50, max_iter=4, random_state=number),
            lambda: MLPRegressor(hidden_layer_sizes=(40,), solver="lbfgs", max_iter=5, random_state=number),
            lambda: MLPClassifier((20, 20), dropout=0.2, max_iter=4, random_state=number, standardize=True),
        ]
        return kinds[number % 3]().fit(X, y).params_.tobytes()

    expected = [bits(number) for number in range(12)]
    count, wrong = run_for(seconds, [lambda number=number: bits(number) == expected[number] for number in range(12)])
    print(f"{count} fits, {wrong} of other bits")
    assert wrong == 0
