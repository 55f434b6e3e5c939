"""``pymlp export`` and ``pymlp import``: what they write, and each error as one line with exit code 2."""

import sys

import numpy as np
import pytest

import pymlp
import pymlp.export
from pymlp.__main__ import main
from pymlp.commands.import_ import parse_classes
from pymlp.convert import fitted_estimator
from pymlp.network import Dense, Network
from pymlp.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")
X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def run(capsys, *arguments):
    """Standard output of a command that must succeed."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def fails(capsys, *arguments):
    """The one line of a command that must fail."""
    code = main([str(argument) for argument in arguments])
    _, err = capsys.readouterr()
    assert code == 2
    (line,) = err.removesuffix("\n").split("\n")
    assert line.startswith("pymlp: error: ")
    return line


@pytest.fixture
def model(tmp_path):
    """A classifier of three named columns, and its file."""
    network = Network.from_widths((3, 5, 3), "gelu", loss="log_loss")
    params = 2 * network.initial_params(0)
    made = fitted_estimator(
        network, params, task="multiclass", classes=["low", "mid", "high"], feature_names=["a", "b", "c"]
    )
    made.save(tmp_path / "model")
    return made, tmp_path / "model"


def test_to_onnx_and_back(capsys, tmp_path, model):
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    made, path = model
    out = tmp_path / "model.onnx"
    assert run(capsys, "export", path, "--to", "onnx", out) == f"saved: {out}\n"
    printed = run(capsys, "import", out, "-o", tmp_path / "again")
    assert printed == f"model: MLPClassifier, 3-5-3, 38 parameters in float32\nsaved: {tmp_path / 'again'}\n"
    again = pymlp.load(tmp_path / "again")
    np.testing.assert_array_equal(again.params_, made.params_)
    np.testing.assert_array_equal(again.classes_, made.classes_)
    assert list(again.feature_names_in_) == ["a", "b", "c"]
    # with other labels, and for another loss
    run(capsys, "import", out, "--output", tmp_path / "other", "--classes", "3, 1, 2", "--loss", "focal")
    other = pymlp.load(tmp_path / "other")
    assert (other.classes_.tolist(), other.loss) == ([1, 2, 3], "focal")


def test_a_network_goes_to_onnx_and_back(capsys, tmp_path):
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    network = Network.from_widths((3, 5, 2), "tanh", dtype="float64")
    params = network.initial_params(0)
    pymlp.save((network, params), tmp_path / "network")
    run(capsys, "export", "--to", "onnx", tmp_path / "network", tmp_path / "network.onnx")
    assert "model: network, 3-5-2" in run(capsys, "import", tmp_path / "network.onnx", "-o", tmp_path / "again")
    found, numbers = pymlp.load(tmp_path / "again")
    assert found == network
    np.testing.assert_array_equal(numbers, params)


def test_to_torch_and_back(capsys, tmp_path, model):
    torch = pytest.importorskip("torch", reason="the package torch is not installed")
    made, path = model
    out = tmp_path / "model.pt"
    assert run(capsys, "export", path, "--to", "torch", out) == f"saved: {out}\n"
    state = torch.load(out, weights_only=True)
    module = pymlp.convert.to_torch(made)
    module.load_state_dict(state)
    np.testing.assert_allclose(module(torch.from_numpy(X)).detach().numpy(), made.predict_proba(X), atol=1e-6)
    arguments = ("--activation", "gelu", "--classes", "low,mid,high")
    run(capsys, "import", out, "-o", tmp_path / "again", *arguments)
    again = pymlp.load(tmp_path / "again")
    # estimators have their labels in ascending order: what the module gives is in that of the model
    np.testing.assert_allclose(
        again.predict_proba(X), made.predict_proba(X)[:, np.argsort(["low", "mid", "high"])], atol=1e-6
    )


def test_weights_of_torch(capsys, tmp_path):
    torch = pytest.importorskip("torch", reason="the package torch is not installed")
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)
    )
    path, target = tmp_path / "weights.PTH", tmp_path / "model"
    torch.save(module.state_dict(), path)
    printed = run(capsys, "import", path, "-o", target, "--activation", "relu, tanh", "--task", "numbers")
    assert "model: MLPRegressor, 3-5-4-2, 54 parameters in float32" in printed
    expected = module(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(pymlp.load(target).predict(X), expected, atol=1e-6)
    run(capsys, "import", path, "-o", target, "--activation", "relu,tanh", "--output-activation", "logistic")
    network, _ = pymlp.load(target)
    assert network.output_activation == "logistic"
    line = fails(capsys, "import", path, "-o", target)
    assert f"{path}: a state_dict has no activations" in line
    assert "activation='sine' is unknown" in fails(capsys, "import", path, "-o", target, "--activation", "sine")
    torch.save({**module.state_dict(), "conv.weight": torch.zeros(2, 2, 3)}, path)
    line = fails(capsys, "import", path, "-o", target, "--activation", "relu,tanh")
    assert "layer 'conv' of the state_dict is not of Linear" in line
    for content, reason in (
        (module, "is not a state_dict of PyTorch"),
        ([1, 2], "holds a list, not a state_dict"),
        ({"a": 1}, "'a' is a int, and a state_dict has tensors alone"),
    ):
        torch.save(content, path)
        assert reason in fails(capsys, "import", path, "-o", target)
    for content in (b"", b"PK\x03\x04", b"not a file of PyTorch", b"\x80\x04."):
        path.write_bytes(content)
        assert "is not a state_dict of PyTorch" in fails(capsys, "import", path, "-o", target)


def test_to_c(capsys, tmp_path, model):
    made, path = model
    out = tmp_path / "model.c"
    printed = run(capsys, "export", path, "--to", "c", out)
    assert printed == f"saved: {out}: {out.stat().st_size:,} bytes, float32\n"
    plain = out.read_text()
    pymlp.export.to_c(made, out)
    assert out.read_text() == plain
    run(capsys, "export", path, "--to", "c", "--dtype", "float64", "--name", "surrogate", out)
    assert "void surrogate_predict(const double *x, double *out)" in out.read_text()
    # the columns are found by name
    lines = ["c,x,a,b", *(f"{row[2]},9,{row[0]},{row[1]}" for row in X.tolist())]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    printed = run(capsys, "export", path, "--to", "c", "--dtype", "int8", "--calibration", tmp_path / "rows.csv", out)
    found = out.read_text()
    report = pymlp.export.to_c(made, out, "int8", calibration=X)
    assert printed == f"saved: {report}\n"
    assert "same label in" in printed
    assert found == out.read_text()


def test_what_export_refuses(capsys, tmp_path, model):
    _, path = model
    out = tmp_path / "out"
    assert "--to 'java' must be one of c, onnx, torch" in fails(capsys, "export", path, "--to", "java", out)
    assert "--to" in fails(capsys, "export", path, out)
    assert "OUT" in fails(capsys, "export", path, "--to", "onnx")
    for option, value in (("--dtype", "float64"), ("--name", "m"), ("--calibration", "rows.csv")):
        for kind in ("onnx", "torch"):
            line = fails(capsys, "export", path, "--to", kind, option, value, out)
            assert f"{option} goes with --to c, not with --to {kind}" in line
    assert "--dtype 'half' must be one of" in fails(capsys, "export", path, "--to", "c", "--dtype", "half", out)
    assert "--calibration DATA" in fails(capsys, "export", path, "--to", "c", "--dtype", "int8", out)
    assert "letters, digits and underscores" in fails(capsys, "export", path, "--to", "c", "--name", "1 2", out)
    (tmp_path / "few.csv").write_text("a,b\n1,2\n")
    line = fails(capsys, "export", path, "--to", "c", "--dtype", "int8", "--calibration", tmp_path / "few.csv", out)
    assert "there is no column 'c'" in line
    assert "nowhere" in fails(capsys, "export", tmp_path / "nowhere", "--to", "onnx", out)
    assert "folder does not exist" in fails(capsys, "export", path, "--to", "onnx", tmp_path / "no" / "model.onnx")
    path.write_bytes(b"not a model")
    assert "model" in fails(capsys, "export", path, "--to", "onnx", out)
    assert not out.exists()


def test_what_import_refuses(capsys, tmp_path):
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    path, out = tmp_path / "model.onnx", tmp_path / "model"
    assert "the ending must be one of .onnx, .pt, .pth" in fails(capsys, "import", tmp_path / "model.h5", "-o", out)
    assert "nowhere.onnx" in fails(capsys, "import", tmp_path / "nowhere.onnx", "-o", out)
    path.write_bytes(b"not a model")
    assert f"{path}: it is not an ONNX file" in fails(capsys, "import", path, "-o", out)
    assert "-o" in fails(capsys, "import", path)
    for option in ("--activation", "--output-activation"):
        assert f"{option} goes with a state_dict" in fails(capsys, "import", path, "-o", out, option, "relu")
    network = Network(3, (Dense(2, "identity"),))
    pymlp.export.to_onnx((network, network.initial_params(0)), path)
    assert "must be labels with commas between" in fails(capsys, "import", path, "-o", out, "--classes", "a,,b")
    assert "must be the 2 labels" in fails(capsys, "import", path, "-o", out, "--classes", "a,b,c")
    assert "task='none' is not one of" in fails(capsys, "import", path, "-o", out, "--task", "none")
    assert "folder does not exist" in fails(capsys, "import", path, "-o", tmp_path / "no" / "model")
    assert not out.exists()


def test_without_the_packages_one_line_names_the_command(capsys, tmp_path, model, monkeypatch):
    made, path = model
    out = tmp_path / "out"
    for name in ("onnx", "torch", "pymlp.convert.torch_layers"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'pymlp[onnx]'" in fails(capsys, "export", path, "--to", "onnx", out)
    (tmp_path / "model.onnx").write_bytes(b"anything")
    assert "pip install 'pymlp[onnx]'" in fails(capsys, "import", tmp_path / "model.onnx", "-o", out)
    (tmp_path / "weights.pt").write_bytes(b"anything")
    assert "pip install torch" in fails(capsys, "import", tmp_path / "weights.pt", "-o", out)
    assert not out.exists()
    # the model itself needs neither
    assert Predictor(made)(X).shape == (20, 3)


def test_labels_on_the_command_line():
    assert parse_classes("no, yes") == ["no", "yes"]
    assert parse_classes("3,1,-2") == [3, 1, -2]
    assert parse_classes("3,b") == ["3", "b"]
