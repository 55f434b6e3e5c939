"""Model files as C reads them, beside Python: what `test_c_models.py` and its sisters share."""

import warnings

import fuzz_files
import numpy as np
import saved_models
from builds import ROOT
from fuzz_files import joined, split

import pymlp
from pymlp import Predictor, backends
from pymlp.files import ModelFormatError

if backends.missing_reason("c") is None:
    from pymlp._engine import ffi, lib

GOLDEN = ROOT / "tests" / "golden"
OUT_OF_MEMORY, BAD_ARGUMENT, NO_INSTRUCTION_SET, UNREADABLE, BAD_MODEL = 1, 5, 6, 7, 8
# members of a file's header
STATE = ("__metadata__", "state")
NETWORK = ("__metadata__", "network")
PARAMETERS = (*STATE, "parameters")


class CModel:
    """A model as C reads it."""

    def __init__(self, content):
        owner, message = ffi.new("pymlp_model **"), ffi.new("char[500]")
        self.code = lib.pymlp_model_read(owner, ffi.from_buffer(content or b"-"), len(content), message, 500)
        self.message = ffi.string(message).decode()
        self.model = ffi.gc(owner[0], lib.pymlp_model_free) if owner[0] != ffi.NULL else None
        assert (self.code == 0) == (self.model is not None) == (self.message == "")

    @property
    def dtype(self):
        return f"float{lib.pymlp_model_dtype(self.model)}"

    @property
    def columns(self):
        return lib.pymlp_model_columns(self.model)

    def predict(self, X):
        out = np.full((len(X), self.columns), np.nan, self.dtype)
        assert lib.pymlp_predict(self.model, ffi.from_buffer(X), len(X), ffi.from_buffer(out)) == 0
        return out

    def value_and_gradient(self, X):
        out = np.full((len(X), self.columns), np.nan, self.dtype)
        gradient = np.full((len(X), self.columns, X.shape[1]), np.nan, self.dtype)
        code = lib.pymlp_value_and_gradient(
            self.model, ffi.from_buffer(X), len(X), ffi.from_buffer(out), ffi.from_buffer(gradient)
        )
        assert code == 0
        return out, gradient

    def texts(self, function, count):
        found, length = [], ffi.new("int64_t *")
        for number in range(count):
            text = function(self.model, number, length)
            found.append(None if text == ffi.NULL else ffi.buffer(text, length[0] + 1)[:].decode())
        assert all(text is None or text[-1] == "\0" for text in found)
        assert function(self.model, count, ffi.NULL) == ffi.NULL
        assert function(self.model, -1, ffi.NULL) == ffi.NULL
        return [None if text is None else text[:-1] for text in found]


def python_model(content, path):
    """What Python reads, or None; and what it says."""
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pymlp.load(path), ""
    except ModelFormatError as error:
        return None, str(error)


def predictor_of(model):
    return Predictor(*model) if isinstance(model, tuple) else Predictor(model)


def check_agreement(content, path):
    """C and Python make models with the same answers of the file, or both refuse it; whether they took it."""
    model, said = python_model(content, path)
    found = CModel(content)
    assert (found.model is None) == (model is None), f"C: {found.message or 'taken'}; Python: {said or 'taken'}"
    if model is None:
        assert found.code == BAD_MODEL
        assert found.message.startswith("the model is not a valid model file: ")
        assert "\n" not in found.message
        return False
    predictor = predictor_of(model)
    X = np.resize(saved_models.rows(), (5, predictor.network.inputs)).astype(predictor.network.dtype)
    with np.errstate(all="ignore"):
        assert found.predict(X).tobytes() == predictor(X).tobytes()
    return True


def saved(model, path):
    pymlp.save(model, path)
    return path.read_bytes()


def without_digest(content):
    header, data = split(content)
    return joined(header, data, "none")


def tree(value):
    """A value as the fuzzer's writer takes it."""
    if isinstance(value, dict):
        return fuzz_files.Pairs((name, tree(item)) for name, item in value.items())
    return [tree(item) for item in value] if isinstance(value, list) else value


def at(header, *names):
    """The object at the end of a path through a header."""
    for name in names:
        header = next(item for key, item in header if key == name)
    return header


def with_member(header, names, name, value):
    """The header with a member of one of its objects set, or added."""
    header = fuzz_files._copied(header)
    where = at(header, *names)
    where[:] = [(key, item) for key, item in where if key != name]
    where.append((name, tree(value)))
    return header


def golden_tree(name):
    return split((GOLDEN / f"{name}.safetensors").read_bytes())


def check_values(path, header, data, names, name, values):
    taken = 0
    for value in values:
        content = joined(with_member(header, names, name, value), data)
        try:
            taken += check_agreement(content, path)
        except AssertionError as error:
            raise AssertionError(f"{name}={value!r}: {error}") from error
    return taken
