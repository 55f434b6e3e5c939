"""What ``fit_stream`` does before it trains: chunks are checked and encoded, and what must be known of all rows found.

A pass before the first epoch is made only where it must be: to count the rows and to gather the classes, if they are
not given, and one to learn the scalings, if columns are standardised.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier

from pymlp import fitting
from pymlp.network import Network, random_source
from pymlp.streams import Chunk, Source, Stream
from pymlp.targets import distinct_labels
from pymlp.training import check_count
from pymlp.validation import check_chunk, chunk_named

if TYPE_CHECKING:
    from pymlp.perceptron import MultilayerPerceptron


def prepare(
    draft: MultilayerPerceptron, given: Any, n_rows: Any, classes: Any, validation: tuple[Any, Any, Any]
) -> tuple[Network, fitting.Data]:
    """Network and data of a fit to the chunks of a source; what is found out goes to the draft.

    Raises
    ------
    ValueError
        The source or its chunks do not fit; or it is an iterator and would have to be read more than once.
    """
    if draft.early_stopping and validation[0] is None:
        raise ValueError("early_stopping=True needs X_val and y_val here: no rows of a stream can be held out")
    source = Source(given)
    first = draft._is_first_pass(incremental=False)
    if is_classifier(draft) and classes is None and not first:
        classes = draft.classes_
    gathers = is_classifier(draft) and classes is None
    counts = gathers or n_rows is None
    if source.once:
        _check_passes(draft, counts=counts, scales=fitting.learns_scaling(draft, first=first))
    if n_rows is not None:
        n_rows = check_count("n_rows", n_rows)
    dtypes = draft._dtypes(first=first)
    number, chunk = source.peek()
    X, labels, _, dtype = check_chunk(draft, chunk, number, dtypes, reset=first)
    inputs = X.shape[1]
    if counts:
        found, known = _first_pass(draft, source, dtype, gathers=gathers)
        n_rows = found if n_rows is None else n_rows
        classes = known if gathers else classes
    encoded, loss = draft._encode_first_chunk(labels, dtype, first=first, classes=classes)
    network = draft._network_for(inputs, encoded.shape[1], loss, dtype)
    draft._check_network(network, first=first)
    scored = draft._check_validation(*validation, network)

    def chunks() -> Iterator[Chunk]:
        counted, number = False, -1
        for number, chunk in source.one_pass():
            X, labels, weight, _ = check_chunk(draft, chunk, number, (dtype,), reset=False)
            with chunk_named(number):
                y = draft._encode_chunk(labels, network)
                weight = draft._loss_weight(y, weight)
            counted = counted or weight is None or bool(weight.any())
            yield X, y, weight
        if number >= 0 and not counted:
            raise ValueError("the weights of source, or those of the classes, must not be zero for every row")

    random = random_source(draft.random_state)
    stream = Stream(chunks, (n_rows, inputs))
    return network, fitting.Data(stream, None, None, None, None, scored, first, False, random, (given, None))


def _check_passes(draft: MultilayerPerceptron, *, counts: bool, scales: bool) -> None:
    """ValueError if a source that can be read once must be read more often."""
    reasons = [f"max_iter={draft.max_iter} epochs"] if draft.max_iter > 1 else []
    if counts:
        reasons.append("n_rows" + (" and classes" if is_classifier(draft) else "") + " (unless they are given)")
    if scales:
        reasons.append("standardising")
    if draft.max_iter + counts + scales > 1:
        raise ValueError(
            f"source is an iterator, which can be read once, but more passes are needed for {', '.join(reasons)}: give "
            "a list of chunks, or a callable that returns a new iterator each time"
        )


def _first_pass(
    draft: MultilayerPerceptron, source: Source, dtype: str, *, gathers: bool
) -> tuple[int, np.ndarray | None]:
    """Number of rows, and the classes if they are to be gathered."""
    rows, classes = 0, None
    for number, chunk in source.one_pass():
        X, labels, _, _ = check_chunk(draft, chunk, number, (dtype,), reset=False)
        rows += X.shape[0]
        if gathers:
            found = distinct_labels(labels)
            classes = found if classes is None else np.union1d(classes, found)
    return rows, classes
