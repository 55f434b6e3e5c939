"""The place of the first number that is not finite."""

import numpy as np
import pytest

from pymlp import finiteness
from pymlp.finiteness import check_finite, first_non_finite


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(finiteness, "CHUNK_ELEMENTS", 10)


@pytest.mark.parametrize("place", [(0, 0), (2, 3), (3, 0), (7, 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_first_of_a_dense_array(place, value):
    array = np.ones((8, 4), "float32")
    array[place] = array[7, 3] = value
    assert str(first_non_finite(array)) == str((*place, np.float32(value)))


def test_large_finite_numbers_whose_sum_overflows():
    assert first_non_finite(np.full((20, 4), 3e38, "float32")) is None


def test_other_kinds_and_no_rows_count_as_finite():
    assert first_non_finite(np.ones((3, 2), int)) is None
    assert first_non_finite(np.ones((0, 2))) is None
    assert first_non_finite(np.ones((2, 0))) is None


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "coo_matrix"])
def test_first_of_a_sparse_matrix(kind):
    sparse = pytest.importorskip("scipy.sparse", reason="needs SciPy")
    array = np.eye(6)
    assert first_non_finite(getattr(sparse, kind)(array)) is None
    array[4, 2] = array[4, 1] = array[5, 0] = np.nan
    row, column, value = first_non_finite(getattr(sparse, kind)(array))
    assert (row, column) == (4, 1)
    assert np.isnan(value)
    array[np.isnan(array)] = 1e39
    assert first_non_finite(getattr(sparse, kind)(array)) is None
    assert first_non_finite(getattr(sparse, kind)(array), "float32") == (4, 1, 1e39)


def test_the_error_names_array_and_column():
    array = np.ones((4, 2))
    array[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"Input X contains NaN: first in row 3, column 1 \(counted from 0\)"):
        check_finite("X", array)
    with pytest.raises(ValueError, match=r"Input weight contains NaN: first in row 3 \(counted from 0\)"):
        check_finite("weight", array[:, 1])
    array[3, 1] = -np.inf
    with pytest.raises(ValueError, match=r"infinity: first in row 3, column 1 \(counted from 0\), where it is -inf"):
        check_finite("X", array)


def test_what_another_type_cannot_hold_is_not_finite():
    array = np.ones((8, 4))
    array[6, 2] = 1e39
    assert first_non_finite(array) is None
    assert first_non_finite(array, "float32") == (6, 2, 1e39)
    with pytest.raises(ValueError, match=r"too large for float32: first in row 6, column 2 .*, where it is 1e\+39"):
        check_finite("X", array, "float32")
