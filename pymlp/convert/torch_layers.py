"""Networks as modules of PyTorch, and the layers that it has not.

This file alone imports PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from pymlp.functions import LEAST_DEVIATION, PROBABILITIES
from pymlp.portable import PortableModel

# above it torch.nn.Softplus gives x itself: its own 20 would cost digits of float64
SOFTPLUS_THRESHOLD = 50.0


def module_of(found: PortableModel, *, logits: bool, threshold: float | None) -> nn.Sequential:
    """The module that computes what `found` does; see `pymlp.convert.to_torch`."""
    network, dtype = found.network, getattr(torch, found.network.dtype)
    modules: list[nn.Module] = [] if threshold is None else [Above(threshold)]
    starts: dict[int, int] = {}
    for row, arrays in zip(network.table, network.parts(found.params), strict=True):
        starts.setdefault(row.layer, len(modules))
        modules += _KINDS[row.kind](row, arrays, dtype, network.loss_function.group)
        if row.kind == "add":
            start = starts[row.layer]
            modules[start:] = [Residual(nn.Sequential(*modules[start:]))]
    if logits and network.output_activation in PROBABILITIES:
        modules.pop()
    if found.output_scale is not None:
        modules.append(Scaling(*(torch.tensor(numbers, dtype=dtype) for numbers in found.output_scale)))
    return nn.Sequential(*modules).eval()


def _activation(name: str, group: int) -> list[nn.Module]:
    return [] if name == "identity" else [ACTIVATIONS[name](group)]


def _filled(module: nn.Module, *arrays: np.ndarray) -> nn.Module:
    with torch.no_grad():
        for parameter, array in zip((module.weight, module.bias), arrays, strict=True):
            parameter.copy_(torch.from_numpy(array.copy()))
    return module


def _dense(row: Any, arrays: list[np.ndarray], dtype: torch.dtype, group: int) -> list[nn.Module]:
    # without the numbers that it would draw
    linear = skip_init(nn.Linear, row.inputs, row.outputs, dtype=dtype)
    return [_filled(linear, arrays[0].T, arrays[1]), *_activation(row.activation, group)]


def _layer_norm(row: Any, arrays: list[np.ndarray], dtype: torch.dtype, group: int) -> list[nn.Module]:
    norm = skip_init(nn.LayerNorm, row.outputs, eps=row.setting, dtype=dtype)
    return [_filled(norm, *arrays), *_activation(row.activation, group)]


def _parametric(row: Any, arrays: list[np.ndarray], dtype: torch.dtype, group: int) -> list[nn.Module]:
    activation = _activation(row.activation, group) or [nn.Identity()]
    return [Parametric(activation[0], torch.from_numpy(arrays[0].copy()))]


class Above(nn.Module):
    """1 for what lies above a threshold, else 0.

    Parameters
    ----------
    threshold : float
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Shape as x."""
        return (x > self.threshold).to(x.dtype)

    def extra_repr(self) -> str:
        """What a printed module says of it."""
        return f"{self.threshold}"


class Cosine(nn.Module):
    """``cos(x)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape as x."""
        return torch.cos(x)


class Square(nn.Module):
    """``x ** 2``."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape as x."""
        return torch.square(x)


class Exp(nn.Module):
    """``exp(x)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape as x."""
        return torch.exp(x)


class Ascending(nn.Module):
    """In each group of columns the first is itself, and each of the others lies a positive step above the one before.

    Parameters
    ----------
    group : int
        Columns of a group.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, columns) as x."""
        steps = x.reshape(*x.shape[:-1], -1, self.group)
        later = nn.functional.softplus(steps[..., 1:], threshold=SOFTPLUS_THRESHOLD)
        return torch.cat([steps[..., :1], later], dim=-1).cumsum(dim=-1).reshape(x.shape)

    def extra_repr(self) -> str:
        """What a printed module says of it."""
        return f"{self.group}"


class MeanDeviation(nn.Module):
    """Of each pair of columns the first is itself, the second a positive deviation."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, columns) as x."""
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        deviation = nn.functional.softplus(pairs[..., 1:], threshold=SOFTPLUS_THRESHOLD) + LEAST_DEVIATION
        return torch.cat([pairs[..., :1], deviation], dim=-1).reshape(x.shape)


class Parametric(nn.Module):
    """``x + mixture * (f(x) - x)``, f an activation and the mixture learnt.

    Parameters
    ----------
    activation : Module
    mixture : Tensor of shape (columns,)
    """

    def __init__(self, activation: nn.Module, mixture: Tensor) -> None:
        super().__init__()
        self.activation = activation
        self.mixture = nn.Parameter(mixture)

    def forward(self, x: Tensor) -> Tensor:
        """Shape as x."""
        return x + self.mixture * (self.activation(x) - x)


class Residual(nn.Module):
    """``x + layer(x)``.

    Parameters
    ----------
    layer : Module
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Shape as x."""
        return x + self.layer(x)


class Scaling(nn.Module):
    """``x * factor + shift``: numbers that are not trained.

    Parameters
    ----------
    factor, shift : Tensor of shape (columns,)
    """

    def __init__(self, factor: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", factor)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        """Shape as x."""
        return x * self.factor + self.shift


# makes the module of an activation of the registry, given the columns that belong together
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "logistic": lambda group: nn.Sigmoid(),
    "tanh": lambda group: nn.Tanh(),
    "relu": lambda group: nn.ReLU(),
    "leaky_relu": lambda group: nn.LeakyReLU(),
    "elu": lambda group: nn.ELU(),
    "selu": lambda group: nn.SELU(),
    "gelu": lambda group: nn.GELU(),
    "silu": lambda group: nn.SiLU(),
    "mish": lambda group: nn.Mish(),
    "softplus": lambda group: nn.Softplus(threshold=SOFTPLUS_THRESHOLD),
    "cosine": lambda group: Cosine(),
    "square": lambda group: Square(),
    "exp": lambda group: Exp(),
    "softmax": lambda group: nn.Softmax(dim=-1),
    "ascending": Ascending,
    "mean_deviation": lambda group: MeanDeviation(),
}
# makes the modules of a row of a network's table: the row, its arrays, the dtype, the outputs of a target
_KINDS: dict[str, Callable[..., list[nn.Module]]] = {
    "dense": _dense,
    "layer_norm": _layer_norm,
    "parametric": _parametric,
    "dropout": lambda row, arrays, dtype, group: [nn.Dropout(row.setting)],
    "add": lambda row, arrays, dtype, group: [],
}
