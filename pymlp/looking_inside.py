"""The methods by which a fitted estimator shows what it is and why it answers as it does.

They hold for the whole estimator, from the features as the user gives them to answers in the user's units; what they
ask of a network alone is in `pymlp.inspection` and `pymlp.summary`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_regressor
from sklearn.utils.validation import check_is_fitted

from pymlp import inspection
from pymlp.inference import without_output_activation
from pymlp.summary import Summary
from pymlp.validation import check_prediction_data


class LookingInside:
    """A mixin for the estimators; it reads ``network_``, ``_prediction_state`` and ``_output_scale``."""

    def input_gradient(self, X: Any, *, target: Any = None, response_method: str = "auto") -> np.ndarray:
        """How the answer for each row follows its inputs: derivatives by the features.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, features)
        target : label or int, optional
            The class (of a classifier, one label a row), else the number of the output.  By default the only output
            there is, the second of two classes, or all.
        response_method : {"auto", "predict", "decision_function", "predict_proba"}, default="auto"
            What is differentiated: "predict" for a regressor, for a classifier "decision_function" (the scores before
            the last activation, which "auto" is) or "predict_proba".

        Returns
        -------
        ndarray of shape (rows, features), or (rows, outputs, features) for all of several outputs

        Raises
        ------
        ValueError
            There is no such target or response, or X does not fit.
        """
        check_is_fitted(self)
        known = ("predict",) if is_regressor(self) else ("decision_function", "predict_proba")
        methods = [name for name in known if hasattr(self, name)]
        if response_method not in ("auto", *methods):
            raise ValueError(f"response_method={response_method!r} is not one of auto, {', '.join(methods)}")
        network, params = self._prediction_state()[:2]
        X = check_prediction_data(self, X, network.dtype)
        column, sign = inspection.output_of(target, getattr(self, "classes_", range(network.outputs)), network.outputs)
        if not is_regressor(self) and response_method != "predict_proba":
            network = without_output_activation(network)
        gradient = inspection.input_gradient(network, params, X, column)
        scale = self._output_scale()
        if scale is not None:
            gradient *= scale[0][:, np.newaxis] if column is None else scale[0][column]
        return gradient if sign > 0 else -gradient

    def layer_outputs(self, X: Any) -> list[np.ndarray]:
        """What each layer passes on for each row: the hidden layers' outputs, then the network's.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (rows, features)

        Returns
        -------
        list of ndarray of shape (rows, layer's outputs)
            The last are the predictions, or the probabilities (of the second class, if there are two), up to rounding.
        """
        check_is_fitted(self)
        network, params = self._prediction_state()[:2]
        outputs = inspection.layer_outputs(network, params, check_prediction_data(self, X, network.dtype))
        scale = self._output_scale()
        if scale is not None:
            outputs[-1] = outputs[-1] * scale[0] + scale[1]
        return outputs

    def summary(self) -> Summary:
        """The layers of the fitted network, with their shapes, parameters and cost: text, or a table in a notebook."""
        check_is_fitted(self)
        return Summary(self.network_, type(self).__name__)
