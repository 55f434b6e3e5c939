"""100 steps in float64 against numbers that PyTorch made once: losses and final weights to 1e-10.

`golden_trajectory` makes them, and says where PyTorch's definitions are others and how they were brought together.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden_trajectory import COURSES, FILE, STEPS, Course, batches, data, initial_params
from matrix import ENGINES, Engine

from pymlp import Dense, Network
from pymlp.losses import LOSSES
from pymlp.optimizers import OPTIMIZERS, new_slots

GOLDEN = json.loads(FILE.read_text())["courses"]
TOLERANCE = 1e-10


def trained(engine: Engine, course: Course) -> tuple[np.ndarray, np.ndarray]:
    """Losses of the steps, and the parameters after the last."""
    layers = [Dense(**layer) for layer in course.hidden]
    layers.append(Dense(course.outputs, LOSSES[course.loss].output_activation))
    X, y = data(course)
    network = Network(X.shape[1], tuple(layers), course.loss, "float64", course.l1, course.l2)
    optimizer = OPTIMIZERS[course.optimizer](**course.options)
    params, losses = initial_params(course), np.full(STEPS, np.nan)
    slots = new_slots(optimizer, network.n_parameters, "float64")
    order, starts = batches()
    plan = engine.plan(network, int(np.diff(starts).max()))
    plan.train_steps(
        optimizer, params, slots, 0, X, y, None, order, starts, np.full(STEPS, course.rate), losses
    )  # fmt: skip
    return losses, params


def test_the_file_holds_the_courses() -> None:
    assert list(GOLDEN) == list(COURSES)
    for name, course in COURSES.items():
        assert len(GOLDEN[name]["losses"]) == STEPS
        assert len(GOLDEN[name]["params"]) == len(initial_params(course))
        # something was learnt, from the first turn of all rows to the last
        assert sum(GOLDEN[name]["losses"][-3:]) < sum(GOLDEN[name]["losses"][:3])


@pytest.mark.parametrize("name", COURSES)
@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_the_course_is_pytorchs(engine: Engine, name: str) -> None:
    losses, params = trained(engine, COURSES[name])
    np.testing.assert_allclose(losses, GOLDEN[name]["losses"], rtol=TOLERANCE, atol=0)
    largest = np.abs(GOLDEN[name]["params"]).max()
    np.testing.assert_allclose(params, GOLDEN[name]["params"], rtol=TOLERANCE, atol=TOLERANCE * largest)
