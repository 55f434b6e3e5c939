"""Full-batch training by SciPy's L-BFGS-B over `Plan.loss_gradient`.

SciPy iterates in float64; for a float32 network each point is cast before its loss is computed.  (Byrd, Lu, Nocedal and
Zhu, "A limited memory algorithm for bound constrained optimization", 1995.)

SciPy keeps its state to itself.  So a checkpoint holds every loss and gradient so far, and a run that goes on gives
SciPy these answers to its first questions: that takes it, in no time, to where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from scipy import optimize

from pymlp.blas import one_blas_thread
from pymlp.callbacks import Announcer
from pymlp.container import ModelFormatError
from pymlp.epochs import Keeper, new_history
from pymlp.full_batch import FullBatch


@dataclass(frozen=True)
class Iterate:
    """A point the minimiser has accepted."""

    params: np.ndarray
    loss: float
    iterations: int


@dataclass(frozen=True)
class Ending:
    """How a minimisation ended; ``converged`` false comes with SciPy's status and message."""

    iterate: Iterate
    converged: bool
    status: int
    message: str


class Evaluations:
    """Losses and gradients at all points so far, in their order; a point is known by its digest.

    Parameters
    ----------
    n_parameters : int
    dtype : str
        What the gradients are computed in, so that they lose nothing.
    """

    def __init__(self, n_parameters: int, dtype: str) -> None:
        self.digests: list[bytes] = []
        self.losses: list[float] = []
        # with room for more, which takes no memory until it is used
        self._gradients = np.empty((0, n_parameters), dtype)

    def __len__(self) -> int:
        return len(self.losses)

    def add(self, digest: bytes, loss: float, gradient: np.ndarray) -> None:
        """Take note of the next point."""
        count = len(self)
        if count == len(self._gradients):
            longer = np.empty((max(1, 2 * count), self._gradients.shape[1]), self._gradients.dtype)
            longer[:count] = self._gradients
            self._gradients = longer
        self._gradients[count] = gradient
        self.digests.append(digest)
        self.losses.append(loss)

    def at(self, number: int) -> tuple[float, np.ndarray]:
        """Loss and gradient (float64) of point `number`."""
        return self.losses[number], self._gradients[number].astype(np.float64)

    def cut(self, count: int) -> None:
        """Forget all but the first `count`."""
        del self.digests[count:]
        del self.losses[count:]

    def record(self) -> dict[str, Any]:
        """What `take_up` reads."""
        points = np.frombuffer(b"".join(self.digests), np.uint8).reshape(len(self), -1)
        return {"points": points, "losses": self.losses, "gradients": self._gradients[: len(self)]}

    def take_up(self, record: dict[str, Any]) -> None:
        """Begin with those of a `record`; ModelFormatError if they are of another network."""
        gradients = record["gradients"]
        if gradients.shape[1:] != self._gradients.shape[1:] or gradients.dtype != self._gradients.dtype:
            raise ModelFormatError(
                f"gradients must be {self._gradients.dtype} arrays of shape {self._gradients.shape[1:]}, found "
                f"{gradients.dtype} {gradients.shape[1:]}"
            )
        for point, loss, gradient in zip(record["points"], record["losses"], gradients, strict=True):
            self.add(point.tobytes(), float(loss), gradient)


class StopAskedError(Exception):
    """A callback asked to stop, or the time limit was reached; ends the minimisation from within."""


class Minimisation:
    """One run of L-BFGS-B.

    Parameters
    ----------
    batch : FullBatch
    announcer : Announcer
    score : callable, optional
        Validation score from parameters.
    max_time : float, optional
        Seconds after which `run` ends, once a point has been accepted.
    keeper : Keeper, optional
        Gets a record whenever one is due (iterations are its epochs), and at the end.

    Attributes
    ----------
    accepted : Iterate or None
        The last accepted point, kept for an interruption; None before the first.
    history : dict of str to list
        For each accepted point its loss, its validation score or None, None for a rate, and its seconds.
    """

    def __init__(
        self,
        batch: FullBatch,
        announcer: Announcer,
        score: Callable[[np.ndarray], float] | None = None,
        max_time: float | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.batch, self.announcer, self.score, self.keeper = batch, announcer, score, keeper
        self.max_time = np.inf if max_time is None else max_time
        self.accepted: Iterate | None = None
        self.history = new_history("validation_score")
        self._began = self._last = perf_counter()
        self._announced = False
        # of this run and those it goes on from; and how many of them and of iterations the last record has
        self._evaluations = Evaluations(batch.network.n_parameters, batch.gradient_dtype)
        self._past = new_history("validation_score")
        self._kept = 0, 0

    def take_up(self, record: dict[str, Any]) -> None:
        """Go on from what a keeper got, over the same rows; before `run`, which is given its first point too.

        Raises
        ------
        ModelFormatError, or what odd types and values lead to
            The record is malformed.
        """
        self._evaluations.take_up(record)
        self._past = {name: list(record["history"][name]) for name in self.history}
        lengths = {name: len(values) for name, values in self._past.items()}
        if len(set(lengths.values())) > 1:
            raise ModelFormatError(f"the entries of its history must be equally many, found {lengths}")
        self._kept = len(self._evaluations), len(self._past["loss"])

    def run(self, params: np.ndarray, *, max_iter: int, max_fun: int, tol: float) -> Ending:
        """Minimise from `params`, which stay as they are.

        Parameters
        ----------
        params : ndarray of shape (n_parameters,)
        max_iter, max_fun : int
            Most iterations and evaluations.
        tol : float
            Largest component of the gradient at convergence.
        """
        self._first = params
        ending = self._minimise(params, {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol})
        if self.keeper is not None and (len(self._evaluations), self._iterations) > self._kept:
            self._keep()
        return ending

    def _minimise(self, params: np.ndarray, options: dict[str, Any]) -> Ending:
        try:
            # the sums of BLAS depend on its threads
            with one_blas_thread():
                result = optimize.minimize(
                    self._evaluate,
                    params.astype(np.float64),
                    method="L-BFGS-B",
                    jac=True,
                    options=options,
                    callback=self._accept,
                )
        except StopAskedError:
            return Ending(self.accepted, True, 0, "asked to stop")
        iterate = Iterate(self._cast(result.x), float(result.fun), min(int(result.nit), options["maxiter"]))
        return Ending(iterate, result.status == 0, int(result.status), str(result.message))

    def _evaluate(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        if self.keeper is None:
            return self._compute(point)
        digest = hashlib.sha256(np.ascontiguousarray(point).data).digest()
        number = self.batch.evaluations
        if number < len(self._evaluations):
            if self._evaluations.digests[number] == digest:
                return self.batch.recall(*self._evaluations.at(number))
            # this SciPy goes another way than the one before: its own from here on
            self._evaluations.cut(number)
            for values in self._past.values():
                del values[self._iterations :]
            self._kept = 0, 0
        loss, gradient = self._compute(point)
        self._evaluations.add(digest, loss, gradient)
        if self.keeper.is_due():
            self._keep()
        return loss, gradient

    def _compute(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        if self.accepted is not None and perf_counter() - self._began > self.max_time:
            raise StopAskedError
        if not self._announced:
            # only now is it known that there is another iteration: after the last, nothing is evaluated
            self.announcer.begin_epoch(self._iterations, **self._metrics())
            self._announced = True
        return self.batch(point)

    @property
    def _iterations(self) -> int:
        return 0 if self.accepted is None else self.accepted.iterations

    def _cast(self, point: np.ndarray) -> np.ndarray:
        return np.array(point, self.batch.network.dtype)

    def _accept(self, point: np.ndarray) -> None:
        # the accepted point is the last one evaluated
        accepted = Iterate(self._cast(point), self.batch.last_loss, self._iterations + 1)
        if accepted.iterations <= len(self._past["loss"]):
            for name, values in self.history.items():
                values.append(self._past[name][accepted.iterations - 1])
            self.accepted = accepted
            return
        score = None if self.score is None else self.score(accepted.params)
        now = perf_counter()
        row = (accepted.loss, score, None, now - self._last)
        self._last = now
        for values, value in zip(self.history.values(), row, strict=True):
            values.append(value)
        self.accepted = accepted
        self._announced = False
        if self.keeper is not None and self.keeper.is_due(accepted.iterations):
            self._keep()
        if self.announcer.end_epoch(**self._metrics(), loss=accepted.loss, validation_score=score):
            raise StopAskedError

    def _keep(self) -> None:
        self.keeper.keep({"first": self._first, "history": self.history, **self._evaluations.record()})
        self._kept = len(self._evaluations), self._iterations

    def _metrics(self) -> dict[str, Any]:
        rows = self._iterations * self.batch.X.shape[0]
        seconds = perf_counter() - self._began
        evaluated = self.batch.evaluations * self.batch.X.shape[0]
        return {
            "step": self.batch.evaluations,
            "rows": rows,
            "seconds": seconds,
            "rows_per_second": evaluated / max(seconds, 1e-9),
            "rate": None,
        }
