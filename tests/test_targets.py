"""Class labels and output columns, compared with scikit-learn's LabelBinarizer."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="compares with the binarizer of scikit-learn")

from scipy import sparse
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import type_of_target, unique_labels

from pymlp.targets import ClassTargets, distinct_labels

LABELS = {
    "binary": np.array([5, -1, 5, 5]),
    "one class": np.array([7, 7]),
    "multiclass": np.array([2, 0, 9, 2, 0]),
    "text": np.array(["b", "a", "c", "b"]),
    "objects": np.array(["no", "yes", "no"], object),
    "booleans": np.array([True, False, True]),
    "floats": np.array([1.0, 2.0, 3.0]),
    "multilabel": np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0]]),
    "sparse multilabel": sparse.csr_matrix(np.array([[0, 1, 1], [1, 0, 0]])),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_columns_and_predictions_are_those_of_the_binarizer(labels):
    targets, binarizer = ClassTargets.from_labels(labels), LabelBinarizer().fit(labels)
    encoded = targets.encode(labels, "float32")
    np.testing.assert_array_equal(targets.classes, binarizer.classes_)
    np.testing.assert_array_equal(encoded, binarizer.transform(labels))
    assert encoded.dtype == "float32"
    assert encoded.shape[1] == targets.columns
    outputs = np.random.RandomState(0).uniform(size=(20, targets.columns))
    ours, theirs = targets.decode(outputs), binarizer.inverse_transform(outputs)
    assert sparse.issparse(ours) == sparse.issparse(theirs)
    if sparse.issparse(ours):
        ours, theirs = ours.toarray(), theirs.toarray()
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("span", [0, 1, 2, 127, 4095, 4096, 10**6])
@pytest.mark.parametrize("end", ["lowest", "zero", "highest"])
def test_whole_numbers_are_what_scikit_learn_takes_them_for(dtype, span, end):
    if dtype == "bool":
        lowest, highest = 0, 1
    else:
        lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    start = {"lowest": lowest, "zero": 0, "highest": max(lowest, highest - span)}[end]
    labels = np.array([min(start + step, highest) for step in (span, 0, span // 2, 0)]).astype(dtype)
    found, expected = distinct_labels(labels), unique_labels(labels)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype
    targets = ClassTargets.from_labels(labels)
    assert targets.kind == type_of_target(labels)
    assert targets.classes.dtype == expected.dtype


@pytest.mark.parametrize("values", [(0, 1), (1, 1), (0, 0), (1, 2), (-1, 1), (0, 5), (0, 1, 2)], ids=str)
def test_label_matrices_are_what_scikit_learn_takes_them_for(values):
    labels = np.resize(np.array(values), (5, 3))
    kind = type_of_target(labels)
    if kind == "multilabel-indicator":
        targets = ClassTargets.from_labels(labels)
        assert targets.kind == kind
        np.testing.assert_array_equal(targets.classes, unique_labels(labels))
    else:
        with pytest.raises(ValueError, match=kind):
            ClassTargets.from_labels(labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.5, 1.5, 2.7]), "Unknown label type: continuous"),
        (np.array([[1, 2], [3, 4]]), "multiclass-multioutput"),
    ],
)
def test_what_is_not_a_class_is_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        ClassTargets.from_labels(labels)


def test_the_layout_cannot_change():
    with pytest.raises(ValueError, match="was fitted to multiclass"):
        ClassTargets.from_labels(LABELS["multiclass"]).encode(LABELS["multilabel"], "float64")
    with pytest.raises(ValueError, match="has 2 label columns, but the model was fitted to 3"):
        ClassTargets.from_labels(LABELS["multilabel"]).encode(np.array([[1, 0], [1, 1]]), "float64")
