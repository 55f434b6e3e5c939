"""JAX: all steps of a run in one jitted ``lax.scan``, with Adam written out, data already on the device.

That is JAX at its best: no Python between the steps.  Since version 0.4.32 its CPU runtime is known to be slower on
small programs (issue 26145 of jax-ml/jax).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from training_run import RATE, TrainingRun

from pymlp import Network
from pymlp.optimizers import Adam

Layers = list[tuple[jax.Array, jax.Array]]
ADAM = Adam()


def _layers(network: Network, params: np.ndarray) -> Layers:
    pairs = zip(network.weights(params), network.biases(params), strict=True)
    # a copy: the jitted run gives its arguments' memory away
    return [(jnp.array(weight), jnp.array(bias)) for weight, bias in pairs]


def _scores(layers: Layers, X: jax.Array) -> jax.Array:
    for weight, bias in layers[:-1]:
        X = jax.nn.relu(X @ weight + bias)
    weight, bias = layers[-1]
    return X @ weight + bias


def _loss(layers: Layers, X: jax.Array, y: jax.Array, name: str) -> jax.Array:
    scores = _scores(layers, X)
    if name == "log_loss":
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(scores), axis=1))
    if name == "binary_log_loss":
        return jnp.mean(jnp.sum(jax.nn.softplus(scores) - y * scores, axis=1))
    return 0.5 * jnp.mean((scores - y) ** 2)


@partial(jax.jit, static_argnames="loss_name", donate_argnums=0)
def _train(state: tuple, X: jax.Array, y: jax.Array, batches: jax.Array, loss_name: str) -> tuple[tuple, jax.Array]:
    def step(state: tuple, rows: jax.Array) -> tuple[tuple, jax.Array]:
        layers, first, second, count = state
        loss, gradient = jax.value_and_grad(_loss)(layers, X[rows], y[rows], loss_name)
        count += 1
        size = RATE * jnp.sqrt(1 - ADAM.beta_2**count) / (1 - ADAM.beta_1**count)
        first = jax.tree.map(lambda m, g: ADAM.beta_1 * m + (1 - ADAM.beta_1) * g, first, gradient)
        second = jax.tree.map(lambda v, g: ADAM.beta_2 * v + (1 - ADAM.beta_2) * g * g, second, gradient)
        layers = jax.tree.map(lambda p, m, v: p - size * m / (jnp.sqrt(v) + ADAM.epsilon), layers, first, second)
        return (layers, first, second, count), loss

    return jax.lax.scan(step, state, batches)


class JaxTraining:
    """Adam steps in float32."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run
        self._data = jax.device_put((run.X, run.y, run.batches.astype(np.int32)))
        self._state: Any = None
        self.rewind()

    def rewind(self) -> None:
        """Go back to the first parameters."""
        layers = _layers(self.run.network, self.run.first_params)
        first, second = (jax.tree.map(jnp.zeros_like, layers) for _ in range(2))
        self._state = jax.block_until_ready((layers, first, second, jnp.zeros((), jnp.int32)))

    def take(self) -> None:
        """Take the run's steps and keep their losses; compiles when a number of steps is new."""
        self._state, losses = _train(self._state, *self._data, loss_name=self.run.network.loss)
        self.run.losses = np.asarray(losses, np.float64)
        # the losses may be there before the last update
        jax.block_until_ready(self._state)


def forward(network: Network, params: np.ndarray) -> Callable[[np.ndarray, np.ndarray], None]:
    """Scores of a jitted function: a function of X (rows, inputs) and `out` (rows, outputs)."""
    layers = _layers(network, params)
    scores = jax.jit(_scores)

    def run(X: np.ndarray, out: np.ndarray) -> None:
        out[...] = scores(layers, X)

    return run
