"""Every loss, with its parameters, in every backend; and losses of one's own, in Python and compiled."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matrix import (
    DTYPES,
    EDGES,
    ENGINES,
    FUSED,
    NUMPY,
    OTHERS,
    WEIGHT_KINDS,
    Case,
    Engine,
    make_case,
    run_backward,
    run_forward,
    run_loss_gradient,
)

from pymlp.backends import BLOCK_ROWS
from pymlp.functions import ACTIVATIONS
from pymlp.losses import (
    LOSSES,
    BinaryFocal,
    BinaryLogLoss,
    CompiledLoss,
    CustomLoss,
    Focal,
    GaussianNLL,
    Huber,
    LogLoss,
    Quantile,
    Tweedie,
    loss_of,
)
from pymlp.optimizers import Adam, new_slots

WITH_PARAMETERS = (
    Huber(0.3),
    Quantile([0.5]),
    Quantile([0.05, 0.2, 0.5, 0.6, 0.9]),
    GaussianNLL(),
    LogLoss(0.1),
    BinaryLogLoss(0.3),
    Focal(0.0),
    Focal(0.5),
    Focal(5.0),
    BinaryFocal(1.0),
    Tweedie(1.05),
    Tweedie(1.9),
)
# in the dtype's epsilons of the largest number: what the activations and products before the loss make of it
TOLERANCE = 64
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_engine = pytest.mark.parametrize("engine", ENGINES, ids=str)
by_other = pytest.mark.parametrize("engine", OTHERS, ids=str)


def assert_close(found: Any, expected: Any, dtype: str, what: str) -> None:
    found, expected = np.asarray(found, np.float64), np.asarray(expected)
    atol = TOLERANCE * float(np.finfo(dtype).eps) * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=what)


def check(engine: Engine, **options: Any) -> None:
    """All verbs that know of the loss or its output activation, against the definition in float64."""
    case = make_case(*EDGES, activation="tanh", **options)
    wide, dtype = case.doubled, case.network.dtype
    assert_close(run_forward(engine, case), run_forward(NUMPY, wide), dtype, "forward")
    (value, gradient), (expected_value, expected) = run_loss_gradient(engine, case), run_loss_gradient(NUMPY, wide)
    assert_close(value, expected_value, dtype, "loss")
    assert_close(gradient, expected, dtype, "gradient of the loss")
    output_gradient = np.random.default_rng(1).normal(size=case.y.shape).astype(dtype)
    found = run_backward(engine, case, output_gradient)
    for a, b in zip(found, run_backward(NUMPY, wide, output_gradient.astype(np.float64)), strict=True):
        assert_close(a, b, dtype, "backward")


@by_dtype
@pytest.mark.parametrize("weight", WEIGHT_KINDS)
@pytest.mark.parametrize("loss", LOSSES)
@by_other
def test_every_loss_with_every_kind_of_weight(engine: Engine, loss: str, weight: str, dtype: str) -> None:
    check(engine, loss=loss, weight=weight, dtype=dtype)


@by_dtype
@pytest.mark.parametrize("loss", WITH_PARAMETERS, ids=str)
@by_other
def test_parameters(engine: Engine, loss: Any, dtype: str) -> None:
    check(engine, loss=loss, weight="random", dtype=dtype)


@pytest.mark.parametrize("loss", LOSSES)
@by_engine
def test_a_row_of_weight_zero_counts_as_removed_even_where_its_loss_is_infinite(engine: Engine, loss: str) -> None:
    case = make_case(6, (3, 4, 2), "tanh", loss, weight="some zero")
    there = case.weight > 0
    case.y[~there] = np.inf
    value, gradient = run_loss_gradient(engine, case)
    expected = run_loss_gradient(
        NUMPY, Case(case.network, case.params, case.X[there], case.y[there], case.weight[there])
    )
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=0, atol=1e-12 * np.abs(expected[1]).max())


@by_dtype
@pytest.mark.parametrize("loss", [Quantile([0.1, 0.9]), GaussianNLL()], ids=str)
@pytest.mark.parametrize("targets", [1, 2, 9, 20])
@by_other
def test_groups_of_outputs(engine: Engine, targets: int, loss: Any, dtype: str) -> None:
    # one row and several: inference goes other ways
    for rows in (1, 5, 40):
        case = make_case(rows, (4, 9, 2 * targets), "tanh", loss, dtype)
        assert_close(run_forward(engine, case), run_forward(NUMPY, case.doubled), dtype, "forward")
        expected = run_loss_gradient(NUMPY, case.doubled)
        for found, number in zip(run_loss_gradient(engine, case), expected, strict=True):
            assert_close(found, number, dtype, "loss_gradient")
        out = run_forward(engine, case).reshape(rows, targets, 2)
        if isinstance(loss, Quantile):
            assert (out[:, :, 0] <= out[:, :, 1]).all()
        else:
            assert (out[:, :, 1] > 0).all()


@by_engine
def test_a_target_of_zero_under_an_output_too_small_to_be_a_number(engine: Engine) -> None:
    for loss in ("tweedie", "poisson"):
        case = make_case(2, (1, 1), loss=loss, dtype="float32")
        case.params[:] = [1, 0]
        case.X[:], case.y[:] = -200, 0
        value, gradient = run_loss_gradient(engine, case)
        assert value == pytest.approx(0, abs=1e-30)
        np.testing.assert_allclose(gradient, 0, atol=1e-30)


# --- losses of one's own ----------------------------------------------------------------------------------------------


def fourth_power(y: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The fourth power of the distance, summed over the outputs."""
    distance = output - y
    return (distance**4).sum(axis=1), 4 * distance**3


ACTIVATED = [name for name, row in ACTIVATIONS.items() if not row.grouped] + ["mean_deviation", "ascending"]


@by_dtype
@pytest.mark.parametrize("output_activation", ACTIVATED)
@by_other
def test_a_function_of_python_over_any_output_activation(engine: Engine, output_activation: str, dtype: str) -> None:
    check(engine, loss=CustomLoss(fourth_power, output_activation), weight="some zero", dtype=dtype, l1=0.02, l2=0.3)


@by_engine
def test_a_function_of_python_as_a_loss_that_there_is(engine: Engine) -> None:
    def squared_error(y: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 0.5 * ((y - output) ** 2).mean(axis=1), output - y

    own, given = (make_case(*EDGES, "gelu", loss, weight="random", l2=0.1) for loss in (squared_error, "squared_error"))
    for a, b in zip(run_loss_gradient(engine, own), run_loss_gradient(engine, given), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@by_dtype
@by_engine
def test_train_steps_with_a_function_of_python_is_the_loop(engine: Engine, dtype: str) -> None:
    case = make_case(60, (5, 17, 3), "tanh", fourth_power, dtype, "random", l2=0.1)
    order, starts = np.random.default_rng(3).integers(60, size=70), np.array([0, 29, 29, 50, 70])
    case.weight[order[29:50]] = 0
    rates = np.full(4, 0.01)
    whole, loop = ((case.params.copy(), new_slots(Adam(), len(case.params), dtype), np.empty(4)) for _ in range(2))
    plan, gradient = engine.plan(case.network, 29), np.empty_like(case.params)
    plan.train_steps(Adam(), whole[0], whole[1], 3, case.X, case.y, case.weight, order, starts, rates, whole[2])
    for i in range(4):
        rows = order[starts[i] : starts[i + 1]]
        loop[2][i] = plan.loss_gradient(loop[0], case.X[rows], case.y[rows], case.weight[rows], gradient, 3 + i)
        if case.weight[rows].sum() > 0:
            plan.update(Adam(), loop[0], gradient, loop[1], 3 + i, 0.01)
    assert not np.array_equal(whole[0], case.params)
    for a, b in zip(whole, loop, strict=True):
        assert a.tobytes() == b.tobytes()


@by_engine
def test_a_function_of_python_sees_a_step_once_and_may_not_return_what_it_likes(engine: Engine) -> None:
    calls: list[tuple[int, ...]] = []

    def counted(y: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls.append(output.shape)
        return fourth_power(y, output)

    case = make_case(*EDGES, loss=counted)
    run_loss_gradient(engine, case)
    assert calls == [case.y.shape]
    case = make_case(*EDGES, loss=lambda y, output: (output, output))
    with pytest.raises(ValueError, match=r"must return values of shape \(15,\) and a gradient of shape \(15, 3\)"):
        run_loss_gradient(engine, case)


@by_engine
def test_a_row_of_weight_zero_counts_as_removed_for_a_function_of_python(engine: Engine) -> None:
    case = make_case(6, (3, 4, 2), "relu", fourth_power, weight="some zero")
    case.y[case.weight == 0] = np.inf
    value, gradient = run_loss_gradient(engine, case)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@by_other
def test_a_function_of_python_over_more_rows_than_a_block(engine: Engine) -> None:
    case = make_case(BLOCK_ROWS + 100, (3, 4, 2), "tanh", fourth_power, l2=0.5)
    for a, b in zip(run_loss_gradient(engine, case), run_loss_gradient(NUMPY, case), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)


SOURCE = """
#include <stdint.h>
void f(int64_t rows, int64_t outputs, const real *y, const real *output, real *value, real *gradient) {
    for (int64_t row = 0; row < rows; row++) {
        value[row] = 0;
        for (int64_t i = row * outputs; i < (row + 1) * outputs; i++) {
            real distance = output[i] - y[i], square = distance * distance;
            value[row] += square * square;
            gradient[i] = 4 * square * distance;
        }
    }
}
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ctypes.CDLL]:
    """The fourth power as a C library, by dtype."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler to compile a loss with")
    folder: Path = tmp_path_factory.mktemp("loss")
    (folder / "loss.c").write_text(SOURCE)
    found = {}
    for dtype, real in (("float32", "float"), ("float64", "double")):
        target = folder / f"{dtype}.so"
        options = ["-O1", "-ffp-contract=off", "-fPIC", "-shared", f"-Dreal={real}"]
        subprocess.run([compiler, *options, str(folder / "loss.c"), "-o", str(target)], check=True)
        found[dtype] = ctypes.CDLL(str(target))
    return found


def compiled(libraries: dict[str, ctypes.CDLL], dtype: str, output_activation: str = "identity") -> CompiledLoss:
    return CompiledLoss(ctypes.cast(libraries[dtype].f, ctypes.c_void_p).value, output_activation)


@by_dtype
@pytest.mark.parametrize("output_activation", ["identity", "softmax", "tanh", "gelu", "exp", "mean_deviation"])
@by_engine
def test_a_compiled_loss(engine: Engine, output_activation: str, dtype: str, libraries: dict[str, ctypes.CDLL]) -> None:
    own = make_case(*EDGES, "tanh", compiled(libraries, dtype, output_activation), dtype, "some zero", l2=0.3)
    same = make_case(*EDGES, "tanh", CustomLoss(fourth_power, output_activation), dtype, "some zero", l2=0.3)
    expected = run_loss_gradient(NUMPY, same.doubled)
    for found, number in zip(run_loss_gradient(engine, own), expected, strict=True):
        assert_close(found, number, dtype, "loss_gradient")


@by_dtype
def test_a_compiled_loss_gives_the_same_bytes_on_any_number_of_threads(
    dtype: str, libraries: dict[str, ctypes.CDLL]
) -> None:
    if not FUSED:
        pytest.skip("the C engine was not built, or this machine has no fused instructions")
    case = make_case(5000, (5, 17, 3), "tanh", compiled(libraries, dtype), dtype, "random")
    order, starts, results = np.arange(5000), np.array([0, 4200, 5000]), set()
    for engine in FUSED:
        for n_threads in (1, 2, 4):
            params, slots, losses = case.params.copy(), new_slots(Adam(), len(case.params), dtype), np.empty(2)
            plan = engine.plan(case.network, 4200, n_threads)
            plan.train_steps(
                Adam(), params, slots, 0, case.X, case.y, case.weight, order, starts, np.full(2, 0.01), losses
            )
            results.add(params.tobytes() + slots.tobytes() + losses.tobytes())
    assert len(results) == 1


@by_engine
def test_a_loss_compiled_by_numba(engine: Engine) -> None:
    numba = pytest.importorskip("numba", reason="compiles the loss here")
    pointer = numba.types.CPointer(numba.float64)

    @numba.cfunc(numba.void(numba.int64, numba.int64, pointer, pointer, pointer, pointer))
    def function(rows, outputs, y, output, value, gradient):
        for row in range(rows):
            value[row] = 0.0
            for i in range(row * outputs, (row + 1) * outputs):
                distance = output[i] - y[i]
                value[row] += distance**4
                gradient[i] = 4 * distance**3

    own, same = (make_case(*EDGES, "tanh", loss) for loss in (CompiledLoss(function), CustomLoss(fourth_power)))
    for a, b in zip(run_loss_gradient(engine, own), run_loss_gradient(NUMPY, same), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14)


def test_every_loss_has_its_parameters_tried() -> None:
    kinds = {type(loss) for loss in WITH_PARAMETERS}
    assert {type(row) for row in LOSSES.values() if row.numbers} <= kinds
    assert all(loss_of(loss) is loss for loss in WITH_PARAMETERS)
