"""Optimizers of the Numba backend: one pass over the vector; what each computes is defined in `pymlp.optimizers`."""

from __future__ import annotations

import numpy as np
from numba import njit

from pymlp.backends.numba_functions import OPTIONS
from pymlp.optimizers import SGD, Optimizer

# SGD's two kinds of momentum, then Adam with or without decay
PLAIN_MOMENTUM, NESTEROV, ADAM = range(3)


@njit(**OPTIONS)
def momentum_step(params, gradient, velocity, momentum, size, nesterov):
    """One step of SGD on a piece of the vector."""
    for i in range(len(params)):
        v = momentum * velocity[i] - size * gradient[i]
        velocity[i] = v
        params[i] += momentum * v - size * gradient[i] if nesterov else v


@njit(**OPTIONS)
def adam_step(params, gradient, first, second, constants, size, decay):
    """One step of Adam on a piece of the vector; `constants` is beta_1, 1 - beta_1, beta_2, 1 - beta_2, epsilon."""
    beta_1, rest_1, beta_2, rest_2, epsilon = constants[0], constants[1], constants[2], constants[3], constants[4]
    for i in range(len(params)):
        g = gradient[i]
        m = beta_1 * first[i] + rest_1 * g
        v = beta_2 * second[i] + rest_2 * (g * g)
        first[i] = m
        second[i] = v
        p = params[i]
        p -= decay * p
        params[i] = p - size * m / (np.sqrt(v) + epsilon)


@njit(**OPTIONS)
def optimizer_step(pieces, kind, constants, size, decay, params, gradient, slots):
    """One step in place on the vector whose weights and biases `pieces` names; the biases do not decay.

    `size` and `decay` are of the vector's dtype, `constants` as `optimizer_constants` makes them.
    """
    zero = decay * params.dtype.type(0.0)
    for layer in range(len(pieces)):
        for part in range(2):
            first, last = pieces[layer, 2 * part], pieces[layer, 2 * part + 1]
            p, g, s = params[first:last], gradient[first:last], slots[0, first:last]
            if kind == ADAM:
                adam_step(p, g, s, slots[1, first:last], constants, size, decay if part == 0 else zero)
            else:
                momentum_step(p, g, s, constants[0], size, kind == NESTEROV)


def optimizer_constants(optimizer: Optimizer, dtype: str) -> tuple[int, np.ndarray]:
    """Code of an optimizer and its own numbers in the network's dtype, as `optimizer_step` takes them."""
    if isinstance(optimizer, SGD):
        return NESTEROV if optimizer.nesterov else PLAIN_MOMENTUM, np.array([optimizer.momentum], dtype)
    beta_1, beta_2 = optimizer.beta_1, optimizer.beta_2
    return ADAM, np.array([beta_1, 1.0 - beta_1, beta_2, 1.0 - beta_2, optimizer.epsilon], dtype)
