"""`MLPClassifier`: what classes ask for beside what both perceptrons share: encoding, deciding, probabilities."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from pymlp import scores
from pymlp.availability import gives_probabilities, takes_streams
from pymlp.checkpoints import DEFAULT_EVERY, Checkpoints
from pymlp.class_weights import row_weights
from pymlp.functions import PROBABILITIES
from pymlp.interruptible import compute
from pymlp.losses import loss_description, loss_of
from pymlp.model_state import labels_of, plain
from pymlp.network import Network
from pymlp.perceptron import FurtherParameters, MultilayerPerceptron
from pymlp.targets import KINDS, ClassTargets, distinct_labels
from pymlp.validation import CLASSIFIER_CONSTRAINTS


@dataclass(eq=False, repr=False)
class LossOfClasses:
    """What the classifier takes before the parameters beyond scikit-learn's that it shares with the regressor."""

    _: KW_ONLY
    loss: Any = "log_loss"
    class_weight: Any = None


@dataclass(eq=False, repr=False)
class MLPClassifier(ClassifierMixin, FurtherParameters, LossOfClasses, MultilayerPerceptron):
    """Multilayer perceptron for classes; parameters and results are those of scikit-learn's class of this name.

    Parameters
    ----------
    hidden_layer_sizes : int, Dense or sequence of these, default=(100,)
        Hidden layers; ``()`` is a linear model.  A number is a width, ``Dense(64, "gelu", dropout=0.1)`` says more of a
        layer (see `pymlp.Dense`); both may be mixed.
    activation : str or sequence of str, default="relu"
        Of the hidden layers given as widths, one for all or one for each layer: "identity", "logistic", "tanh", "relu",
        and beyond scikit-learn "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus",
        "cosine", "square".
    solver : str or option object of `pymlp.optimizers`, default="adam"
        "adam" (Kingma and Ba, 2015), "sgd" (gradient descent with momentum), another name in
        `pymlp.optimizers.OPTIMIZERS`, or "lbfgs" (L-BFGS over all rows at once).  An object such as
        ``AdamW(weight_decay=0.1)`` has its own parameters, and those below count for nothing.
    alpha : float, default=0.0001
        Penalty on the weights, divided by the rows of the batch: L2, or what `l1_ratio` makes of it.
    batch_size : int or "auto", default="auto"
        "auto" is ``min(200, rows)``.
    learning_rate : {"constant", "invscaling", "adaptive"}, schedule or callable, default="constant"
        The rate stays; falls as ``learning_rate_init / (t_ + 1) ** power_t``; is divided by 5 each time patience runs
        out (as in scikit-learn ``solver="adam"`` takes no notice of these names).  An object of `pymlp.schedules` such
        as ``Cosine(warmup=5)`` runs over `max_iter` epochs, from `learning_rate_init`.  A callable gets the number of a
        step and gives its rate.
    learning_rate_init : float, default=0.001
    power_t : float, default=0.5
    max_iter : int, default=200
        Most epochs ("sgd", "adam") or iterations ("lbfgs").
    shuffle : bool, default=True
    random_state : int, RandomState or None, default=None
        Draws the initial weights, the validation rows and the order of the rows.
    tol : float, default=1e-4
        Least improvement of the loss (of the score, with `early_stopping`); for "lbfgs" the largest component of the
        gradient at convergence.
    verbose : bool, default=False
        Print a line an epoch to standard output.
    warm_start : bool, default=False
        Go on from the weights of the last fit.
    momentum : float, default=0.9
    nesterovs_momentum : bool, default=True
        Of "sgd".
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their score no longer improves, keep the best weights.
    validation_fraction : float, default=0.1
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Of "adam", "adamw" and "nadam".
    n_iter_no_change : int, default=10
        Epochs without improvement before training stops.
    max_fun : int, default=15000
        Most evaluations of the loss, for "lbfgs".
    loss : str, object of `pymlp.losses` or callable, default="log_loss"
        "log_loss", "focal", "hinge", "squared_hinge" or "perceptron"; ``LogLoss(label_smoothing=0.1)`` and
        ``Focal(gamma=2)`` carry their own numbers.  Two classes and label matrices have one output a column, and the
        form of the loss for that.  The last three have no probabilities: ``decision_function`` and ``predict`` alone.
        A callable ``loss(y, output)`` gives the value of each row and the gradient by the outputs, which are
        probabilities; `CustomLoss` takes other outputs, `CompiledLoss` compiled code.
    class_weight : "balanced", dict, list of dict or None, default=None
        What the loss counts rows of each class by, besides their own weight; a list has a dict for each column of a
        label matrix.  "balanced": in inverse proportion to the rows of the class, counted by their weights.  Scores do
        not take these weights.
    dropout : float, default=0.0
        Probability that an output of a hidden layer given as a width is 0 in a training step (see `pymlp.Dense`).  Not
        for "lbfgs".
    l1_ratio : float, default=0.0
        Part of `alpha` that is an L1 penalty (Zou and Hastie, "Regularization and variable selection via the elastic
        net", 2005).  "lbfgs" meets its kink at 0 with a subgradient: weights get small there, not 0.
    scoring : str, callable or None, default=None
        What validation rows are scored by, higher is better: a name that scikit-learn knows, or
        ``scoring(estimator, X, y)``; weighted if it takes ``sample_weight``.  None is the accuracy (of a regressor R2).
    standardize : bool, default=False
        Bring the columns of X to mean 0 and deviation 1 for the training, by the weighted training rows of the first
        fit; constant columns count for nothing, sparse ones are scaled and not shifted.  It is folded into the first
        layer afterwards: `params_` take raw values, and prediction costs nothing more.
    max_time : float or None, default=None
        Seconds after which training ends with the last complete epoch; the first one is always completed.
    dtype : {"float32", "float64"} or None, default=None
        Type of the arithmetic; None follows X (anything but float32 becomes float64).
    roll_back : bool, default=False
        Where an epoch ends with numbers that are not finite, go back to the end of the one before, halve the rate, warn
        and go on.  Not for "lbfgs".
    input_dropout : float, default=0.0
        Probability that an input counts as 0 in a training step.  Not for "lbfgs".

    Attributes
    ----------
    classes_ : ndarray
    coefs_, intercepts_ : list of ndarray
        Views of `params_`; assigning one copies into it.
    params_ : ndarray of shape (n_parameters,)
        All weights and biases as one vector, laid out by `network_`.
    network_ : Network
    loss_, best_loss_ : float
        Of the last epoch, and the lowest (None with early stopping).
    loss_curve_ : list of float
    validation_scores_, best_validation_score_ : list of float, float
        None without validation rows.
    history_ : dict of str to list
        For each epoch (for "lbfgs" each iteration) its "loss", "validation_score" (None without validation rows),
        "rate" (of its last step) and "seconds" (of its steps); ``pandas.DataFrame(model.history_)`` is a table of them.
    n_iter_, t_ : int
        Epochs of the last fit, rows seen in all.
    n_features_in_, feature_names_in_, n_outputs_, n_layers_, out_activation_
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from pymlp import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(solver="lbfgs", random_state=0).fit(X, y)
    >>> model.predict(X[:2])
    array([0, 0])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CLASSIFIER_CONSTRAINTS
    _state_keys: ClassVar[frozenset[str]] = MultilayerPerceptron._state_keys | {"classes"}

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
    ) -> MLPClassifier:
        """Fit to training data.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, features)
        y : array-like of shape (rows,), or 0/1 matrix of shape (rows, labels)
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

    @available_if(takes_streams)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Train for one epoch over the given rows, going on from the present state.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, features)
        y : array-like of shape (rows,), or 0/1 matrix of shape (rows, labels)
        sample_weight : array-like of shape (rows,), optional
        classes : array-like of shape (classes,)
            All classes there will be; needed at the first call.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            Data hold what is no number (text, dates, records, masked entries); the estimator is then as it was.
        ValueError
            Parameters or data do not fit; the estimator is then as it was.
        KeyboardInterrupt
            After Ctrl-C; the estimator is then as it was, unless the epoch was complete.
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    @available_if(takes_streams)
    def fit_stream(
        self,
        source: Any,
        *,
        n_rows: int | None = None,
        classes: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        checkpoint: Any = None,
        checkpoint_every: float = DEFAULT_EVERY,
        resume: bool = False,
    ) -> MLPClassifier:
        """Fit to rows that come in chunks, of which one at a time is in memory; a pass over them is an epoch.

        Batches are cut as if the chunks were one array: rows left over at the end of a chunk go to the front of the
        next one's.  With ``shuffle=False`` the result is that of `fit` on all rows, to the bit (with `standardize` up
        to rounding); else each chunk is shuffled by itself.  Chunks of many batches whose rows are in no order make
        that as good as shuffling all rows.

        Parameters
        ----------
        source : iterable or callable
            Chunks ``(X, y)`` or ``(X, y, weight)``, each like the arguments of `fit`: a list or another object that can
            be iterated over again and again, or a callable that returns a new iterator for each pass.  An iterator
            does only where one pass is enough: ``max_iter=1``, and everything known beforehand.
        n_rows : int, optional
            Rows of a pass; counted in a first pass if not given.
        classes : array-like of shape (classes,), optional
            All classes there are; gathered in the first pass if not given.
        X_val, y_val, sample_weight_val : optional
            As for `fit`; needed with `early_stopping`.
        checkpoint, checkpoint_every, resume
            As for `fit`, but at the ends of epochs alone.  That the chunks are the same is for the user to see to.

        Returns
        -------
        self

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
        return self._fit_stream(source, n_rows, classes, (X_val, y_val, sample_weight_val), checkpoints)

    def predict(self, X: Any) -> Any:
        """Predicted labels of shape (rows,), or (rows, labels)."""
        outputs = self._outputs(X)
        return compute(lambda: self._targets.decode(outputs), outputs.size)

    @available_if(gives_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, shape (rows, classes), or of each label, (rows, labels).

        There is none where the loss has no probabilities, such as "hinge".
        """
        check_is_fitted(self)
        return self._outputs(X, with_complement=self.n_outputs_ == 1)

    @available_if(gives_probabilities)
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of `predict_proba`."""
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(probabilities, out=probabilities)

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores before the output activation: (rows,) for two classes, else (rows, classes) or (rows, labels).

        For the losses without probabilities they are the outputs.
        """
        outputs = self._outputs(X, activated=False)
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs

    def _encode(self, y: Any, dtype: str, *, first: bool, incremental: bool, classes: Any) -> tuple[np.ndarray, str]:
        """Output columns and loss, and on a first pass ``classes_``."""
        known, learnt = self.__dict__.get("classes_"), False
        if incremental and known is None:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            known = distinct_labels(classes)
            targets = ClassTargets.from_labels(y)
            if targets.kind != "multilabel-indicator":
                targets = ClassTargets.from_labels(classes)
            self._check_known(y, known, subset=True)
        elif incremental or not first:
            if classes is not None and not np.array_equal(known, distinct_labels(classes)):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {known!r}"
                )
            self._check_known(y, known, subset=not self.warm_start)
            targets = self._targets
        else:
            targets = ClassTargets.from_labels(y)
            known, learnt = targets.classes, True
        encoded, loss = targets.encode(y, dtype, learnt=learnt), targets.loss(self.loss)
        threshold = 0.5 if loss_of(loss).output_activation in PROBABILITIES else 0.0
        self.classes_, self._targets = known, replace(targets, threshold=threshold)
        return encoded, loss

    def _encode_first_chunk(self, y: Any, dtype: str, *, first: bool, classes: Any) -> tuple[np.ndarray, Any]:
        """Output columns of some rows and loss, and on a first pass ``classes_``, which all chunks together have."""
        if first:
            self.__dict__.pop("classes_", None)
        # columns of a label matrix are known by the matrix, single labels by the classes
        sample = y if np.ndim(y) == 2 or hasattr(y, "tocsr") else np.asarray(classes)
        return self._encode(sample, dtype, first=first, incremental=True, classes=classes)

    def _encode_chunk(self, y: Any, network: Network) -> np.ndarray:
        self._check_known(y, self.classes_, subset=True)
        return self._targets.encode(y, network.dtype)

    def _loss_weight(self, encoded: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray | None:
        return row_weights(self.class_weight, self._targets, encoded, sample_weight)

    def _encode_validation(self, y: Any, network: Network) -> np.ndarray:
        try:
            unknown = np.setdiff1d(distinct_labels(y), self.classes_)
        except ValueError as error:
            raise ValueError(f"y_val must hold labels as y does: {error}") from error
        if len(unknown):
            raise ValueError(f"y_val has classes that y has not: {unknown}; y has {self.classes_}")
        return self._targets.encode(y, network.dtype)

    @staticmethod
    def _check_known(y: Any, known: np.ndarray, *, subset: bool) -> None:
        found = distinct_labels(y)
        if subset:
            if len(np.setdiff1d(found, known, assume_unique=True)):
                raise ValueError(
                    f"`y` has classes not in `self.classes_`. `self.classes_` has {known}. 'y' has {found}."
                )
        elif set(found) != set(known):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {known}, `y` has {found}"
            )

    def _validation_score(self, outputs: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        return scores.accuracy(self._targets.decide(outputs), self._targets.decide(y), weight)

    def _stratification(self, y: np.ndarray) -> np.ndarray | None:
        return y if y.shape[1] == 1 else None

    def _add_target_state(self, metadata: dict[str, Any]) -> None:
        targets = self._targets
        metadata["classes"] = {
            "kind": targets.kind,
            "dtype": self.classes_.dtype.str,
            "values": plain(self.classes_),
            "sparse_labels": targets.sparse_labels,
        }

    def _take_target_state(self, metadata: dict[str, Any], network: Network) -> None:
        state = metadata["classes"]
        if set(state) != {"kind", "dtype", "values", "sparse_labels"} or state["kind"] not in KINDS:
            raise ValueError(f"the model has an unknown kind of classes: {state['kind']!r}")
        sparse_labels = state["sparse_labels"]
        if sparse_labels is not False and (sparse_labels is not True or state["kind"] != "multilabel-indicator"):
            raise ValueError(f"sparse_labels={sparse_labels!r} does not fit {state['kind']} classes")
        self.classes_ = labels_of(state)
        if state["kind"] != "multilabel-indicator" and (state["kind"] == "binary") != (len(self.classes_) <= 2):
            raise ValueError(f"{len(self.classes_)} classes are not {state['kind']}")
        threshold = 0.5 if network.output_activation in PROBABILITIES else 0.0
        targets = ClassTargets(state["kind"], self.classes_, sparse_labels, threshold)
        self._targets = targets
        # by what files say of them: of functions of one's own they do not tell which
        fits = loss_description(targets.loss(self.loss)) == loss_description(network.loss)
        if targets.columns != network.outputs or not fits:
            raise ValueError(f"{len(self.classes_)} {state['kind']} classes do not fit the network's outputs and loss")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
