"""Makes tests/golden/trajectory.json: 100 steps of training in PyTorch, in float64, for `test_golden_trajectory`.

    python tests/golden_trajectory.py

Data, initial weights and batches are formulas, not draws of a generator, so that they stay what they are.  Every number
of a course is PyTorch's: the products and functions, the gradients, which its autograd finds, and the steps of its
optimizers.  Where PyTorch's definition of a step is another one, its optimizer is told the numbers that make it the
same (`OPTIMIZERS`):

- Adam, AdamW and NAdam add epsilon to the root of the second moment before its bias is corrected, here; PyTorch
  afterwards.  It is given ``epsilon / sqrt(1 - beta_2**t)`` in step t.
- NAdam has a constant beta_1 here; in PyTorch it grows.  An infinite `momentum_decay` ends that.
- SGD keeps ``-rate`` times PyTorch's momentum, which is the same while the rate does not change.
- L1 and L2 are divided by the rows of the batch here, and spare the biases; they are part of the loss that PyTorch
  differentiates.  Decoupled decay spares the biases too.
- clipping by norm divides by the norm here, in PyTorch by the norm and 1e-6: it is left out.

The formulas of data and losses stand in this file alone; the test imports them without PyTorch.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "golden" / "trajectory.json"
ROWS, INPUTS, BATCH, STEPS = 30, 4, 12, 100
EPSILON, BETAS = 1e-8, (0.9, 0.999)


@dataclass(frozen=True)
class Course:
    """One network and how it is trained.

    Attributes
    ----------
    hidden : tuple of dict
        Layers, as `pymlp.Dense` takes them.
    loss : str
    outputs : int
    optimizer : str
    options : dict
        Of the optimizer, by pymlp's names.
    rate : float
    l1, l2 : float
    """

    hidden: tuple[dict[str, Any], ...]
    loss: str
    outputs: int
    optimizer: str = "sgd"
    options: dict[str, Any] = field(default_factory=dict)
    rate: float = 0.05
    l1: float = 0.0
    l2: float = 0.0


def _plain(activation: str, *widths: int) -> tuple[dict[str, Any], ...]:
    return tuple({"outputs": width, "activation": activation} for width in widths or (5,))


_NORMED = {"outputs": 5, "activation": "gelu", "normalization": "layer"}
COURSES: dict[str, Course] = {
    # optimizers
    "momentum, log loss": Course(_plain("tanh"), "log_loss", 3, options={"momentum": 0.9, "nesterov": False}),
    "nesterov, log loss": Course(_plain("tanh", 5, 4), "log_loss", 3, options={"momentum": 0.8, "nesterov": True}),
    "no momentum, squared error": Course(_plain("logistic"), "squared_error", 2, options={"momentum": 0.0}, rate=0.2),
    "adam, log loss": Course(_plain("tanh"), "log_loss", 3, "adam", rate=0.01),
    "adam with other betas": Course(
        _plain("tanh"), "squared_error", 1, "adam", {"beta_1": 0.7, "beta_2": 0.97, "epsilon": 1e-3}, 0.02
    ),
    "adamw, binary log loss": Course(_plain("tanh"), "binary_log_loss", 1, "adamw", {"weight_decay": 0.1}, 0.01),
    "nadam, squared error": Course(_plain("tanh"), "squared_error", 2, "nadam", rate=0.01),
    "rmsprop, poisson": Course(_plain("tanh"), "poisson", 1, "rmsprop", {"rho": 0.9}, 0.005),
    "rmsprop with momentum": Course(_plain("tanh"), "huber", 2, "rmsprop", {"rho": 0.95, "momentum": 0.6}, 0.005),
    # activations; their slopes are smooth or far from their kinks
    "relu": Course(_plain("relu", 6, 5), "log_loss", 3),
    "leaky relu": Course(_plain("leaky_relu"), "squared_error", 2),
    "elu": Course(_plain("elu"), "huber", 2),
    "selu": Course(_plain("selu"), "binary_log_loss", 2),
    "gelu": Course(_plain("gelu", 5, 4), "log_loss", 3, "adam", rate=0.01),
    "silu": Course(_plain("silu"), "poisson", 2, rate=0.02),
    "mish": Course(_plain("mish"), "squared_error", 1, "adam", rate=0.01),
    "softplus": Course(_plain("softplus"), "log_loss", 4),
    "cosine": Course(_plain("cosine"), "binary_log_loss", 1),
    "square": Course(_plain("square"), "squared_error", 1, rate=0.01),
    "linear": Course((), "log_loss", 3, options={"momentum": 0.5}, rate=0.2),
    # penalties and layers
    "l2, sgd": Course(_plain("tanh"), "log_loss", 3, l2=0.3),
    "l2, adam": Course(_plain("relu"), "squared_error", 2, "adam", rate=0.01, l2=0.5),
    "l1 and l2": Course(_plain("tanh"), "binary_log_loss", 1, rate=0.02, l1=0.02, l2=0.2),
    "layer norm": Course((_NORMED, _NORMED), "log_loss", 3, "adam", rate=0.01),
    "residual": Course((*_plain("tanh", 4), {"outputs": 4, "activation": "silu", "residual": True}), "huber", 1),
}


def wave(count: int, first: float, step: float) -> np.ndarray:
    """``sin(first + step i**1.5)``: numbers in (-1, 1) without a pattern, the same in every library."""
    return np.array([math.sin(first + step * i**1.5) for i in range(count)])


def data(course: Course) -> tuple[np.ndarray, np.ndarray]:
    """X (ROWS, INPUTS) and y (ROWS, outputs)."""
    X = 1.5 * wave(ROWS * INPUTS, 0.3, 0.7).reshape(ROWS, INPUTS)
    if course.loss == "log_loss":
        return X, np.eye(course.outputs)[np.arange(ROWS) ** 2 % 7 % course.outputs]
    raw = wave(ROWS * course.outputs, 1.1, 0.9).reshape(ROWS, course.outputs)
    if course.loss == "binary_log_loss":
        return X, (raw > 0.1).astype(float)
    if course.loss == "poisson":
        return X, np.floor(2 + 2 * raw)
    return X, raw + 0.5 * X[:, : course.outputs]


def widths(course: Course) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer."""
    sizes = [INPUTS, *(layer["outputs"] for layer in course.hidden), course.outputs]
    return list(itertools.pairwise(sizes))


def initial_params(course: Course) -> np.ndarray:
    """The flat vector: W (inputs, outputs) and b of each layer, then gain and shift where it is normalised."""
    parts = []
    for number, (inputs, outputs) in enumerate(widths(course)):
        parts.append(wave(inputs * outputs, 0.5 + number, 0.83) * math.sqrt(2 / inputs))
        parts.append(0.2 * wave(outputs, 2.5 + number, 1.1))
        if number < len(course.hidden) and "normalization" in course.hidden[number]:
            parts.append(1 + 0.1 * wave(outputs, 0.1, 0.9))
            parts.append(0.1 * wave(outputs, 0.7, 0.8))
    return np.concatenate(parts)


def batches() -> tuple[np.ndarray, np.ndarray]:
    """Row numbers, and where each step's begin: 12, 12 and 6 rows in turn, the rows in another order each time."""
    order, starts = [], [0]
    while len(starts) <= STEPS:
        turn = len(order) // ROWS
        shuffled = [(7 * i + 11 * turn) % ROWS for i in range(ROWS)]
        for first in range(0, ROWS, BATCH):
            order += shuffled[first : first + BATCH]
            starts.append(len(order))
    return np.array(order), np.array(starts[: STEPS + 1])


def main() -> None:
    """Write the file."""
    import torch

    torch.set_num_threads(1)
    # NAdam keeps the product of its betas in this dtype
    torch.set_default_dtype(torch.float64)
    golden = {"made with": f"torch {torch.__version__}", "courses": {}}
    for name, course in COURSES.items():
        losses, params = _train(torch, course)
        golden["courses"][name] = {"losses": losses, "params": params}
        print(f"{name}: {losses[0]:.6f} to {losses[-1]:.6f}")
    FILE.parent.mkdir(exist_ok=True)
    # one course a line
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(course)}" for name, course in golden["courses"].items())
    FILE.write_text(f'{{"made with": {json.dumps(golden["made with"])}, "courses": {{\n{lines}\n}}}}\n')


def _train(torch: Any, course: Course) -> tuple[list[float], list[float]]:
    X, y = (torch.tensor(array, dtype=torch.float64) for array in data(course))
    parts = _parameters(torch, course)
    optimizer, before_step = _optimizer(torch, course, parts)
    order, starts = batches()
    losses = []
    for step in range(STEPS):
        rows = torch.tensor(order[starts[step] : starts[step + 1]])
        reported, potential = _loss(torch, course.loss, _scores(torch, course, parts, X[rows]), y[rows])
        penalty = sum(
            course.l1 * part["weight"].abs().sum() + course.l2 / 2 * (part["weight"] ** 2).sum() for part in parts
        )
        optimizer.zero_grad()
        ((potential.sum() + penalty) / len(rows)).backward()
        before_step(step + 1)
        optimizer.step()
        losses.append(((reported.sum() + penalty) / len(rows)).item())
    return losses, torch.cat([tensor.detach().ravel() for part in parts for tensor in part.values()]).tolist()


def _parameters(torch: Any, course: Course) -> list[dict[str, Any]]:
    flat, parts, used = initial_params(course), [], 0
    for number, (inputs, outputs) in enumerate(widths(course)):
        shapes = {"weight": (inputs, outputs), "bias": (outputs,)}
        if number < len(course.hidden) and "normalization" in course.hidden[number]:
            shapes |= {"gain": (outputs,), "shift": (outputs,)}
        part = {}
        for kind, shape in shapes.items():
            count = math.prod(shape)
            part[kind] = torch.tensor(flat[used : used + count].reshape(shape), requires_grad=True)
            used += count
        parts.append(part)
    return parts


def _scores(torch: Any, course: Course, parts: list[dict[str, Any]], x: Any) -> Any:
    functional = torch.nn.functional
    activations: dict[str, Callable[[Any], Any]] = {
        "tanh": torch.tanh,
        "logistic": torch.sigmoid,
        "relu": torch.relu,
        "leaky_relu": lambda z: functional.leaky_relu(z, 0.01),
        "elu": functional.elu,
        "selu": functional.selu,
        "gelu": functional.gelu,
        "silu": functional.silu,
        "mish": functional.mish,
        "softplus": functional.softplus,
        "cosine": torch.cos,
        "square": torch.square,
    }
    for layer, part in zip(course.hidden, parts, strict=False):
        z = x @ part["weight"] + part["bias"]
        if "gain" in part:
            z = functional.layer_norm(z, z.shape[1:], part["gain"], part["shift"], eps=1e-5)
        a = activations[layer["activation"]](z)
        x = a + x if layer.get("residual") else a
    return x @ parts[-1]["weight"] + parts[-1]["bias"]


def _loss(torch: Any, name: str, z: Any, y: Any) -> tuple[Any, Any]:
    """What is reported of each row, and the potential of the gradient, which sums over outputs."""
    functional = torch.nn.functional
    if name == "log_loss":
        value = functional.cross_entropy(z, y, reduction="none")
        return value, value
    if name == "binary_log_loss":
        value = functional.binary_cross_entropy_with_logits(z, y, reduction="none").sum(dim=1)
        return value, value
    if name == "poisson":
        # half the deviance; xlogy is 0 where y is 0
        value = functional.poisson_nll_loss(z, y, log_input=True, reduction="none") + torch.xlogy(y, y) - y
        return value.sum(dim=1), value.sum(dim=1)
    terms = {
        "squared_error": lambda: functional.mse_loss(z, y, reduction="none") / 2,
        "huber": lambda: functional.huber_loss(z, y, reduction="none", delta=1.0),
    }[name]()
    return terms.mean(dim=1), terms.sum(dim=1)


def _optimizer(torch: Any, course: Course, parts: list[dict[str, Any]]) -> tuple[Any, Callable[[int], None]]:
    """PyTorch's optimizer, and what it is to be told before step t, counted from 1."""
    options = course.options
    tensors = [tensor for part in parts for tensor in part.values()]

    def nothing(t: int) -> None:
        return

    if course.optimizer == "sgd":
        momentum, nesterov = options.get("momentum", 0.9), options.get("nesterov", True)
        nesterov = nesterov and momentum > 0
        return torch.optim.SGD(tensors, course.rate, momentum=momentum, nesterov=nesterov), nothing
    if course.optimizer == "rmsprop":
        momentum = options.get("momentum", 0.0)
        return torch.optim.RMSprop(tensors, course.rate, alpha=options["rho"], eps=EPSILON, momentum=momentum), nothing
    betas = options.get("beta_1", BETAS[0]), options.get("beta_2", BETAS[1])
    weights = [part["weight"] for part in parts]
    others = [tensor for tensor in tensors if not any(tensor is weight for weight in weights)]
    if course.optimizer == "adamw":
        groups = [{"params": weights, "weight_decay": options["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, course.rate, betas)
    elif course.optimizer == "nadam":
        optimizer = torch.optim.NAdam(tensors, course.rate, betas, momentum_decay=math.inf)
    else:
        optimizer = torch.optim.Adam(tensors, course.rate, betas)

    def correct_epsilon(t: int) -> None:
        for group in optimizer.param_groups:
            group["eps"] = options.get("epsilon", EPSILON) / math.sqrt(1 - betas[1] ** t)

    return optimizer, correct_epsilon


if __name__ == "__main__":
    main()
