"""Reading tables: what each format gives, and the row and column that every error names."""

import re
import sys

import numpy as np
import pytest

from pymlp.tables import DataError, read_table


def _file(tmp_path, text, name="data.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def _npz(tmp_path, **arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


def test_csv_columns_and_target(tmp_path):
    path = _file(tmp_path, "a,b,kind\n1,2.5,x\n\n-3e2,.5, y\n")
    table = read_table(path, target="kind")
    np.testing.assert_array_equal(table.X, [[1, 2.5], [-300, 0.5]])
    assert table.X.dtype == np.float64
    assert table.names == ("a", "b")
    assert table.y.tolist() == ["x", "y"]
    assert table.place(1) == "row 2 (line 4)"


@pytest.mark.parametrize(
    ("cells", "kind"), [(["1", "-2", "+3"], "i"), (["1", "2.0", "3"], "f"), (["1", "b", "3"], "U"), (["9" * 19], "f")]
)
def test_csv_target_kinds(tmp_path, cells, kind):
    path = _file(tmp_path, "a,t\n" + "".join(f"1,{cell}\n" for cell in cells))
    y = read_table(path, target="t").y
    assert y.dtype.kind == kind
    assert [type(y[0].item())(cell) for cell in cells] == y.tolist()


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a,b\n1,2\n", None),
        ("a;b\n1;2\n", None),
        ("a\tb\n1\t2\n", None),
        ("a|b\n1|2\n", "|"),
        ('"a;x,y,z";b\n1;2\n', None),
        ("a b\n1 2\n", " "),
        ("\ufeffa,b\r\n1,2\r\n", None),
        ('a,"b"\n"1"," 2"\n', None),
    ],
)
def test_csv_separators_quotes_and_line_ends(tmp_path, text, separator):
    table = read_table(_file(tmp_path, text), separator=separator)
    assert table.X.tolist() == [[1, 2]]
    assert table.names[1] == "b"
    assert table.names[0].startswith("a")


def test_csv_chosen_columns_ignore_the_others(tmp_path):
    path = _file(tmp_path, "a,b,c\n1,text,3\n4,,6\n")
    assert read_table(path, columns=("c", "a")).X.tolist() == [[3, 1], [6, 4]]
    assert read_table(path, drop=("b",)).X.tolist() == [[1, 3], [4, 6]]


def test_csv_header_of_consecutive_numbers_is_a_header(tmp_path):
    assert read_table(_file(tmp_path, "0,1\n5,6\n")).names == ("0", "1")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "the first line is empty; it must hold the names"),
        ("a,b\n", {}, "there are no rows"),
        ("a\n1\n", {"target": "a"}, "there are no input columns"),
        ("1.5,2\n3,4\n", {}, "the first line holds numbers; it must hold the names"),
        (
            ",a\n0,1\n",
            {},
            "column 1 has no name (if pandas wrote its row index there, write the file with index=False)",
        ),
        ("a,b,a\n1,2,3\n", {}, "two columns have the name 'a'"),
        ("a,b\n1,2\n3\n", {}, "line 3 has 1 cells, and the header line has 2"),
        ("a,b\n1,2,\n", {}, "line 2 has 3 cells, and the header line has 2"),
        ("a,b\n1,2\n3,x\n", {}, "row 2 (line 3), column 'b': the text 'x' stands where a number is needed"),
        ("a,b\n1,x\n", {}, "pandas.get_dummies), or leave the column out with --drop 'b'"),
        ("a,b\n1_0,2\n", {}, "row 1 (line 2), column 'a': the text '1_0'"),
        ("a;b\n1,5;2\n", {}, "column 'a': '1,5' is not a number; write decimals with a point"),
        ("a,b\n1,2\n\n,3\n", {}, "row 2 (line 4), column 'a': a value is missing ('')"),
        ("a,b\n1,NA\n", {}, "column 'b': a value is missing ('NA'); fill such cells or leave their rows out"),
        ("a,b\n1,nan\n", {}, "row 1 (line 2), column 'b': a value is missing (NaN)"),
        ("a,b\n1,2\n1,-inf\n", {}, "row 2 (line 3), column 'b': the value is infinite"),
        ("a,b\n1,2\n1,1e999\n", {}, "row 2 (line 3), column 'b': the value is infinite"),
        ("a,b\n1,2\n1,?\n", {"target": "b"}, "row 2 (line 3), column 'b': a value is missing ('?')"),
        ("a,b\n1,2.5\n1,inf\n", {"target": "b"}, "row 2 (line 3), column 'b': the value is infinite"),
        ("age,size\n1,2\n", {"target": "aeg"}, "there is no column 'aeg' (did you mean 'age'?); there are: age, size"),
        ("age,size\n1,2\n", {"drop": ("x",)}, "there is no column 'x'; there are: age, size"),
        ("age,size\n1,2\n", {"columns": ("ages",)}, "there is no column 'ages' (did you mean 'age'?)"),
        ("age,size\n1,2\n", {"columns": ("x", "age", "y")}, "2 columns are missing: 'x', 'y'"),
        ("a,b\n1,2\n", {"target": "b", "drop": ("b",)}, "column 'b' is the target and cannot be left out"),
        ("a,b\n1,2\n", {"separator": ",,"}, "separator=',,' must be one character"),
        ("a,b\n1,2\n", {"separator": '"'}, "must be one character, not a quotation mark"),
        ("a,b\n1,2\n" + "3," + "4" * 200_000 + "\n", {}, "line 3: field larger than field limit"),
    ],
)
def test_csv_errors(tmp_path, text, options, message):
    path = _file(tmp_path, text)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_table(path, **options)
    assert "\n" not in str(caught.value)


def test_csv_errors_name_the_line_also_behind_cells_of_several_lines(tmp_path):
    path = _file(tmp_path, 'a,t\n1,"x\ny"\noops,z\n')
    with pytest.raises(DataError, match=r"row 2 \(line 4\), column 'a'"):
        read_table(path, target="t")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_csv_in_another_encoding(tmp_path, encoding):
    path = _file(tmp_path, "gr\u00f6\u00dfe,b\n1,2\n", encoding=encoding)
    with pytest.raises(DataError, match=r"is not text in UTF-8 \(byte 0x"):
        read_table(path)


def test_files_that_are_not_there_or_of_no_known_kind(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "data.csv")
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "data.npz")
    with pytest.raises(DataError, match=r"the ending must be one of \.csv, "):
        read_table(_file(tmp_path, "a\n1\n", "data.xlsx"))


def test_npz_of_matrices(tmp_path):
    path = _npz(tmp_path, X=np.eye(3, dtype=np.float16), y=np.array([[1], [0], [1]], np.uint8), note=np.array("x"))
    table = read_table(path)
    assert table.X.dtype == np.float32
    assert table.names is None
    assert table.y.tolist() == [1, 0, 1]
    assert table.y.dtype == np.int64


def test_npz_with_feature_names(tmp_path):
    path = _npz(
        tmp_path, X=np.arange(6.0).reshape(2, 3), y=np.array(["a", "b"]), feature_names=np.array(["p", "q", "r"])
    )
    table = read_table(path, columns=("r", "p"))
    assert table.X.tolist() == [[2, 0], [5, 3]]
    assert table.names == ("r", "p")
    assert read_table(path, drop=("q",)).names == ("p", "r")


def test_npz_with_an_official_test_part(tmp_path):
    pictures = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    labels = np.array([True, False, True])
    path = _npz(tmp_path, X_train=pictures, y_train=labels, X_test=pictures[:1], y_test=labels[:1])
    table = read_table(path)
    assert table.X.shape == (3, 8)
    assert table.X.dtype == np.uint8
    assert table.y.tolist() == ["True", "False", "True"]
    assert table.X_test.shape == (1, 8)
    assert table.y_test.tolist() == ["True"]


def test_npz_of_columns(tmp_path):
    path = _npz(tmp_path, a=np.array([1, 2]), flag=np.array([True, False]), t=np.array([0.5, 1.5]), note=np.array(3))
    table = read_table(path, target="t")
    assert table.names == ("a", "flag")
    assert table.X.tolist() == [[1, 1], [2, 0]]
    assert table.y.tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"note": np.array(1)}, {}, "there are no arrays X and y, nor columns by name"),
        ({"X_num": np.eye(2)}, {}, "there is no array 'X', and the array 'X_num' of shape (2, 2) is no column"),
        ({"a": np.ones(2), "b": np.ones(3)}, {}, "column 'a' has 2 rows and column 'b' 3"),
        ({"a": np.ones(2), "b": np.array(["x", "y"])}, {}, "the array 'b' must hold numbers, found <U1"),
        ({"a": np.ones(2), "b": np.ones(2)}, {"target": "c"}, "there is no column 'c'; there are: a, b"),
        ({"X": np.eye(2), "y": np.ones(3)}, {}, "the array 'y' must have the shape (2,), found (3,)"),
        ({"X": np.eye(2), "y": np.eye(2)}, {}, "the array 'y' must have the shape (2,), found (2, 2)"),
        ({"X": np.eye(2), "y": np.ones(2) * 1j}, {}, "the array 'y' must hold numbers or text, found complex128"),
        ({"X": np.ones(2), "y": np.ones(2)}, {}, "the array 'X' must have 2 dimensions, found the shape (2,)"),
        ({"X": np.eye(2) * 1j, "y": np.ones(2)}, {}, "the array 'X' must hold numbers, found complex128"),
        ({"X": np.eye(2), "y": np.ones(2)}, {"target": "b"}, "holds arrays X and y, so the target is y"),
        ({"X": np.eye(2), "y": np.ones(2)}, {"drop": ("b",)}, "the columns of X have no names"),
        ({"X": np.ones((0, 2)), "y": np.ones(0)}, {}, "there are no rows"),
        ({"X": np.array([[1, 2], [3, np.nan]]), "y": np.ones(2)}, {}, "row 2, column 2: a value is missing (NaN)"),
        ({"X": np.eye(2), "y": np.array([np.inf, 1])}, {}, "row 1, column 'y': the value is infinite"),
        ({"X": np.array([["a"]]), "y": np.ones(1)}, {}, "the array 'X' must hold numbers, found <U1"),
        ({"X": np.array([[None]]), "y": np.ones(1)}, {}, "is not a readable NPZ file: Object arrays cannot be loaded"),
        (
            {"X_train": np.eye(2), "y_train": np.ones(2), "X_test": np.eye(3)},
            {},
            "X_train has 2 columns and X_test has 3",
        ),
        ({"X_train": np.eye(2), "y_train": np.ones(2), "X_test": np.eye(2)}, {}, "an array X_test but no array y_test"),
        (
            {"X_train": np.eye(2), "y_train": np.ones(2), "X_test": np.diag([1, np.inf]), "y_test": np.ones(2)},
            {},
            "row 2, of the test part, column 2: the value is infinite",
        ),
    ],
)
def test_npz_errors(tmp_path, arrays, options, message):
    path = _npz(tmp_path, **arrays)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_table(path, **options)
    assert "\n" not in str(caught.value)


def test_a_damaged_npz(tmp_path):
    path = _npz(tmp_path, X=np.eye(4), y=np.ones(4))
    content = path.read_bytes()
    for damaged in (b"", b"junk", content[: len(content) // 2], content.replace(b"<f8", b"<q8")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is not a readable NPZ file"):
            read_table(path)


@pytest.fixture
def pandas():
    pytest.importorskip("pyarrow", reason="Parquet needs the extra 'table'")
    return pytest.importorskip("pandas", reason="Parquet needs the extra 'table'")


def test_parquet(tmp_path, pandas):
    path = tmp_path / "data.parquet"
    frame = pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False], "t": ["x", "y"]})
    frame["d"] = pandas.array([7, 8], dtype="Int64")
    frame.to_parquet(path)
    table = read_table(path, target="t")
    assert table.names == ("a", "b", "c", "d")
    assert table.X.tolist() == [[1, 0.5, 1, 7], [2, 1.5, 0, 8]]
    assert table.y.tolist() == ["x", "y"]
    assert read_table(path, target="a", columns=("d", "b")).y.dtype == np.int64
    assert read_table(path, target="c", drop=("t",)).y.tolist() == ["True", "False"]
    assert read_table(path, target="d", drop=("t",)).y.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"a": [1.0, None], "b": [1, 2]}, {}, "row 2, column 'a': a value is missing (NaN)"),
        ({"a": [None, "x"], "b": [1, 2]}, {}, "row 2, column 'a': the text 'x' stands where a number is needed"),
        ({"a": [1, 2], "b": ["x", None]}, {"target": "b"}, "row 2, column 'b': a value is missing"),
        ({"a": [1, 2], "b": [1.5, None]}, {"target": "b"}, "row 2, column 'b': a value is missing"),
        ({"a": [1, 2]}, {"target": "b"}, "there is no column 'b'; there are: a"),
    ],
)
def test_parquet_errors(tmp_path, pandas, columns, options, message):
    path = tmp_path / "data.pq"
    pandas.DataFrame(columns).to_parquet(path)
    with pytest.raises(DataError, match=re.escape(message)):
        read_table(path, **options)


def test_a_damaged_parquet(tmp_path, pandas):
    with pytest.raises(DataError, match="is not a readable Parquet file"):
        read_table(_file(tmp_path, "junk" * 100, "data.parquet"))
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "missing.parquet")


def test_parquet_without_pandas(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"need pandas and pyarrow: pip install 'pymlp\[table\]'"):
        read_table(_file(tmp_path, "", "data.parquet"))


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_a_flipped_bit_is_refused_or_read(tmp_path, ending, request):
    path = tmp_path / f"data.{ending}"
    if ending == "npz":
        np.savez_compressed(path, X=np.eye(3), y=np.arange(3))
    else:
        request.getfixturevalue("pandas").DataFrame({"a": [1, 2], "b": [0.5, 1]}).to_parquet(path)
    content = path.read_bytes()
    refused = 0
    for position in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            read_table(path)
        except DataError:
            refused += 1
    assert refused > 0
