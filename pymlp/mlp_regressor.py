"""`MLPRegressor`: what numbers ask for beside what both perceptrons share: targets, quantiles, deviations, scores."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from pymlp.arrays import finite_numbers
from pymlp.availability import is_stochastic
from pymlp.checkpoints import DEFAULT_EVERY, Checkpoints
from pymlp.losses import CustomLoss, GaussianNLL, Loss, Quantile, loss_description, loss_of
from pymlp.network import Network
from pymlp.perceptron import FurtherParameters, MultilayerPerceptron
from pymlp.targets import NumberTargets
from pymlp.validation import REGRESSOR_CONSTRAINTS, check_sample_weight, check_targets


@dataclass(eq=False, repr=False)
class LossFirst:
    """The one parameter scikit-learn's regressor takes before those it shares with the classifier."""

    loss: Any = "squared_error"


@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, FurtherParameters, MultilayerPerceptron, LossFirst):
    """Multilayer perceptron for numbers; parameters and results are those of scikit-learn's class of this name.

    Parameters
    ----------
    loss : str, object of `pymlp.losses` or callable, default="squared_error"
        "squared_error", "absolute_error", "huber" or ``Huber(delta=1)``; "poisson", "gamma", "tweedie" or
        ``Tweedie(power=1.5)``, which predict positive means by an exponential output; "quantile" or
        ``Quantile([0.1, 0.5, 0.9])``, which predicts all its levels at once; "gaussian_nll", which learns a standard
        deviation too (``predict(X, return_std=True)``).  A callable ``loss(y, output)`` gives the value of each row and
        the gradient by the outputs; `CompiledLoss` takes compiled code.
    hidden_layer_sizes, activation, solver, ..., max_fun, dropout, ..., input_dropout
        See `MLPClassifier`.
    standardize_target : bool, default=False
        Bring each target to mean 0 and deviation 1 for the training; predictions are in its own units.  Losses, and the
        numbers that losses have, are in those of the training.  Not for the losses with an exponential output.

    Attributes
    ----------
    coefs_, intercepts_, params_, network_, loss_, loss_curve_, n_iter_, ...
        See `MLPClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from pymlp import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> MLPRegressor(solver="lbfgs", random_state=0).fit(X, y).predict(X).shape
    (442,)
    """

    _: KW_ONLY
    standardize_target: bool = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = REGRESSOR_CONSTRAINTS

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        checkpoint: Any = None,
        checkpoint_every: float = DEFAULT_EVERY,
        resume: bool = False,
    ) -> MLPRegressor:
        """Fit to training data.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, features)
        y : array-like of shape (rows,) or (rows, targets)
        sample_weight : array-like of shape (rows,), optional
        X_val, y_val : like X and y, optional
            Rows to score after each epoch: ``validation_scores_``.  With `early_stopping` they take the place of the
            rows it would hold out, and all of X is trained on.
        sample_weight_val : array-like of shape (validation rows,), optional
        checkpoint : str or path-like, optional
            A file that keeps where the fit has got to, from time to time and at the end; the one before it is kept
            under this name with ".previous".
        checkpoint_every : int or float, default=60.0
            An integer: after so many epochs (iterations of "lbfgs").  A float: after so many seconds, also inside an
            epoch.
        resume : bool, default=False
            Go on from the newest whole checkpoint, to the bits that an uninterrupted fit comes to; begin where there is
            none, so that the same command can be given again and again.  Everything else must be as it was,
            the backend too, but for `max_iter`, `max_fun`, `max_time`, `verbose`, callbacks, threads and the
            instruction set (as long as it has fused multiply-add or has none): with a larger `max_iter` a fit that has
            ended goes on (not with a schedule that spreads over all epochs, nor where it had run out of patience).  Of
            functions, and of callbacks that have a state, the user takes care.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            Data hold what is no number (text, dates, records, masked entries), or `checkpoint` is no path; the
            estimator is then as it was.
        ValueError
            Parameters or data do not fit, or the checkpoint is that of another fit; the estimator is then as it was.
        OSError
            A checkpoint cannot be written, or read; the estimator is then as it was.
        KeyboardInterrupt
            After Ctrl-C; the last complete epoch is kept.  Short epochs that nobody looks at one by one (no `verbose`,
            callbacks, validation rows or `max_time`) are trained several at a time, for up to four seconds, and are
            complete together.
        """
        checkpoints = Checkpoints.asked_for(checkpoint, checkpoint_every, resume)
        validation = X_val, y_val, sample_weight_val
        return self._fit(X, y, sample_weight, incremental=False, validation=validation, checkpoints=checkpoints)

    @available_if(is_stochastic)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch over the given rows, going on from the present state; arguments as for `fit`.

        Raises
        ------
        TypeError
            Data hold what is no number (text, dates, records, masked entries); the estimator is then as it was.
        ValueError
            Parameters or data do not fit; the estimator is then as it was.
        KeyboardInterrupt
            After Ctrl-C; the estimator is then as it was, unless the epoch was complete.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    @available_if(is_stochastic)
    def fit_stream(
        self,
        source: Any,
        *,
        n_rows: int | None = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        checkpoint: Any = None,
        checkpoint_every: float = DEFAULT_EVERY,
        resume: bool = False,
    ) -> MLPRegressor:
        """Fit to rows that come in chunks; arguments as for `MLPClassifier.fit_stream`, but without classes.

        Raises
        ------
        TypeError
            Data hold what is no number (text, dates, records, masked entries), or `checkpoint` is no path; the
            estimator is then as it was.
        ValueError
            Parameters, source or chunks do not fit (the message names the chunk), the passes have different numbers of
            rows, or the checkpoint is that of another fit; the estimator is then as it was.
        OSError
            A checkpoint cannot be written, or read; the estimator is then as it was.
        KeyboardInterrupt
            After Ctrl-C; the last complete epoch is kept, as by `fit`.
        """
        checkpoints = Checkpoints.asked_for(checkpoint, checkpoint_every, resume)
        return self._fit_stream(source, n_rows, None, (X_val, y_val, sample_weight_val), checkpoints)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predicted numbers.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, features)
        return_std : bool, default=False
            Give the standard deviations as well; for `GaussianNLL` alone.

        Returns
        -------
        predicted : ndarray of shape (rows,), (rows, targets), (rows, levels) or (rows, targets, levels)
            Levels are those of `Quantile`, if it has more than one.
        deviations : ndarray of the same shape
            With `return_std`.

        Raises
        ------
        ValueError
            Deviations are asked for and the loss has none.
        """
        outputs = self._outputs(X)
        targets = NumberTargets.of_outputs(self.n_outputs_, self.network_.loss)
        if not return_std:
            return targets.decode(outputs)
        if not isinstance(targets.loss, GaussianNLL):
            raise ValueError(f"return_std=True needs loss=GaussianNLL(), but the model has loss={self.loss!r}")
        return targets.decode(outputs), targets.deviations(outputs)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2 of the predictions; of `Quantile`, D2 by the pinball loss, the mean over its levels.

        D2 is the part of the pinball loss of the best constants that the predictions save: at most 1, and 0 for the
        quantiles of y themselves.  Validation scores are the same measures.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, features)
        y : array-like of shape (rows,) or (rows, targets)
        sample_weight : array-like of shape (rows,), optional
        """
        check_is_fitted(self)
        if not isinstance(self.network_.loss_function, Quantile):
            finite_numbers("y", y, "float64")
            check_sample_weight(sample_weight, len(y), "float64")
            return super().score(X, y, sample_weight)
        outputs = self._outputs(X)
        targets = NumberTargets.of_outputs(self.n_outputs_, self.network_.loss)
        y = check_targets(y, len(outputs), targets.columns)
        weight = check_sample_weight(sample_weight, len(outputs), "float64")
        return targets.score(outputs, targets.encode(y), weight)

    def _encode(self, y: Any, dtype: str, *, first: bool, incremental: bool, classes: Any) -> tuple[np.ndarray, Any]:
        """Output columns and loss."""
        loss = self.loss if isinstance(self.loss, (str, Loss)) else CustomLoss(self.loss)
        if self.standardize_target and loss_of(loss).output_activation == "exp":
            raise ValueError(
                f"standardize_target=True needs a loss whose outputs may be shifted and scaled, not loss={self.loss!r}"
            )
        return NumberTargets(1, loss_of(loss)).encode(self._columns(y, dtype, "y")), loss

    def _encode_first_chunk(self, y: Any, dtype: str, *, first: bool, classes: None) -> tuple[np.ndarray, Any]:
        """Output columns of some rows and loss."""
        return self._encode(y, dtype, first=first, incremental=True, classes=classes)

    def _encode_chunk(self, y: Any, network: Network) -> np.ndarray:
        return self._encode_more(y, network, "its y")

    def _loss_weight(self, encoded: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray | None:
        return sample_weight

    def _encode_validation(self, y: Any, network: Network) -> np.ndarray:
        return self._encode_more(y, network, "y_val")

    def _encode_more(self, y: Any, network: Network, name: str) -> np.ndarray:
        columns = self._columns(y, network.dtype, name)
        targets = NumberTargets.of_outputs(network.outputs, network.loss)
        if columns.shape[1] != targets.columns:
            raise ValueError(f"{name} has {columns.shape[1]} target columns, but y has {targets.columns}")
        return targets.encode(columns)

    def _columns(self, y: Any, dtype: str, name: str) -> np.ndarray:
        columns = finite_numbers(name, y, dtype).reshape(len(y), -1)
        lowest = loss_of(self.loss).lowest_target
        if columns.min() < lowest:
            row, column = np.unravel_index(int(np.argmax(columns < lowest)), columns.shape)
            raise ValueError(
                f"{name} must be at least {lowest:g} for loss={self.loss!r}, but row {row}, column {column} (counted "
                f"from 0) has {columns[row, column]:g}"
            )
        return columns

    def _validation_score(self, outputs: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        return NumberTargets.of_outputs(outputs.shape[1], self.loss).score(outputs, y, weight)

    def _stratification(self, y: np.ndarray) -> None:
        return None

    def _add_target_state(self, metadata: dict[str, Any]) -> None:
        """Numbers need no description."""

    def _take_target_state(self, metadata: dict[str, Any], network: Network) -> None:
        # by what files say of them: of functions of one's own they do not tell which
        if loss_description(loss_of(network.loss)) != loss_description(loss_of(self.loss)):
            raise ValueError(f"the network's loss is {network.loss!r}, but loss={self.loss!r}")
