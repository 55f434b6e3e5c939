"""Model files that mean harm, that were damaged, and those that were being written when something failed."""

import errno
import io
import json
import os
import resource
import tempfile
import time
import tracemalloc
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import saved_models
from hostile_files import BOMBS, file_of, model_file

import pymlp
from pymlp import Network, replacement
from pymlp.container import LONGEST_HEADER
from pymlp.files import ModelFormatError, load, read, save, save_network

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SECONDS = 0.05
# beside twice the file: what the values of a header within bounds take, whatever they are, and what an error takes
ROOM, SMALL_ROOM = 4 << 20, 1 << 17
UNPARSED = {
    *("a length of 2**64 - 1", "a length of 2**63", "a million tensors", "as many tensors as fit", "deep lists"),
    *("deep lists that end", "deep objects", "empty lists", "empty strings", "zeros", "a million layers"),
}


@pytest.fixture
def memory():
    """A folder in memory, for tests that write thousands of files."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder)


def _refused(path):
    """Seconds of the processor until a file is refused."""
    start = time.process_time()
    with pytest.raises(ModelFormatError) as caught:
        load(path)
    seconds = time.process_time() - start
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    str(caught.value).encode()
    return seconds


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_at_once_and_takes_no_memory(tmp_path, name):
    path = tmp_path / "model"
    content = BOMBS[name]()
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert min(_refused(path) for _ in range(3)) < SECONDS

    # which grows by what the allocator takes at once
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 2 * len(content) + 2 * ROOM
    tracemalloc.start()
    try:
        _refused(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # what is out of bounds is not even parsed
    assert peak < 2 * len(content) + (SMALL_ROOM if name in UNPARSED else ROOM)


def test_the_same_file_without_a_bomb_loads(tmp_path):
    (tmp_path / "model").write_bytes(model_file())
    assert load(tmp_path / "model")[0].widths == (1, 1)


def test_a_header_of_100_megabytes_is_not_even_read(tmp_path):
    path = tmp_path / "model"
    with open(path, "wb") as stream:
        stream.write((100_000_000).to_bytes(8, "little") + b"{")
        stream.truncate(100_000_100)
    tracemalloc.start()
    try:
        assert min(_refused(path) for _ in range(3)) < SECONDS
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------------------------------------------- the state


def _file_with(model, path, change):
    """The file of a model after a change of its state, with the right digest."""
    save(model, path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    state = json.loads(header["__metadata__"]["state"])
    change(state)
    header["__metadata__"]["state"] = json.dumps(state)
    header["__metadata__"]["sha256"] = "0" * 64
    path.write_bytes(file_of(json.dumps(header), content[8 + size :]))


@pytest.fixture(scope="module")
def fitted():
    return saved_models.models()


def _put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(state):
        for key in keys:
            state = state[key]
        state[last] = value

    return change


def _option(kind, **parameters):
    return {"option": kind, "parameters": parameters}


STATES = {
    "code at an address": ("own_loss", _put("parameters", "loss", _option("CompiledLoss", function=4096))),
    "a function": ("own_loss", _put("parameters", "loss", _option("CustomLoss", function="os.system"))),
    "no loss": ("regressor", _put("parameters", "loss", _option("Loss"))),
    "an optimizer as the loss": ("regressor", _put("parameters", "loss", _option("Adam"))),
    "another loss": ("regressor", _put("parameters", "loss", "poisson")),
    "a loss of classes": ("regressor", _put("parameters", "loss", "log_loss")),
    "no optimizer": ("regressor", _put("parameters", "solver", _option("Optimizer"))),
    "a loss as the solver": ("regressor", _put("parameters", "solver", _option("Huber", delta=1.0))),
    "an optimizer with an odd number": ("regressor", _put("parameters", "solver", _option("AdamW", weight_decay=-1))),
    "an optimizer with a text": ("regressor", _put("parameters", "solver", _option("AdamW", weight_decay="1"))),
    "an optimizer with an odd parameter": ("regressor", _put("parameters", "solver", _option("AdamW", depth=1))),
    "an optimizer without parameters": ("regressor", _put("parameters", "solver", {"option": "AdamW"})),
    "parameters as a list": ("regressor", _put("parameters", "solver", {"option": "AdamW", "parameters": []})),
    "a kind that is a list": ("regressor", _put("parameters", "solver", {"option": ["AdamW"], "parameters": {}})),
    "any class": ("regressor", _put("parameters", "solver", _option("CSVLog", path="log.csv"))),
    "a layer of any width": ("regressor", _put("parameters", "hidden_layer_sizes", [{"layer": {"outputs": 0}}])),
    "a layer without a width": ("regressor", _put("parameters", "hidden_layer_sizes", [{"layer": {}}])),
    "a layer that is none": ("regressor", _put("parameters", "hidden_layer_sizes", [{"layer": [3]}])),
    "widths that are texts": ("regressor", _put("parameters", "hidden_layer_sizes", ["5"])),
    "a negative penalty": ("regressor", _put("parameters", "alpha", -1.0)),
    "a penalty that is a list": ("regressor", _put("parameters", "alpha", [0.1])),
    "a huge seed": ("regressor", _put("parameters", "random_state", 2**63)),
    "a dict as a parameter": ("regressor", _put("parameters", "tol", {"a": 1})),
    "weights of no classes": ("weighted", _put("parameters", "class_weight", {"keys": ["a"], "values": []})),
    "weights of a class twice": ("weighted", _put("parameters", "class_weight", {"keys": ["a"] * 2, "values": [1, 2]})),
    "weights of a list": ("weighted", _put("parameters", "class_weight", {"keys": [["a"]], "values": [1]})),
    "weights without values": ("weighted", _put("parameters", "class_weight", {"keys": 1, "values": 2})),
    "an unknown record": ("regressor", _put("fitted", "__class__", 1)),
    "a record of another kind": ("regressor", _put("fitted", "loss_", "1")),
    "a curve of texts": ("regressor", _put("fitted", "loss_curve_", ["1"])),
    "a negative count": ("regressor", _put("fitted", "n_iter_", -1)),
    "a count that is a truth value": ("regressor", _put("fitted", "n_iter_", True)),
    "a history that is no dict": ("regressor", _put("fitted", "history_", [])),
    "a history of other things": ("regressor", _put("fitted", "history_", {"loss": []})),
    "a history of texts": ("regressor", _put("fitted", "history_", "loss", ["1", "2", "3"])),
    "a history of two lengths": ("regressor", _put("fitted", "history_", "loss", [1.0])),
    "a history of odd scores": ("regressor", _put("fitted", "history_", "validation_score", ["1", "2", "3"])),
    "records that are a list": ("regressor", _put("fitted", [])),
    "an unknown entry": ("regressor", _put("more", 1)),
    "classes of numbers": ("regressor", _put("classes", {"kind": "binary", "dtype": "<i8", "values": [0]})),
    "names of other columns": ("regressor", _put("features", ["a"])),
    "names that are a text": ("regressor", _put("features", "abcd")),
    "names that are numbers": ("regressor", _put("features", [1, 2, 3, 4])),
    "labels of a huge type": ("strings", _put("classes", "dtype", "<U1000000000")),
    "labels of a large type": ("strings", _put("classes", "dtype", "<U999999")),
    "labels of a narrow type": ("strings", _put("classes", "dtype", "<U2")),
    "labels of objects that are lists": ("objects", _put("classes", "values", [[1], [2], [3]])),
    "labels of structures": ("strings", _put("classes", "dtype", "f4,f4")),
    "labels of an array type": ("strings", _put("classes", "dtype", "(1000000000,)f8")),
    "labels of a type that is no text": ("strings", _put("classes", "dtype", {"names": ["a"]})),
    "labels of another type": ("multiclass", _put("classes", "values", ["a", "b", "c"])),
    "labels that do not fit": (
        "multiclass",
        _put("classes", {"kind": "multiclass", "dtype": "|i1", "values": [-500, 3, 9], "sparse_labels": False}),
    ),
    "labels too large": ("multiclass", _put("classes", "values", [0, 1, 2**63])),
    "labels that do not ascend": ("multiclass", _put("classes", "values", [1, 3, 2])),
    "a label twice": ("multiclass", _put("classes", "values", [1, 1, 2])),
    "fewer labels": ("multiclass", _put("classes", "values", [1, 2])),
    "no labels": ("multiclass", _put("classes", "values", [])),
    "labels that are a dict": ("multiclass", _put("classes", {"kind": "multiclass"})),
    "labels that are no dict": ("multiclass", _put("classes", "abc")),
    "an odd kind": ("multiclass", _put("classes", "kind", "binary")),
    "a kind of lists": ("multiclass", _put("classes", "kind", ["binary"])),
    "sparse labels that are none": ("multiclass", _put("classes", "sparse_labels", True)),
    "sparse labels by a number": ("multilabel", _put("classes", "sparse_labels", 1)),
    "numbers that are not one": ("numbers_as_labels", _put("classes", "values", [0.5, float("nan")])),
    "numbers that float32 cannot hold": ("numbers_as_labels", _put("classes", "values", [0.1, 0.3])),
    "a scaling that is a list": ("standardize", _put("standardisation", [[1.0] * 4, [1.0] * 4])),
    "a scaling of the inputs alone": ("standardize", _put("standardisation", {"inputs": None})),
    "a scaling of texts": ("standardize", _put("standardisation", "inputs", [["1"] * 4, ["1"] * 4])),
    "a scaling without deviations": ("standardize", _put("standardisation", "inputs", [[1.0] * 4])),
    "a scaling of other columns": ("standardize", _put("standardisation", "inputs", [[1.0], [1.0]])),
    "a scaling by 0": ("standardize", _put("standardisation", "inputs", [[1.0] * 4, [0.0] * 4])),
    "a scaling by no number": ("standardize", _put("standardisation", "inputs", [[float("nan")] * 4, [1.0] * 4])),
    "an infinite scaling": ("standardize_target", _put("standardisation", "target", [[1.0], [float("inf")]])),
    "a class of another file": ("regressor", _put("class", "MLPClassifier")),
    "a class with a long name": ("regressor", _put("class", "x" * 100_000)),
    "a class that is a list": ("regressor", _put("class", ["MLPRegressor"])),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_an_odd_state_is_refused(tmp_path, fitted, name):
    model, change = STATES[name]
    _file_with(fitted[model], tmp_path / "model", lambda state: None)
    load(tmp_path / "model")
    _file_with(fitted[model], tmp_path / "model", change)
    _refused(tmp_path / "model")


def test_two_classes_are_not_many(fitted):
    _, _, state = fitted["binary"]._model_state()
    state["classes"]["kind"] = "multiclass"
    network = Network.from_widths((4, 2), loss="log_loss", dtype="float64")
    with pytest.raises(ValueError, match="2 classes are not multiclass"):
        pymlp.MLPClassifier._from_model_state(network, network.initial_params(0), state)


@pytest.mark.parametrize(
    "loss",
    [
        _option("CompiledLoss", function=4096),
        _option("CustomLoss", function="os.system"),
        {"option": "CustomLoss", "parameters": []},
        _option("Loss"),
        _option("Adam"),
        _option("Huber", delta="1"),
        _option("Huber", depth=1),
        {"option": "Huber", "parameters": []},
        {"option": "Huber"},
        {"option": ["Huber"], "parameters": {}},
        ["squared_error"],
        3,
    ],
    ids=str,
)
def test_an_odd_loss_is_refused(tmp_path, loss):
    (tmp_path / "model").write_bytes(model_file({"loss": loss}))
    _refused(tmp_path / "model")


# ------------------------------------------------------------------------------------------ what is large but sound


def test_long_lists_are_kept_and_read_fast(tmp_path):
    many = 100_000
    network = Network.from_widths((1, 1))
    numbers = np.random.RandomState(0).normal(size=many).tolist()
    state = {
        "history": {"loss": numbers, "none": [], "odd": [float("nan")] * 300},
        "labels": list(range(-5, many)),
        "names": [f"column {number}" for number in range(many)],
        "nested": [["a"] * 300, ["b"] * 3],
        "empty": [""] * 300,
    }
    save_network(network, network.initial_params(0), tmp_path / "model", state)
    start = time.perf_counter()
    found = read(tmp_path / "model").state
    assert time.perf_counter() - start < 1.0
    assert repr(found) == repr(state)
    assert int.from_bytes((tmp_path / "model").read_bytes()[:8], "little") < 2000


def test_other_programs_read_the_weights_beside_long_lists(tmp_path):
    numpy_reader = pytest.importorskip("safetensors.numpy", reason="the public reader comes with the extra 'test'")
    network = Network.from_widths((3, 2))
    params = network.initial_params(0)
    state = {"names": ["\u00e4"] * 300, "numbers": [0.5] * 300, "counts": [3] * 300}
    save_network(network, params, tmp_path / "model", state)
    found = numpy_reader.load_file(tmp_path / "model")
    for name, values in network.views(params).items():
        np.testing.assert_array_equal(found.pop(name), values)
    assert sorted(found) == ["state.0", "state.1", "state.2"]
    assert found["state.0"].tobytes().decode().split("\0") == state["names"]


def test_a_large_file_is_in_memory_once(memory):
    network = Network.from_widths((1000, 2000, 1000))
    save_network(network, network.initial_params(0), memory / "model")
    size = (memory / "model").stat().st_size
    tracemalloc.start()
    try:
        _, params = load(memory / "model")
        assert tracemalloc.get_traced_memory()[1] < 1.5 * size
    finally:
        tracemalloc.stop()
    assert params.tobytes() == network.initial_params(0).tobytes()
    assert params.flags.writeable
    assert params.flags.aligned


def test_many_layers_are_kept(tmp_path):
    network = Network.from_widths((2,) * 800, "tanh")
    save_network(network, network.initial_params(0), tmp_path / "model")
    assert read(tmp_path / "model").network == network
    network = Network.from_widths((2,) * 5000, "tanh")
    with pytest.raises(ValueError, match=f"header of .* bytes is longer than the {LONGEST_HEADER} that are read"):
        save_network(network, network.initial_params(0), tmp_path / "model")


def test_a_long_fit_and_many_classes_are_kept(tmp_path):
    X = saved_models.rows()
    X = np.concatenate([X] * 50)
    y = np.array([f"class {number:05d}" for number in np.arange(len(X)) // 2])
    weights = dict.fromkeys(np.unique(y), 1.5)
    model = pymlp.MLPClassifier((1,), max_iter=300, n_iter_no_change=1000, class_weight=weights, batch_size=2000)
    model.max_iter = 3
    model.fit(X, y)
    # as of a fit of many epochs
    epochs = 100_000
    model.loss_curve_ = [1 / (epoch + 1) for epoch in range(epochs)]
    model.history_ = {name: list(model.loss_curve_) for name in ("loss", "validation_score", "rate", "seconds")}
    model.history_["validation_score"] = [None] * epochs
    model.save(tmp_path / "model")

    start = time.perf_counter()
    loaded = load(tmp_path / "model")
    assert time.perf_counter() - start < 2.0

    assert loaded.classes_.tolist() == model.classes_.tolist()
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.loss_curve_ == model.loss_curve_
    assert list(loaded.history_) == list(model.history_)
    assert loaded.history_["validation_score"] == model.history_["validation_score"]
    assert loaded.class_weight == {str(label): weight for label, weight in weights.items()}
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_what_could_not_be_loaded_is_not_saved(tmp_path, fitted):
    X = saved_models.rows()
    for change in ({"loss": "hinge"}, {"alpha": -1.0}, {"hidden_layer_sizes": [0]}, {"loss": pymlp.CompiledLoss(4096)}):
        model = pymlp.MLPClassifier((2,), max_iter=1, batch_size=40).fit(X, X[:, 0] > 0)
        model.set_params(**change)
        with pytest.raises(ValueError, match="could not be loaded again"):
            model.save(tmp_path / "model")
    network = Network.from_widths((1, 1))
    for state, message in (
        ({"a": {"array": "state.0"}}, "'array' cannot be kept"),
        ({"a": "\ud800"}, "surrogate"),
        ({"a": ["\ud800"] * 300}, "surrogates not allowed"),
        ({"a": [[1], 2] * 20_000}, "more than 32768 values"),
        ({"a": 10**50}, "integer of 51 characters"),
    ):
        with pytest.raises(ValueError, match=message):
            save_network(network, network.initial_params(0), tmp_path / "model", state)
    assert os.listdir(tmp_path) == []


# --------------------------------------------------------------------------------------------------- accidents


def _model_of_4_kilobytes(path):
    X = saved_models.rows()
    length = 1
    while True:
        labels = np.array(["a", "b" * length], object)[(X[:, 0] > 0).astype(int)]
        model = pymlp.MLPClassifier((14,), max_iter=2, batch_size=40, random_state=0).fit(X, labels)
        save(model, path)
        missing = 4096 - path.stat().st_size
        if not missing:
            return model, path.read_bytes()
        # the header is filled up to eights
        length += missing if missing > 8 else missing // 8


def _same_or_refused(path, content, model):
    path.write_bytes(content)
    try:
        loaded = load(path)
    except ModelFormatError:
        return True
    return loaded.params_.tobytes() == model.params_.tobytes() and loaded.get_params() == model.get_params()


def test_no_truncation_of_4_kilobytes_loads(memory):
    path = memory / "model"
    model, content = _model_of_4_kilobytes(path)
    assert load(path).get_params() == model.get_params()
    for size in reversed(range(len(content))):
        os.truncate(path, size)
        with pytest.raises(ModelFormatError):
            load(path)


def _flips(path, bits):
    model, content = _model_of_4_kilobytes(path)
    damaged = bytearray(content)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
        assert _same_or_refused(path, damaged, model), bit
        damaged[bit // 8] ^= 1 << bit % 8
    assert damaged == content


def test_some_flipped_bits_of_4_kilobytes_are_found(memory):
    _flips(memory / "model", range(3, 32_768, 13))


@pytest.mark.slow
def test_all_32768_flipped_bits_of_4_kilobytes_are_found(memory):
    _flips(memory / "model", range(32_768))


# ------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("kind", ["binary", "regressor", "network", "standardize_target"])
def test_saving_over_the_file_that_was_loaded(tmp_path, fitted, kind):
    path, link = tmp_path / "model", tmp_path / "link"
    save(fitted[kind], path)
    content = path.read_bytes()
    link.symlink_to("model")
    save(load(path), path)
    assert path.read_bytes() == content
    save(load(link), link)
    assert link.is_symlink()
    assert path.read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == ["link", "model"]


def test_saving_over_the_file_that_parameters_are_mapped_from(tmp_path):
    network = Network.from_widths((30, 40, 5))
    path = tmp_path / "model"
    save_network(network, network.initial_params(0), path)
    content = path.read_bytes()
    params = np.memmap(path, "<f4", "r", len(content) - 4 * network.n_parameters, network.n_parameters)
    save_network(network, params, path)
    assert path.read_bytes() == content
    assert params.tobytes() == content[-params.nbytes :]


class FaultyFile(io.FileIO):
    """A file whose n-th write fails, or whose writes take a few bytes each."""

    def __init__(self, path, mode, writes, error):
        super().__init__(path, mode)
        self.writes, self.error = writes, error

    def write(self, content):
        self.writes -= 1
        if self.writes < 0:
            if self.error is None:
                return super().write(bytes(content[:100]))
            raise OSError(self.error, os.strerror(self.error))
        return super().write(content)


def _faulty(monkeypatch, writes, error):
    def opened(path, mode):
        return io.BufferedWriter(FaultyFile(path, mode, writes, error), 512)

    monkeypatch.setattr(replacement, "open", opened, raising=False)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EFBIG])
def test_whichever_write_fails_the_old_file_stays(tmp_path, monkeypatch, fitted, error):
    path = tmp_path / "model"
    save(fitted["network"], path)
    content = path.read_bytes()
    for writes in count():
        _faulty(monkeypatch, writes, error)
        found = None
        try:
            save(fitted["binary"], path)
        except OSError as raised:
            found = raised.errno, raised.filename
        assert os.listdir(tmp_path) == ["model"]
        if found is None:
            break
        assert found == (error, str(path))
        assert path.read_bytes() == content
    assert writes >= 3
    assert type(load(path)) is pymlp.MLPClassifier


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch, fitted):
    save(fitted["binary"], tmp_path / "whole")
    _faulty(monkeypatch, 0, None)
    save(fitted["binary"], tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("function", ["fsync", "replace", "chmod"])
def test_a_call_that_fails_leaves_the_old_file(tmp_path, monkeypatch, fitted, function):
    path = tmp_path / "model"
    save(fitted["network"], path)
    content = path.read_bytes()

    def fail(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, function, fail)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            save(fitted["binary"], path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["model"]
    save(fitted["binary"], path)
    assert type(load(path)) is pymlp.MLPClassifier


def test_a_file_system_that_is_full(tmp_path, fitted):
    """A limit on the size of files fails as a full disk does, in the system itself."""
    path = tmp_path / "model"
    save(fitted["network"], path)
    content = path.read_bytes()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
            try:
                save(fitted["binary"], path)
            except OSError as error:
                code = 0 if error.errno == errno.EFBIG else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["model"]
