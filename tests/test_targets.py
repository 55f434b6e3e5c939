"""Class labels and output columns, compared with scikit-learn's LabelBinarizer."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="compares with the binarizer of scikit-learn")

from scipy import sparse
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import type_of_target, unique_labels

from pymlp.losses import (
    BinaryFocal,
    BinaryLogLoss,
    CustomLoss,
    Focal,
    GaussianNLL,
    Hinge,
    LogLoss,
    Quantile,
    SquaredError,
)
from pymlp.targets import ClassTargets, NumberTargets, distinct_labels

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


# ------------------------------------------------------------------------------------------------------ losses, numbers


def _own(y, output):
    raise AssertionError


@pytest.mark.parametrize(
    ("asked", "joint", "single"),
    [
        ("log_loss", "log_loss", "binary_log_loss"),
        (LogLoss(0.1), LogLoss(0.1), BinaryLogLoss(0.1)),
        ("focal", "focal", BinaryFocal()),
        (Focal(3.0), Focal(3.0), BinaryFocal(3.0)),
        ("hinge", "hinge", "hinge"),
        (Hinge(), Hinge(), Hinge()),
        (_own, CustomLoss(_own, "softmax"), CustomLoss(_own, "logistic")),
        (CustomLoss(_own), CustomLoss(_own), CustomLoss(_own)),
    ],
)
def test_the_targets_decide_the_form_of_a_loss(asked, joint, single):
    for name in ("multiclass", "text"):
        assert ClassTargets.from_labels(LABELS[name]).loss(asked) == joint
    for name in ("binary", "one class", "multilabel"):
        assert ClassTargets.from_labels(LABELS[name]).loss(asked) == single


def test_a_form_for_single_columns_does_not_fit_a_softmax():
    with pytest.raises(ValueError, match=r"BinaryLogLoss.* does not fit more than two classes; give LogLoss"):
        ClassTargets.from_labels(LABELS["multiclass"]).loss(BinaryLogLoss())
    assert ClassTargets.from_labels(LABELS["binary"]).loss(BinaryFocal()) == BinaryFocal()


def test_scores_are_decided_at_zero():
    outputs = np.array([[-0.5], [0.2], [0.7]])
    targets = ClassTargets("binary", np.array([3, 4]))
    assert targets.decode(outputs).tolist() == [3, 3, 4]
    assert ClassTargets("binary", np.array([3, 4]), threshold=0.0).decode(outputs).tolist() == [3, 4, 4]
    columns = ClassTargets("multilabel-indicator", np.arange(1), threshold=0.0)
    assert columns.decode(outputs).tolist() == [[0], [1], [1]]


def test_numbers_stand_as_often_as_their_loss_has_outputs():
    y = np.array([[1.0, 2.0], [3.0, 4.0]])
    plain = NumberTargets(2, SquaredError())
    assert plain.encode(y) is y
    assert plain.decode(y).tolist() == y.tolist()
    levels = NumberTargets(2, Quantile([0.1, 0.5, 0.9]))
    assert levels.encode(y).tolist() == [[1, 1, 1, 2, 2, 2], [3, 3, 3, 4, 4, 4]]
    outputs = np.arange(12.0).reshape(2, 6)
    assert levels.decode(outputs).tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert NumberTargets(1, Quantile([0.1, 0.5, 0.9])).decode(outputs[:, :3]).tolist() == [[0, 1, 2], [6, 7, 8]]
    assert NumberTargets(1, Quantile([0.5])).decode(outputs[:, :1]).tolist() == [0, 6]
    normal = NumberTargets.of_outputs(4, "gaussian_nll")
    assert (normal.columns, normal.loss) == (2, GaussianNLL())
    assert normal.decode(outputs[:, :4]).tolist() == [[0, 2], [6, 8]]
    assert normal.deviations(outputs[:, :4]).tolist() == [[1, 3], [7, 9]]
    assert NumberTargets(1, GaussianNLL()).deviations(outputs[:, :2]).tolist() == [1, 7]
