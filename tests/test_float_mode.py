"""The engine works in its own floating-point mode (nearest, subnormal numbers as 0) and leaves the caller's as it was.

The control word of this thread is read and set through the C library's `fegetenv` and `fesetenv`.
"""

import ctypes
import hashlib
import platform
import subprocess
import sys

import numpy as np
import pytest

from pymlp import Network, backends
from pymlp.optimizers import Adam, new_slots

pytestmark = pytest.mark.skipif("c" not in backends.available(), reason=f"no C engine: {backends.missing_reason('c')}")
if "c" in backends.available():
    from pymlp.backends import c

# per machine: where the C library keeps the control word in its fenv_t (words of 4 bytes), its status flags, and a mode
# that no one has by accident: towards plus infinity, results flushed to 0 but subnormal operands as they are (x86)
CONTROL_WORDS = {"x86_64": (7, 0x3F, 0xDF80), "aarch64": (0, 0, 0x400000)}
WIDTHS = (9, 33, 17, 5)
ROWS = 60


class ControlWord:
    """The control word of the calling thread."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._environment = (ctypes.c_uint32 * 16)()
        self._at, self._flags, self.odd_mode = CONTROL_WORDS[platform.machine()]

    def read(self, flags: bool = False) -> int:
        self._library.fegetenv(self._environment)
        word = self._environment[self._at]
        return word if flags else word & ~self._flags

    def write(self, word: int) -> None:
        self._library.fegetenv(self._environment)
        self._environment[self._at] = word
        self._library.fesetenv(self._environment)


@pytest.fixture
def control_word():
    if sys.platform != "linux" or platform.machine() not in CONTROL_WORDS:
        pytest.skip("the place of the control word is known for Linux on x86-64 and AArch64 only")
    word = ControlWord()
    before = word.read(flags=True)
    yield word
    word.write(before)


class Verbs:
    """Every verb of a plan on fixed data, by name, and calls that fail or end early."""

    def __init__(self, n_threads: int) -> None:
        draw = np.random.RandomState(3)
        network = Network.from_widths(WIDTHS, "gelu", loss="log_loss", dtype="float32", l2=1e-3)
        self.plan = c.Plan(network, ROWS, n_threads)
        self.params = network.initial_params(1)
        self.slots = new_slots(Adam(), network.n_parameters, "float32")
        self.X = draw.standard_normal((ROWS, WIDTHS[0])).astype("float32")
        self.y = np.eye(WIDTHS[-1], dtype="float32")[draw.randint(0, WIDTHS[-1], ROWS)]
        self.order = np.arange(ROWS)
        self.starts = np.array([0, 20, 40, 60])
        self.losses = np.empty(3)
        self.gradient, self.x_gradient = np.empty_like(self.params), np.empty_like(self.X)
        self.out = np.empty_like(self.y)

    def forward(self):
        self.plan.forward(self.params, self.X, self.out)

    def backward(self):
        self.plan.backward(self.params, self.X, self.y, self.gradient, self.x_gradient)

    def loss_gradient(self):
        self.plan.loss_gradient(self.params, self.X, self.y, None, self.gradient)

    def loss_gradient_without_weight(self):
        self.plan.loss_gradient(self.params, self.X, self.y, np.zeros(ROWS, "float32"), self.gradient)

    def update(self):
        self.plan.update(Adam(), self.params, self.gradient, self.slots, 0, 0.01)

    def train_steps(self, order=None):
        self.plan.train_steps(
            Adam(), self.params, self.slots, 0, self.X, self.y, None, self.order if order is None else order,
            self.starts, np.full(3, 0.01), self.losses,
        )  # fmt: skip

    def train_steps_without_rows(self):
        self.plan.train_steps(
            Adam(), self.params, self.slots, 0, self.X, self.y, None, self.order, np.zeros(4, np.int64),
            np.full(3, 0.01), self.losses,
        )  # fmt: skip

    def train_steps_row_out_of_range(self):
        with pytest.raises(IndexError):
            self.train_steps(self.order + 1)

    def stopped_train_steps(self):
        self.plan.stop()
        with pytest.raises(backends.StoppedError):
            self.train_steps()

    def stopped_forward(self):
        self.plan.stop()
        with pytest.raises(backends.StoppedError):
            self.forward()

    def stopped_loss_gradient(self):
        self.plan.stop()
        with pytest.raises(backends.StoppedError):
            self.loss_gradient()

    def evaluate(self):
        c.evaluate("tanh", self.X)

    def evaluate_the_unknown(self):
        with pytest.raises(ValueError, match="argument"):
            c.evaluate("softmax", self.X)


CALLS = [name for name in vars(Verbs) if not name.startswith("_")]


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("name", CALLS)
def test_the_control_word_is_restored(control_word, name, n_threads):
    verbs = Verbs(n_threads)
    control_word.write(control_word.odd_mode)
    getattr(verbs, name)()
    assert hex(control_word.read()) == hex(control_word.odd_mode)


def test_flags_that_the_engine_raises_stay_inside(control_word):
    z = np.full(64, 1e30, "float32")
    out = np.empty_like(z)
    # nothing but the call may compute between the two readings
    arguments = (c.ffi.new("char[]", b"exp"), 0, c.ffi.from_buffer(z), z.size, c.ffi.from_buffer(out))
    isa = c.ffi.new("char[]", c.instruction_sets()[0].encode())
    control_word.write(control_word.odd_mode)
    before = control_word.read(flags=True)
    code = c.lib.pymlp_evaluate(isa, 32, *arguments)
    after = control_word.read(flags=True)
    assert (hex(after), code) == (hex(before), 0)
    assert np.isinf(out).all()


def test_subnormal_arithmetic_of_the_caller_is_as_before():
    Verbs(2).train_steps()
    assert np.float32(1e-40) * np.float32(1) > 0
    assert np.array([1e-310]) * np.array([1.0]) > 0


@pytest.mark.parametrize("n_threads", [1, 3])
def test_subnormal_inputs_train_like_zeros(n_threads):
    subnormal, zero = Verbs(n_threads), Verbs(n_threads)
    subnormal.X *= np.float32(1e-39)
    assert subnormal.X.all()
    zero.X[:] = 0
    for verbs in (subnormal, zero):
        verbs.train_steps()
    assert subnormal.params.tobytes() + subnormal.losses.tobytes() == zero.params.tobytes() + zero.losses.tobytes()


@pytest.mark.parametrize("n_threads", [1, 3])
def test_results_do_not_depend_on_the_callers_mode(control_word, n_threads):
    usual, found = control_word.read(), []
    for mode in (usual, control_word.odd_mode):
        verbs = Verbs(n_threads)
        for name in ("forward", "backward", "loss_gradient"):
            control_word.write(mode)
            # what the mode does outside
            assert (np.float32(1) + np.float32(1e-9) > 1) == (mode != usual)
            getattr(verbs, name)()
            control_word.write(usual)
        found.append(verbs.out.tobytes() + verbs.gradient.tobytes() + verbs.x_gradient.tobytes())
    assert found[0] == found[1]


# a thread inherits the mode of the thread that made it: the pool's threads are made in the odd one
INHERITING = """
import hashlib, sys
from test_float_mode import ControlWord, Verbs

word = ControlWord()
before = word.read(flags=True)
if sys.argv[1] == "odd":
    word.write(word.odd_mode)
Verbs(3).forward()
word.write(before)
verbs = Verbs(3)
verbs.train_steps()
print(hashlib.sha256(verbs.params.tobytes() + verbs.losses.tobytes()).hexdigest())
"""


def test_threads_made_in_another_mode_compute_the_same_bits(control_word, pytestconfig):
    verbs = Verbs(3)
    verbs.train_steps()
    expected = hashlib.sha256(verbs.params.tobytes() + verbs.losses.tobytes()).hexdigest()
    for mode in ("odd", "usual"):
        run = subprocess.run(
            [sys.executable, "-c", INHERITING, mode],
            capture_output=True,
            text=True,
            check=True,
            cwd=pytestconfig.rootpath / "tests",
        )
        assert run.stdout.strip() == expected, mode
