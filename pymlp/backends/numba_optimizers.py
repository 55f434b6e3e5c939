"""Optimizers of the Numba backend: one pass over the vector; what each computes is defined in `pymlp.optimizers`.

SGD and Adam, with decay, are compiled by themselves for the networks that need nothing else: `limits` is None then, and
Numba leaves out what follows such a condition.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pymlp.backends.numba_functions import OPTIONS
from pymlp.backends.numba_kinds import SUM_OPTIONS
from pymlp.network import Network
from pymlp.optimizers import AVERAGING, DECAY, SECOND_SIZE, SIZE, Optimizer

OPTIMIZER_CODES = {"sgd": 0, "adam": 1, "adamw": 1, "nadam": 2, "rmsprop": 3, "lion": 4, "rprop": 5}
SGD, ADAM, NADAM, RMSPROP, LION, RPROP = range(6)

# columns of the table of pieces: where one array of parameters lies in the vector, and of a matrix of weights how many
# numbers a row of it is stored in (of other arrays 0)
START, STOP, WIDTH = range(3)


@njit(**OPTIONS)
def momentum_step(params, gradient, velocity, momentum, size, nesterov):
    """One step of SGD on a piece of the vector."""
    for i in range(len(params)):
        v = momentum * velocity[i] - size * gradient[i]
        velocity[i] = v
        params[i] += momentum * v - size * gradient[i] if nesterov else v


@njit(**OPTIONS)
def adam_step(params, gradient, first, second, constants, size):
    """One step of Adam on a piece of the vector."""
    beta_1, rest_1, beta_2, rest_2 = constants[0, 0], constants[0, 1], constants[1, 0], constants[1, 1]
    epsilon = constants[2, 0]
    for i in range(len(params)):
        g = gradient[i]
        m = beta_1 * first[i] + rest_1 * g
        v = beta_2 * second[i] + rest_2 * (g * g)
        first[i] = m
        second[i] = v
        params[i] -= size * m / (np.sqrt(v) + epsilon)


@njit(**OPTIONS)
def nadam_step(params, gradient, first, second, constants, size, second_size):
    """One step of NAdam on a piece of the vector."""
    beta_1, rest_1, beta_2, rest_2 = constants[0, 0], constants[0, 1], constants[1, 0], constants[1, 1]
    epsilon = constants[2, 0]
    for i in range(len(params)):
        g = gradient[i]
        m = beta_1 * first[i] + rest_1 * g
        v = beta_2 * second[i] + rest_2 * (g * g)
        first[i] = m
        second[i] = v
        params[i] -= (size * m + second_size * g) / (np.sqrt(v) + epsilon)


@njit(**OPTIONS)
def rmsprop_step(params, gradient, velocity, second, constants, size):
    """One step of RMSprop on a piece of the vector."""
    rho, rest, momentum, epsilon = constants[0, 0], constants[0, 1], constants[1, 0], constants[2, 0]
    for i in range(len(params)):
        g = gradient[i]
        v = rho * second[i] + rest * (g * g)
        second[i] = v
        velocity[i] = momentum * velocity[i] + size * g / (np.sqrt(v) + epsilon)
        params[i] -= velocity[i]


@njit(**OPTIONS)
def lion_step(params, gradient, average, constants, size):
    """One step of Lion on a piece of the vector."""
    beta_1, rest_1, beta_2, rest_2 = constants[0, 0], constants[0, 1], constants[1, 0], constants[1, 1]
    for i in range(len(params)):
        g, m = gradient[i], average[i]
        params[i] -= size * np.sign(beta_1 * m + rest_1 * g)
        average[i] = beta_2 * m + rest_2 * g


@njit(**OPTIONS)
def rprop_step(params, gradient, before, sizes, constants, size):
    """One step of Rprop on a piece of the vector."""
    shrink, grow, least, most = constants[0, 0], constants[1, 0], constants[2, 0], constants[3, 0]
    zero = params.dtype.type(0.0)
    for i in range(len(params)):
        g, length = gradient[i], sizes[i]
        agreement = np.sign(before[i]) * np.sign(g)
        if agreement > zero:
            length = min(length * grow, most)
        elif agreement < zero:
            length = max(length * shrink, least)
            g = zero
        # a step size of 0 has not been set yet
        length = size if sizes[i] == zero else length
        sizes[i] = length
        before[i] = g
        params[i] -= np.sign(g) * length


@njit(**OPTIONS)
def shrink(params, decay):
    """Decoupled weight decay of a piece."""
    for i in range(len(params)):
        params[i] -= decay * params[i]


@njit(**SUM_OPTIONS)
def clip(gradient, largest_value, largest_norm):
    """Clip the gradient in place, by value and then by norm; 0 stands for no limit."""
    if largest_value > 0.0:
        limit = gradient.dtype.type(largest_value)
        for i in range(len(gradient)):
            # conditions that let NaN through
            value = limit if gradient[i] > limit else gradient[i]
            gradient[i] = -limit if value < -limit else value
    if largest_norm > 0.0:
        squares = 0.0
        for i in range(len(gradient)):
            squares += np.float64(gradient[i]) * np.float64(gradient[i])
        norm = np.sqrt(squares)
        if norm > largest_norm:
            factor = gradient.dtype.type(largest_norm / norm)
            for i in range(len(gradient)):
                gradient[i] *= factor


@njit(**OPTIONS)
def limit_norms(W, columns, largest):
    """Scale the columns of W, flat with so many numbers a row, down to a norm of at most `largest`."""
    factors = np.zeros(columns, W.dtype)
    for row in range(0, len(W), columns):
        for j in range(columns):
            factors[j] += W[row + j] * W[row + j]
    for j in range(columns):
        norm = np.sqrt(factors[j])
        factors[j] = W.dtype.type(largest) / norm if norm > W.dtype.type(largest) else W.dtype.type(1.0)
    for row in range(0, len(W), columns):
        for j in range(columns):
            W[row + j] *= factors[j]


@njit(**OPTIONS)
def further_step(kind, constants, numbers, params, gradient, slot_1, slot_2):
    """One step of an optimizer that is neither SGD nor Adam on a piece of the vector."""
    size = numbers[SIZE]
    if kind == NADAM:
        nadam_step(params, gradient, slot_1, slot_2, constants, size, numbers[SECOND_SIZE])
    elif kind == RMSPROP:
        rmsprop_step(params, gradient, slot_1, slot_2, constants, size)
    elif kind == LION:
        lion_step(params, gradient, slot_1, constants, size)
    elif kind == RPROP:
        rprop_step(params, gradient, slot_1, slot_2, constants, size)


@njit(**OPTIONS)
def optimizer_step(pieces, kind, constants, limits, numbers, params, gradient, slots):
    """One step in place on the vector whose arrays `pieces` names; only the weights decay.  Clips `gradient` in place.

    `constants` are as `optimizer_constants` makes them, `limits` as `optimizer_limits` does, or None where nothing is
    limited or averaged and the optimizer is SGD or Adam.  `numbers` are a row of `Optimizer.coefficients`, in the
    vector's dtype.
    """
    if limits is not None:
        clip(gradient, limits[0], limits[1])
    for piece in range(len(pieces)):
        first, last = pieces[piece, START], pieces[piece, STOP]
        p, g, s = params[first:last], gradient[first:last], slots[0, first:last]
        if pieces[piece, WIDTH] and numbers[DECAY] != p.dtype.type(0.0):
            shrink(p, numbers[DECAY])
        if kind == ADAM:
            adam_step(p, g, s, slots[1, first:last], constants, numbers[SIZE])
        elif kind == SGD:
            momentum_step(p, g, s, constants[0, 0], numbers[SIZE], constants[1, 0] != p.dtype.type(0.0))
        elif limits is not None:
            # where there is one slot only, the second is not read
            further_step(kind, constants, numbers, p, g, s, slots[min(1, len(slots) - 1), first:last])
        if limits is not None and limits[3][piece] > 0.0:
            limit_norms(p, pieces[piece, WIDTH], limits[3][piece])
    if limits is not None and limits[2]:
        average = slots[len(slots) - 1]
        for i in range(len(params)):
            average[i] += numbers[AVERAGING] * (params[i] - average[i])


def optimizer_constants(optimizer: Optimizer, dtype: str) -> np.ndarray:
    """The optimizer's own numbers and what each lacks to 1, in the network's dtype: (numbers, 2)."""
    return np.array([(number, 1.0 - number) for number in optimizer.constants], dtype)


def optimizer_limits(optimizer: Optimizer, network: Network) -> tuple[float, float, bool, np.ndarray]:
    """Largest value and norm of the gradient (0: none), whether to average, largest norm of each piece's columns."""
    largest = [row.max_norm * (number == 0) for row in network.table for number in range(len(row.parts))]
    averages = optimizer.average is not None
    return float(optimizer.clip_value or 0), float(optimizer.clip_norm or 0), averages, np.array(largest, np.float64)


def is_simple_step(optimizer: Optimizer, network: Network) -> bool:
    """Whether a step needs no `optimizer_limits`."""
    asked = optimizer.clip_value, optimizer.clip_norm, optimizer.average
    limited = asked != (None, None, None) or any(row.max_norm for row in network.table)
    return OPTIMIZER_CODES[optimizer.name] in (SGD, ADAM) and not limited
