"""The order of an epoch's rows: every backend draws it as NumPy does, number for number."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matrix import ENGINES

from pymlp import backends
from pymlp.network import Network


class Reversed(np.random.RandomState):
    def shuffle(self, x: np.ndarray) -> None:
        x[:] = x[::-1].copy()


SOURCES = {
    "RandomState": lambda: np.random.RandomState(7),
    "RandomState on other bits": lambda: np.random.RandomState(np.random.PCG64(7)),
    "Generator": lambda: np.random.default_rng(7),
    "a class of the user's": lambda: Reversed(7),
}


@pytest.fixture(params=ENGINES, ids=str)
def plan(request: pytest.FixtureRequest) -> backends.Plan:
    return request.param.plan(Network.from_widths((1, 1)), 1)


@pytest.mark.parametrize("kind", SOURCES)
# the ends of the ranges within which a draw is masked to the same number of bits
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 63, 64, 65, 95, 96, 97, 1000, 65537, 200_003])
def test_order_and_draws_are_numpys(plan: backends.Plan, kind: str, rows: int) -> None:
    ours, theirs = SOURCES[kind](), SOURCES[kind]()
    # several epochs at once go on from each other
    first, orders = np.arange(rows)[np.newaxis], np.zeros((3, rows), np.int64)
    plan.shuffle(first, ours)
    orders[0] = first[0]
    plan.shuffle(orders, ours)
    expected = np.arange(rows)
    for order in (*first, *orders):
        # as scikit-learn does it
        positions = np.arange(rows)
        theirs.shuffle(positions)
        expected = expected[positions]
        np.testing.assert_array_equal(order, expected)
    # the next draw, of whatever kind, is the same too
    assert ours.normal() == theirs.normal()


@pytest.mark.skipif("c" not in backends.available(), reason="only the C engine shuffles in pieces")
@pytest.mark.parametrize("at_once", [1, 2, 3, 64, 65, 999])
def test_the_order_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    module = backends.get("c")
    monkeypatch.setattr(module, "SHUFFLED_AT_ONCE", at_once)
    plan = module.Plan(Network.from_widths((1, 1)), 1)
    for rows in (1, 2, 63, 64, 65, 1000):
        ours, theirs, orders = np.random.RandomState(3), np.random.RandomState(3), np.tile(np.arange(rows), (2, 1))
        plan.shuffle(orders, ours)
        np.testing.assert_array_equal(orders[0], theirs.permutation(rows))
        np.testing.assert_array_equal(orders[1], orders[0][theirs.permutation(rows)])
        assert ours.normal() == theirs.normal()


@pytest.mark.skipif("c" not in backends.available(), reason="only the C engine asks where a generator is")
def test_without_the_module_of_direct_calls() -> None:
    code = (
        "import sys; sys.modules['pymlp._call'] = None\n"
        "import numpy as np, pymlp\n"
        "from pymlp import backends\n"
        "plan = backends.get('c').Plan(pymlp.Network.from_widths((1, 1)), 1)\n"
        "for bits in (np.random.MT19937, np.random.PCG64):\n"
        "    ours, theirs = np.random.RandomState(bits(7)), np.random.RandomState(bits(7))\n"
        "    orders = np.arange(1000)[np.newaxis]\n"
        "    plan.shuffle(orders, ours)\n"
        "    assert np.array_equal(orders[0], theirs.permutation(1000)) and ours.normal() == theirs.normal()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_no_generator_has_no_place() -> None:
    call = pytest.importorskip("pymlp._call", reason="the module of direct calls is not built")
    generator = np.random.PCG64(0)
    found = generator.ctypes.bit_generator.value, generator.ctypes.state_address
    assert call.generator_addresses(generator) == found
    for other, error in ((3, AttributeError), (SimpleNamespace(capsule=3), ValueError)):
        with pytest.raises(error):
            call.generator_addresses(other)


def test_the_global_state_is_drawn_from(plan: backends.Plan) -> None:
    source = np.random.mtrand._rand
    state = source.get_state()
    try:
        source.seed(5)
        orders = np.arange(100)[np.newaxis]
        plan.shuffle(orders, source)
        after = source.random_sample()
    finally:
        source.set_state(state)
    expected = np.random.RandomState(5)
    np.testing.assert_array_equal(orders[0], expected.permutation(100))
    assert after == expected.random_sample()


@pytest.mark.skipif("c" not in backends.available(), reason="only the C engine takes what it is given for what it asks")
@pytest.mark.parametrize("orders", [np.zeros((2, 4), "int32"), np.zeros((2, 8), int)[:, ::2], np.arange(8), [[0, 1]]])
def test_orders_of_another_form_are_refused(orders: Any) -> None:
    plan = backends.get("c").Plan(Network.from_widths((1, 1)), 1)
    with pytest.raises(ValueError, match="orders must be a C-contiguous int64 array"):
        plan.shuffle(orders, np.random.RandomState(0))
