"""PyTorch as its users write it: ``nn.Sequential``, ``torch.optim.Adam(fused=True)``, data already in tensors.

The fused Adam is the fastest of PyTorch's three here (the others take 3 to 40 % longer a step).  bf16 is
``torch.autocast``: products in bfloat16, parameters and optimizer in float32; converting the whole model is 4 to 10 %
faster but lets small updates vanish.  Not compiled: ``torch.compile`` wants a C++ compiler and half a minute.  On AMD
processors its float32 products go through an MKL that takes a slow path there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from training_run import RATE, TrainingRun

from pymlp import Network


def _model(network: Network, params: np.ndarray) -> torch.nn.Sequential:
    """The network's scores: relu between linear layers, no output activation."""
    layers: list[torch.nn.Module] = []
    for weight, bias in zip(network.weights(params), network.biases(params), strict=True):
        linear = torch.nn.Linear(*weight.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight.T))
            linear.bias.copy_(torch.from_numpy(bias))
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def _loss(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    functional = torch.nn.functional
    if name == "log_loss":
        return functional.cross_entropy
    if name == "binary_log_loss":
        # summed over the outputs, a mean over the rows
        return lambda scores, y: y.shape[1] * functional.binary_cross_entropy_with_logits(scores, y)
    return lambda scores, y: 0.5 * functional.mse_loss(scores, y)


class TorchTraining:
    """Adam steps in float32, or with products in bfloat16."""

    def __init__(self, run: TrainingRun, bfloat16: bool = False) -> None:
        self.run = run
        self._bfloat16 = bfloat16
        self._X = torch.from_numpy(run.X)
        # log loss takes class numbers
        self._y = torch.from_numpy(run.y.argmax(axis=1) if run.network.loss == "log_loss" else run.y)
        self._batches = torch.from_numpy(run.batches).unbind()
        self._loss = _loss(run.network.loss)
        self.rewind()

    def rewind(self) -> None:
        """Go back to the first parameters."""
        self._model = _model(self.run.network, self.run.first_params)
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=RATE, fused=True)

    def take(self) -> None:
        """Take the run's steps and keep their losses."""
        losses = []
        for rows in self._batches:
            self._optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16) if self._bfloat16 else nullcontext():
                scores = self._model(self._X[rows])
            loss = self._loss(scores.float(), self._y[rows])
            loss.backward()
            self._optimizer.step()
            losses.append(loss.detach())
        self.run.losses = torch.stack(losses).double().numpy()


def forward(network: Network, params: np.ndarray) -> Callable[[np.ndarray, np.ndarray], None]:
    """Scores in inference mode: a function of X (rows, inputs) and `out` (rows, outputs)."""
    model = _model(network, params)

    def run(X: np.ndarray, out: np.ndarray) -> None:
        with torch.inference_mode():
            out[...] = model(torch.from_numpy(X)).numpy()

    return run


def jacobian(network: Network, params: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Derivatives of the scores: a function of X (rows, inputs) that gives (rows, outputs, inputs)."""
    by_row = torch.func.vmap(torch.func.jacrev(_model(network, params)))

    def run(X: np.ndarray) -> np.ndarray:
        return by_row(torch.from_numpy(X)).detach().numpy()

    return run
