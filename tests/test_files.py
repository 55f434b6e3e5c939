"""Model files: the round trip, the public safetensors package on both ends, and everything that must be refused."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest

import pymlp
from pymlp.files import ESTIMATORS, FORMAT_VERSION, ModelFormatError, load, load_network, read, save, save_network
from pymlp.layers import Dense
from pymlp.losses import LogLoss, Quantile
from pymlp.network import DTYPES, Network

safetensors = pytest.importorskip("safetensors", reason="the public reader comes with the extra 'test'")
safetensors_numpy = pytest.importorskip("safetensors.numpy", reason="the public reader comes with the extra 'test'")


def _network(dtype="float32"):
    network = Network.from_widths((3, 4, 2), "tanh", loss="log_loss", dtype=dtype, l2=0.25)
    return network, network.initial_params(3)


def _taken_apart(path):
    """The header of a file, without the digest, so that it can be changed, and its tensors as bytes."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    del header["__metadata__"]["sha256"]
    return header, content[8 + size :]


@pytest.fixture
def saved(tmp_path):
    """A small file, its header as a dict and its tensors as bytes."""
    path = tmp_path / "model.safetensors"
    save_network(*_network(), path, {"note": "a"})
    return path, *_taken_apart(path)


def _rewrite(path, header, data):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_of_a_network(tmp_path, dtype):
    network, params = _network(dtype)
    state = {"classes": ["a", "\u00e4", 3], "history": [0.1, float("inf")]}
    save_network(network, params, tmp_path / "model", state)

    content = read(tmp_path / "model")

    assert content.network == network
    assert content.params.dtype == dtype
    assert content.params.tobytes() == params.tobytes()
    assert content.state == state
    assert content.estimator is None
    assert content.pymlp_version == pymlp.__version__


def test_round_trip_of_a_network_with_every_feature(tmp_path):
    everything = Dense(4, "gelu", 0.25, "layer", residual=True, max_norm=3.0, parametric=True)
    network = Network(
        4, (everything, Dense(2, "softmax", max_norm=0.5)), LogLoss(0.1), input_dropout=0.5, seed=2**63
    )  # fmt: skip
    params = network.initial_params(0)
    pymlp.save((network, params), tmp_path / "model")
    loaded_network, loaded = pymlp.load(tmp_path / "model")
    assert loaded_network == network
    assert loaded_network.table == network.table
    assert loaded.tobytes() == params.tobytes()


def test_save_and_load_take_a_network_with_its_params(tmp_path):
    network, params = _network()
    pymlp.save((network, params), tmp_path / "model")
    loaded_network, loaded = pymlp.load(tmp_path / "model")
    assert loaded_network == network
    assert loaded.tobytes() == params.tobytes()
    assert loaded.flags.writeable


def test_the_data_is_the_flat_vector(saved):
    path, _, data = saved
    assert data == _network()[1].astype("<f4").tobytes()
    assert path.stat().st_size % 8 == len(data) % 8
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_safetensors_package_reads_it(tmp_path, dtype):
    network, params = _network(dtype)
    save_network(network, params, tmp_path / "model")

    tensors = safetensors_numpy.load_file(tmp_path / "model")
    with safetensors.safe_open(tmp_path / "model", framework="numpy") as opened:
        metadata = opened.metadata()

    assert tensors.keys() == network.views(params).keys()
    for name, values in network.views(params).items():
        assert tensors[name].dtype == dtype
        np.testing.assert_array_equal(tensors[name], values)
    assert metadata["format"] == "pymlp"
    assert Network.from_description(json.loads(metadata["network"])) == network


def test_a_file_of_the_safetensors_package_loads(tmp_path):
    # eleven layers: the package sorts tensors by name, so layer 10 stands before layer 2
    network = Network.from_widths((2,) * 12, loss="squared_error", dtype="float64")
    params = network.initial_params(0)
    metadata = {
        "format": "pymlp",
        "format_version": FORMAT_VERSION,
        "pymlp_version": "0.0",
        "network": json.dumps(network.description),
        "state": "{}",
    }
    safetensors_numpy.save_file(dict(network.views(params)), tmp_path / "model", metadata)

    loaded_network, loaded = load_network(tmp_path / "model")

    assert loaded_network == network
    assert loaded.tobytes() == params.tobytes()


def test_every_truncation_is_refused(saved):
    path, _, _ = saved
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ModelFormatError, match="is not a valid model file"):
            read(path)


def test_trailing_bytes_are_refused(saved):
    path, header, data = saved
    _rewrite(path, header, data + b"\0")
    with pytest.raises(ModelFormatError, match="104 bytes of tensors must follow the header, found 105"):
        read(path)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "must begin with"),
        (b" {}", "must begin with"),
        (b"[]", "must begin with"),
        (b"{", "the header is not JSON"),
        (b"{} x", "the header is not JSON"),
        (b'{"a\xff": 1}', "the header is not JSON"),
        (b'{"a":' + b"[" * 10_000, "the header goes more than 32 brackets deep"),
        (b'{"a":' + b"9" * 10_000 + b"}", "the header has an integer of 10000 characters"),
        (b"{}", "the header has no '__metadata__'"),
        (b'{"__metadata__": []}', "'__metadata__' must be of type dict"),
        (b'{"__metadata__": {"format": 1}}', r"__metadata__\['format'\] must be a string"),
        (b'{"__metadata__": {}}', "__metadata__ has no 'format'"),
        (b'{"__metadata__": {"format": "pt"}}', r"__metadata__\['format'\] must be 'pymlp', found 'pt'"),
    ],
)
def test_malformed_headers(tmp_path, encoded, message):
    _rewrite(tmp_path / "model", encoded, b"")
    with pytest.raises(ModelFormatError, match=message):
        read(tmp_path / "model")


def test_header_lengths_out_of_bounds(tmp_path):
    path = tmp_path / "model"
    path.write_bytes((100).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelFormatError, match="should take 100 bytes, but only 2 follow"):
        read(path)
    path.write_bytes(b"\xff" * 8 + b"{}")
    with pytest.raises(ModelFormatError, match="and 524288 are the most"):
        read(path)


def test_a_key_twice_is_refused(saved):
    path, header, data = saved
    text = json.dumps(header)
    entry = json.dumps({"layers.0.bias": header["layers.0.bias"]})[1:-1]
    _rewrite(path, (text[:-1] + ", " + entry + "}").encode(), data)
    with pytest.raises(ModelFormatError, match=r"the header has the key 'layers\.0\.bias' twice"):
        read(path)


def _set(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(header):
        for key in keys:
            header = header[key]
        header[last] = value

    return change


def _delete(*keys):
    def change(header):
        for key in keys[:-1]:
            header = header[key]
        del header[keys[-1]]

    return change


def _rename(old, new):
    def change(header):
        header[new] = header.pop(old)

    return change


def _description(**changes):
    def change(header):
        description = json.loads(header["__metadata__"]["network"])
        description.update(changes)
        header["__metadata__"]["network"] = json.dumps(description)

    return change


WEIGHT = "layers.0.weight"
METADATA = "__metadata__"
EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [104, 104]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(METADATA, "format_version", "2"), "format version is '2' and this pymlp reads '1'"),
        (_set(METADATA, "format", "pymlp checkpoint"), "it is the checkpoint of a training run"),
        (_delete(METADATA, "format_version"), "has no 'format_version'"),
        (_delete(METADATA, "pymlp_version"), "has no 'pymlp_version'"),
        (_delete(METADATA, "network"), "has no 'network'"),
        (_delete(METADATA, "state"), "has no 'state'"),
        (_set(METADATA, "state", "[1]"), r"\['state'\] must be a JSON object, found \[1\]"),
        (_set(METADATA, "state", '{"a": 1, "a": 2}'), r"\['state'\] has the key 'a' twice"),
        (_set(METADATA, "more", "x"), "unknown key 'more'"),
        (_set(METADATA, "estimator", "Pipeline"), r"must be one of MLPClassifier, MLPRegressor, found 'Pipeline'"),
        (_set(METADATA, "network", "{"), r"\['network'\] is not JSON"),
        (_set(METADATA, "network", "{}"), r"\['network'\]: not the description of a network"),
        (_description(loss="cross_entropy"), "loss='cross_entropy' is unknown"),
        (_description(dtype="float16"), "dtype='float16'"),
        (_description(dtype="01f4"), "dtype='01f4' is not one of float32, float64"),
        (_description(inputs=0), "inputs must be an integer of at least 1"),
        (_description(inputs=True), "inputs must be an integer of at least 1"),
        (_description(layers=[]), "layers must be at least one Dense"),
        (_description(layers=["a"]), "not the description of a network"),
        (_description(layers=[{"outputs": 2, "activation": ["relu"]}]), "not the description of a network"),
        (_description(l2=float("nan")), r"l2 must be in \[0, inf\), got nan"),
        (_description(l2=10**400), "integer of 401 characters"),
        (_description(batch=3), "not the description of a network"),
        (_description(inputs=10**9), rf"{WEIGHT}: shape must be \[10+, 4\], found \[3, 4\]"),
        (_description(layers=[{"outputs": 2, "activation": "relu"}] * 3), "its 4 tensors are too few for 3 layers"),
        (_set(METADATA, "pymlp_version", "1\n2"), r"\['pymlp_version'\] is '1\\n2'"),
        (_description(dtype="float64"), f"{WEIGHT}: dtype must be 'F64', found 'F32'"),
        (_delete("layers.1.bias"), "96 bytes of tensors must follow the header, found 104"),
        (_rename("layers.1.bias", "layers.2.bias"), r"the header has no 'layers\.1\.bias'"),
        (_set("layers.2.bias", EMPTY), r"the network has no tensor 'layers\.2\.bias'"),
        (_set(WEIGHT, []), f"'{WEIGHT}' must be of type dict"),
        (_set(WEIGHT, "dtype", "BF16"), f"{WEIGHT}: dtype must be one of F32, .*, found 'BF16'"),
        (_set(WEIGHT, "dtype", 4), f"{WEIGHT}: 'dtype' must be of type str"),
        (_set(WEIGHT, "shape", [4, 3]), rf"{WEIGHT}: shape must be \[3, 4\], found \[4, 3\]"),
        (_set(WEIGHT, "shape", [3, 4.0]), f"{WEIGHT}: shape must be"),
        (_set(WEIGHT, "shape", [3, 4, 1]), f"{WEIGHT}: shape must be"),
        (_set(WEIGHT, "shape", "34"), f"{WEIGHT}: 'shape' must be of type list"),
        (_set(WEIGHT, "data_offsets", [0, 44]), f"{WEIGHT}: data_offsets must span 48 bytes"),
        (_set(WEIGHT, "data_offsets", [-4, 44]), f"{WEIGHT}: data_offsets must span 48 bytes"),
        (_set(WEIGHT, "data_offsets", [0, 48.0]), f"{WEIGHT}: data_offsets must be two integers"),
        (_set(WEIGHT, "data_offsets", [0]), f"{WEIGHT}: data_offsets must be two integers"),
        (_delete(WEIGHT, "data_offsets"), f"{WEIGHT} has no 'data_offsets'"),
        (_set(WEIGHT, "extra", 1), f"{WEIGHT} has the unknown key 'extra'"),
        (_set(WEIGHT, "data_offsets", [4, 52]), f"a hole between the header and {WEIGHT}"),
        (_set("layers.1.bias", "data_offsets", [104, 112]), r"a hole between layers\.1\.weight and layers\.1\.bias"),
        (_set("layers.1.bias", "data_offsets", [88, 96]), "an overlap between"),
    ],
)
def test_malformed_entries(saved, change, message):
    path, header, data = saved
    change(header)
    _rewrite(path, header, data)
    with pytest.raises(ModelFormatError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(saved, value):
    path, header, _ = saved
    network, params = _network()
    params[13] = value
    _rewrite(path, header, params.astype("<f4").tobytes())
    with pytest.raises(ModelFormatError, match=rf"layers\.0\.bias\[1\] is {value}, not a finite number"):
        read(path)
    with pytest.raises(ValueError, match=r"params cannot be saved: layers\.0\.bias\[1\]"):
        save_network(network, params, path)


def test_what_cannot_be_saved(tmp_path):
    network, params = _network()
    with pytest.raises(ValueError, match=r"model must be one of MLPClassifier, MLPRegressor .* got dict"):
        save({}, tmp_path / "model")
    with pytest.raises(ValueError, match=r"shape \(26,\), got float32 \(25,\)"):
        save_network(network, params[1:], tmp_path / "model")
    with pytest.raises(ValueError, match=r"state cannot be kept as JSON: .*int64"):
        save_network(network, params, tmp_path / "model", {"a": np.int64(1)})
    with pytest.raises(ValueError, match="state has the key '1' twice"):
        save_network(network, params, tmp_path / "model", {"1": 0, 1: 0})
    assert os.listdir(tmp_path) == []


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "model")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)


def test_networks_need_neither_scikit_learn_nor_numba(tmp_path):
    save_network(*_network(), tmp_path / "model")
    program = (
        "import sys; sys.modules['sklearn'] = None; import pymlp\n"
        f"network, params = pymlp.load({str(tmp_path / 'model')!r})\n"
        f"pymlp.save((network, params), {str(tmp_path / 'copy')!r})\n"
        "print(network.widths, 'numba' in sys.modules)"
    )
    environment = dict(os.environ, PYMLP_BACKEND="numpy")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (result.stdout, result.stderr) == ("(3, 4, 2) False\n", "")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "model").read_bytes()


def test_an_estimator_file_without_scikit_learn(tmp_path, saved, monkeypatch):
    path, header, data = saved
    header["__metadata__"]["estimator"] = "MLPClassifier"
    _rewrite(path, header, data)
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for name in ("pymlp.estimators", *ESTIMATORS.values()):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr(pymlp, "estimators", raising=False)

    with pytest.raises(ImportError, match="needs scikit-learn: pip install scikit-learn") as caught:
        load(path)

    assert "\n" not in str(caught.value)
    assert load_network(path)[0] == _network()[0]


CLASSIFIER_LABELS = {
    "integers": np.array([3, 5, 9] * 20),
    "text": np.array(["low", "m\u00e4\u00dfig", "high"] * 20),
    "two": np.array([False, True] * 30),
    "labels": np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0]] * 20),
}


def _rows(dtype):
    return np.random.default_rng(0).normal(size=(60, 4)).astype(dtype)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("labels", CLASSIFIER_LABELS)
def test_round_trip_of_a_classifier(tmp_path, dtype, labels):
    X, y = _rows(dtype), CLASSIFIER_LABELS[labels]
    model = pymlp.MLPClassifier((5, 3), ["tanh", "relu"], max_iter=3, batch_size=20, random_state=0).fit(X, y)

    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")

    assert type(loaded) is pymlp.MLPClassifier
    assert loaded.network_ == model.network_
    assert loaded.params_.tobytes() == model.params_.tobytes()
    assert loaded.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(loaded.classes_, model.classes_)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()
    assert loaded.loss_curve_ == model.loss_curve_
    # the network alone can be read as well
    assert load_network(tmp_path / "model")[1].tobytes() == model.params_.tobytes()
    # what was loaded saves to the same bytes
    save(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [1, 2])
def test_round_trip_of_a_regressor(tmp_path, dtype, outputs):
    X = _rows(dtype)
    y = X[:, 0] if outputs == 1 else X[:, :2]
    model = pymlp.MLPRegressor(
        hidden_layer_sizes=(5,), max_iter=3, batch_size=20, early_stopping=True, random_state=np.random.RandomState(0)
    ).fit(X, y)
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert type(loaded) is pymlp.MLPRegressor
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    assert loaded.validation_scores_ == model.validation_scores_
    assert loaded.random_state is None


@pytest.fixture
def saved_estimator(tmp_path):
    """A saved classifier that knows its columns by name, and its header and tensors."""
    pandas = pytest.importorskip("pandas", reason="names of columns come from a data frame, of the extra 'table'")
    X = pandas.DataFrame(_rows("float32"), columns=["a", "b", "c", "d"])
    model = pymlp.MLPClassifier((3,), solver="lbfgs", max_iter=50, tol=1.0).fit(X, CLASSIFIER_LABELS["text"])
    path = tmp_path / "model"
    model.save(path)
    return path, *_taken_apart(path)


def test_names_of_columns_come_back(saved_estimator):
    path, _, _ = saved_estimator
    assert load(path).feature_names_in_.tolist() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "change",
    [
        _set("class", "MLPRegressor"),
        _delete("class"),
        _set("parameters", "depth", 3),
        _set("parameters", []),
        _set("fitted", "coefs_", []),
        _set("fitted", 3),
        _set("features", ["a", "b"]),
        _set("features", 3),
        _delete("features"),
        _set("classes", "values", ["low", "high"]),
        _set("classes", "values", 3),
        _set("classes", "dtype", "no type"),
        _set("classes", "dtype", "01<u1"),
        _set("classes", "kind", "ranking"),
        _delete("classes"),
    ],
)
def test_malformed_states(saved_estimator, change):
    path, header, data = saved_estimator
    state = json.loads(header["__metadata__"]["state"])
    change(state)
    header["__metadata__"]["state"] = json.dumps(state)
    _rewrite(path, header, data)
    with pytest.raises(ModelFormatError, match="the state of the MLPClassifier is malformed") as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_estimators_that_cannot_be_saved(tmp_path):
    from sklearn.exceptions import NotFittedError

    class Derived(pymlp.MLPClassifier):
        pass

    with pytest.raises(NotFittedError):
        pymlp.MLPClassifier().save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"not a class derived from it.* got Derived"):
        save(Derived(), tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_a_network_of_numbers_of_numpy_is_kept(tmp_path):
    for loss in (LogLoss(np.float32(0.25)), Quantile(np.array([0.25, 0.5]))):
        layers = Dense(4, dropout=np.float32(0.5)), Dense(2, loss.output_activation)
        network = Network(3, layers, loss, input_dropout=np.float32(0.25))
        save_network(network, network.initial_params(0), tmp_path / "model")
        assert load_network(tmp_path / "model")[0] == network


def test_an_old_file_keeps_its_permissions(saved):
    path, _, _ = saved
    path.chmod(0o640)
    save_network(*_network(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_flipped_bit_is_refused(saved):
    path, _, _ = saved
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ModelFormatError):
            read(path)


def test_damage_is_called_so(saved):
    path, _, _ = saved
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match="it was damaged: its bytes do not give the SHA-256"):
        read(path)


@pytest.mark.parametrize("digest", ["", "0", "0" * 63 + "\u00e9", "F32"])
def test_digests_that_are_none(saved, digest):
    path, header, data = saved
    header["__metadata__"]["sha256"] = digest
    _rewrite(path, header, data)
    with pytest.raises(ModelFormatError, match=r"__metadata__\['sha256'\] must be 64 digits found nowhere else"):
        read(path)
