"""What the C engine refuses at its own door, below the checks of Python: each argument out of its range gives its code.

The header is a public interface, so a program in C, or a later backend, must get an error and not a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pymlp import backends

pytestmark = pytest.mark.skipif("c" not in backends.available(), reason=f"no C engine: {backends.missing_reason('c')}")
if "c" in backends.available():
    from pymlp._engine import ffi, lib

OUT_OF_MEMORY, STOPPED, ROW_OUT_OF_RANGE, BAD_ARGUMENT, NO_INSTRUCTION_SET = 1, 3, 4, 5, 6
ISA = b"portable"


def table(*rows: dict[str, Any]) -> Any:
    """Rows of a network's table: dense layers, one after the other, where a row does not say otherwise."""
    layers = ffi.new("pymlp_layer[]", max(len(rows), 1))
    for number, (layer, row) in enumerate(zip(layers, rows, strict=False)):
        given = {"kind": b"dense", "activation": b"identity", "inputs": 2, "outputs": 2, "source": number, "second": -1}
        given |= row
        layer.kind = given["kind"] if isinstance(given["kind"], int) else lib.pymlp_layer_kind(given["kind"])
        activation = given["activation"]
        layer.activation = activation if isinstance(activation, int) else lib.pymlp_activation(activation)
        layer.inputs, layer.outputs = given["inputs"], given["outputs"]
        layer.source, layer.second = given["source"], given["second"]
        layer.setting, layer.max_norm = given.get("setting", 0.0), given.get("max_norm", 0.0)
    return layers


def rule(**changes: Any) -> Any:
    """A loss for it."""
    loss = ffi.new("pymlp_loss_rule *")
    loss.kind, loss.group, loss.n_numbers = lib.pymlp_loss(b"squared_error"), 1, 0
    for name, value in changes.items():
        setattr(loss, name, value)
    return loss


def create(
    *rows: dict[str, Any],
    n_layers: int | None = None,
    loss: Any = None,
    isa: bytes = ISA,
    dtype: int = 32,
    batch_size: int = 4,
    n_threads: int = 1,
) -> tuple[int, Any]:
    """The code of pymlp_plan_create, and what it made."""
    plan = ffi.new("pymlp_plan **")
    code = lib.pymlp_plan_create(
        plan, isa, dtype, table(*rows), len(rows) if n_layers is None else n_layers,
        rule() if loss is None else loss, 0.0, 0.0, 0, batch_size, n_threads, 0,
    )  # fmt: skip
    return code, plan[0]


def made(*rows: dict[str, Any], **options: Any) -> Any:
    code, plan = create(*rows, **options)
    assert code == 0
    return ffi.gc(plan, lib.pymlp_plan_free)


RESIDUAL = {"kind": b"add", "source": 1, "second": 0}
TABLES = {
    "a kind below the first": ({"kind": -1},),
    "a kind past the last": ({"kind": 1000},),
    "a kind that no table has": ({"kind": b"sparse_dense"},),
    "an activation below the first": ({"activation": -1},),
    "an activation past the last": ({"activation": 1000},),
    "no inputs": ({"inputs": 0},),
    "no outputs": ({"outputs": -1},),
    "a source before the inputs": ({"source": -1},),
    "a source that is not written yet": ({"source": 1},),
    "a second that is not written yet": ({}, RESIDUAL | {"second": 2}, {}),
    "inputs that are not the source's outputs": ({"outputs": 3}, {}),
    "inputs that are not the network's": ({"outputs": 3}, {"inputs": 3, "source": 0}),
    "a width that a vector kind changes": ({}, {"kind": b"layer_norm", "outputs": 3}, {"inputs": 3}),
    "a second that the kind does not read": ({}, {"second": 0}),
    "no second where the kind reads one": ({}, RESIDUAL | {"second": -1}, {}),
    "a second of another width": ({"outputs": 3}, RESIDUAL | {"inputs": 3, "outputs": 3}, {"inputs": 3}),
    "a second, not the inputs, of another width": (
        {"outputs": 3},
        {"inputs": 3},
        RESIDUAL | {"source": 2, "second": 1},
        {},
    ),
    "a negative largest norm": ({"max_norm": -1.0},),
    "a largest norm without a matrix": ({}, {"kind": b"dropout", "max_norm": 1.0}, {}),
    "a last row without a matrix": ({}, {"kind": b"dropout"}),
    "softmax before the last row": ({"activation": b"softmax"}, {}),
    # more buffers to be read later than inference has pieces of memory
    "too many buffers at once": (
        *({"source": 0} for _ in range(9)),
        *({"kind": b"add", "source": 9 + i, "second": 9 - i - 1} for i in range(8)),
        {},
    ),
}
REFUSED: dict[str, tuple[int, Callable[[], int]]] = {
    **{name: (BAD_ARGUMENT, lambda rows=rows: create(*rows)[0]) for name, rows in TABLES.items()},
    "no layer": (BAD_ARGUMENT, lambda: create(n_layers=0)[0]),
    "more layers than a table may have": (BAD_ARGUMENT, lambda: create({}, n_layers=100001)[0]),
    "a loss below the first": (BAD_ARGUMENT, lambda: create({}, loss=rule(kind=-1))[0]),
    "a loss past the last": (BAD_ARGUMENT, lambda: create({}, loss=rule(kind=1000))[0]),
    "a group of no outputs": (BAD_ARGUMENT, lambda: create({}, loss=rule(group=0))[0]),
    "a group that does not divide the outputs": (BAD_ARGUMENT, lambda: create({}, loss=rule(group=3))[0]),
    "a negative count of numbers": (BAD_ARGUMENT, lambda: create({}, loss=rule(n_numbers=-1))[0]),
    "more numbers than a loss may have": (BAD_ARGUMENT, lambda: create({}, loss=rule(n_numbers=1025))[0]),
    "a number that the loss has no use for": (BAD_ARGUMENT, lambda: create({}, loss=rule(n_numbers=1))[0]),
    "a compiled loss without its function": (
        BAD_ARGUMENT,
        lambda: create({}, loss=rule(kind=lib.pymlp_loss(b"compiled")))[0],
    ),
    "an output activation that the loss is not defined over": (
        BAD_ARGUMENT,
        lambda: create({"activation": b"tanh"})[0],
    ),
    "batches of no rows": (BAD_ARGUMENT, lambda: create({}, batch_size=0)[0]),
    "no thread": (BAD_ARGUMENT, lambda: create({}, n_threads=0)[0]),
    "half precision": (NO_INSTRUCTION_SET, lambda: create({}, dtype=16)[0]),
    "an instruction set of another machine": (NO_INSTRUCTION_SET, lambda: create({}, isa=b"vax")[0]),
    "a network that no memory holds": (OUT_OF_MEMORY, lambda: create({"outputs": 2**62}, {"inputs": 2**62})[0]),
    # more bytes than there are addresses, but not too many to be counted: the allocator refuses
    "a network that this memory does not hold": (
        OUT_OF_MEMORY,
        lambda: create({"inputs": 2**22, "outputs": 2**22})[0],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_plan_is_refused_for(what: str) -> None:
    expected, call = REFUSED[what]
    assert call() == expected


def test_a_refused_plan_or_predictor_is_none() -> None:
    code, plan = create({"inputs": 0})
    assert (code, plan) == (BAD_ARGUMENT, ffi.NULL)
    predictor = ffi.new("pymlp_predictor **")
    for rows, complement in (({"inputs": 0},), 0), (({},), 1), ((), 0):
        code = lib.pymlp_predictor_create(
            predictor, ISA, 32, table(*rows), len(rows), rule(), ffi.NULL, complement, 1, 0
        )
        assert (code, predictor[0]) == (BAD_ARGUMENT, ffi.NULL)
    # freeing nothing is allowed, as it is in C
    lib.pymlp_plan_free(ffi.NULL)
    lib.pymlp_predictor_free(ffi.NULL)


def numbers(*shape: int, dtype: str = "float32") -> Any:
    return ffi.from_buffer(np.zeros(shape, dtype))


def sparse_rows() -> Any:
    """Three rows without numbers."""
    rows = ffi.new("pymlp_sparse *")
    arrays = np.zeros(1, "float32"), np.zeros(1, "int32"), np.zeros(4, "int64")
    rows.values = ffi.from_buffer(arrays[0])
    rows.columns, rows.starts = ffi.from_buffer("int32_t *", arrays[1]), ffi.from_buffer("int64_t *", arrays[2])
    KEPT.extend(arrays)
    return rows


# what the records above point to
KEPT: list[np.ndarray] = []


@pytest.mark.parametrize("rows", [-1, 5])
def test_a_number_of_rows_that_cannot_be(rows: int) -> None:
    plan = made({})
    X, params, gradient, loss = numbers(4, 2), numbers(6), numbers(6), ffi.new("double *")
    backward = lib.pymlp_backward(plan, params, X, ffi.NULL, rows, X, gradient, ffi.NULL, -1, 0)
    of_loss = lib.pymlp_loss_gradient(plan, params, X, ffi.NULL, X, ffi.NULL, rows, gradient, loss, -1, 0)
    assert (backward, of_loss) == (BAD_ARGUMENT, BAD_ARGUMENT)
    if rows < 0:
        assert lib.pymlp_forward(plan, params, X, ffi.NULL, rows, X, -1, 0) == BAD_ARGUMENT


def test_a_predictor_of_a_negative_number_of_rows() -> None:
    predictor = ffi.new("pymlp_predictor **")
    params, X = numbers(6), numbers(4, 2)
    assert lib.pymlp_predictor_create(predictor, ISA, 32, table({}), 1, rule(), params, 0, 1, 0) == 0
    assert lib.pymlp_predictor_predict(predictor[0], X, -1, X) == BAD_ARGUMENT
    assert lib.pymlp_predictor_predict_sparse(predictor[0], sparse_rows(), -1, X) == BAD_ARGUMENT
    assert lib.pymlp_predictor_predict_sparse(predictor[0], sparse_rows(), 3, X) == 0
    assert lib.pymlp_predictor_value_and_gradient(predictor[0], X, -1, X, X) == BAD_ARGUMENT
    assert lib.pymlp_predictor_value_and_gradient(predictor[0], X, 1, X, ffi.NULL) == BAD_ARGUMENT
    lib.pymlp_predictor_free(predictor[0])


def optimizer(kind: int) -> Any:
    record = ffi.new("pymlp_optimizer *")
    record.kind = kind
    return record


def steps(plan: Any, starts: list[int], order: list[int], kind: int = 0, n_steps: int | None = None) -> int:
    """The code of pymlp_train_steps on 4 rows."""
    params, X = numbers(6), numbers(4, 2)
    return lib.pymlp_train_steps(
        plan, optimizer(kind), params, numbers(2, 6), 0, X, ffi.NULL, X, ffi.NULL, 4,
        ffi.from_buffer("int64_t *", np.array(order, "int64")), ffi.from_buffer("int64_t *", np.array(starts, "int64")),
        len(starts) - 1 if n_steps is None else n_steps, ffi.from_buffer("double *", np.zeros((4, 4))),
        ffi.from_buffer("double *", np.zeros(4)),
    )  # fmt: skip


def test_batches_optimizers_and_row_numbers_that_cannot_be() -> None:
    plan = made({})
    assert steps(plan, [0, 2, 4], [0, 1, 2, 3]) == 0
    assert steps(plan, [0], [0]) == 0
    assert steps(plan, [0, 2], [0, 1], n_steps=-1) == BAD_ARGUMENT
    assert steps(plan, [0, 2], [0, 1], kind=-1) == BAD_ARGUMENT
    assert steps(plan, [0, 2], [0, 1], kind=1000) == BAD_ARGUMENT
    assert steps(plan, [-1, 2], [0, 1]) == BAD_ARGUMENT
    assert steps(plan, [0, 2, 1], [0, 1]) == BAD_ARGUMENT
    assert steps(plan, [0, 5], [0, 1, 2, 3, 0]) == BAD_ARGUMENT
    assert steps(plan, [0, 2], [0, 4]) == ROW_OUT_OF_RANGE
    assert steps(plan, [0, 2], [-1, 0]) == ROW_OUT_OF_RANGE
    coefficients = ffi.from_buffer("double *", np.zeros(4))
    assert lib.pymlp_update(plan, optimizer(-1), numbers(6), numbers(6), numbers(2, 6), coefficients) == BAD_ARGUMENT


def test_a_loss_that_python_computes_is_no_work_for_c() -> None:
    plan = made({}, loss=rule(kind=lib.pymlp_loss(b"custom")))
    X, gradient = numbers(4, 2), numbers(6)
    code = lib.pymlp_loss_gradient(plan, numbers(6), X, ffi.NULL, X, ffi.NULL, 4, gradient, ffi.new("double *"), -1, 0)
    assert code == BAD_ARGUMENT
    assert steps(plan, [0, 2], [0, 1]) == BAD_ARGUMENT


def test_sparse_rows_that_no_dense_layer_reads() -> None:
    # a residual reads the inputs as well
    plan = made({}, {"source": 1}, RESIDUAL | {"source": 2}, {"source": 3})
    rows, out, gradient, loss = sparse_rows(), numbers(4, 2), numbers(18), ffi.new("double *")
    params = numbers(18)
    assert lib.pymlp_forward(plan, params, ffi.NULL, rows, 3, out, -1, 0) == BAD_ARGUMENT
    assert lib.pymlp_backward(plan, params, ffi.NULL, rows, 3, out, gradient, ffi.NULL, -1, 0) == BAD_ARGUMENT
    code = lib.pymlp_loss_gradient(plan, params, ffi.NULL, rows, out, ffi.NULL, 3, gradient, loss, -1, 0)
    assert code == BAD_ARGUMENT
    layers, predictor = table({}, {"source": 1}, RESIDUAL | {"source": 2}, {"source": 3}), ffi.new("pymlp_predictor **")
    assert lib.pymlp_predictor_create(predictor, ISA, 32, layers, 4, rule(), params, 0, 1, 0) == 0
    assert lib.pymlp_predictor_predict_sparse(predictor[0], rows, 3, out) == BAD_ARGUMENT
    lib.pymlp_predictor_free(predictor[0])
    # and of what dense layers read, no gradient to the inputs is offered
    plan = made({})
    assert lib.pymlp_backward(plan, params, ffi.NULL, rows, 3, out, gradient, out, -1, 0) == BAD_ARGUMENT


def test_single_functions_and_measurements() -> None:
    z = numbers(4)
    assert lib.pymlp_evaluate(ISA, 32, b"log", 0, z, 4, z) == 0
    assert lib.pymlp_evaluate(ISA, 32, b"log", 1, z, 4, z) == BAD_ARGUMENT
    assert lib.pymlp_evaluate(ISA, 32, b"nothing", 0, z, 4, z) == BAD_ARGUMENT
    assert lib.pymlp_evaluate(ISA, 32, b"softmax", 0, z, 4, z) == BAD_ARGUMENT
    assert lib.pymlp_evaluate(ISA, 32, b"tanh", 0, z, -1, z) == BAD_ARGUMENT
    assert lib.pymlp_evaluate(b"vax", 32, b"tanh", 0, z, 4, z) == NO_INSTRUCTION_SET
    assert lib.pymlp_measure_peak(b"vax", 32, 1, 0.001) == 0
    assert lib.pymlp_measure_tile(b"vax", 32, 8, 0.001) == 0
    for depth in (0, 513):
        assert lib.pymlp_measure_tile(ISA, 32, depth, 0.001) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_cosine_of_what_is_no_number_is_none(dtype: str) -> None:
    z = np.array([np.inf, -np.inf, np.nan, np.finfo(dtype).max, -np.finfo(dtype).max, 1e10, -1e10, 0], dtype)
    out = np.empty_like(z)
    code = lib.pymlp_evaluate(ISA, 8 * z.itemsize, b"cosine", 0, ffi.from_buffer(z), len(z), ffi.from_buffer(out))
    assert code == 0
    assert np.isnan(out[:3]).all()
    np.testing.assert_allclose(out[3:], np.cos(z[3:].astype("float64")), rtol=1e-5)


def test_every_code_has_a_text_of_its_own() -> None:
    texts = {ffi.string(lib.pymlp_error_text(code)) for code in range(9)}
    assert len(texts) == 9
    assert ffi.string(lib.pymlp_error_text(9)) == ffi.string(lib.pymlp_error_text(-1)) == b"unknown error code"


def test_names_that_no_registry_has() -> None:
    for find in (lib.pymlp_layer_kind, lib.pymlp_activation, lib.pymlp_loss, lib.pymlp_optimizer_kind):
        assert find(b"") == find(b"nothing") == -1
