"""The command line: what each command prints and writes, and each error as one line with exit code 2."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import pymlp
from pymlp import backends, files
from pymlp.__main__ import main
from pymlp.commands import bench
from pymlp.commands.train import parse_layers
from pymlp.config import ISAS

QUICK = ("--layers", "16", "--epochs", "30")


def _csv(folder, name="data.csv", rows=60, **changes):
    """Two numeric columns, one of them far from zero, and a target of three classes that they decide."""
    generator = np.random.default_rng(0)
    columns = {"size": generator.normal(500, 2, rows), "age": generator.normal(0, 30, rows)}
    kind = np.digitize((columns["size"] - 500) / 2 + columns["age"] / 30, [-0.7, 0.7])
    columns["kind"] = np.array(["low", "mid", "high"])[kind]
    columns |= changes
    path = folder / name
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def _run(capsys, *arguments):
    """Standard output of a command that must succeed."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def _fails(capsys, *arguments):
    """The one line of a command that must fail; a bar may stand above it."""
    code = main([str(argument) for argument in arguments])
    _, err = capsys.readouterr()
    assert code == 2
    *bars, line = err.removesuffix("\n").split("\n")
    assert all("epoch" in bar for bar in bars)
    assert line.startswith("pymlp: error: ")
    return line


def _program(*arguments, **options):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    return subprocess.Popen(
        [sys.executable, "-m", "pymlp", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A table and the model trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    data, model = _csv(folder), folder / "model"
    assert main(["train", str(data), "--target", "kind", "--layers", "32", "--save", str(model)]) == 0
    return data, model


def test_train_digits_prints_what_it_did_and_saves(capsys, tmp_path):
    code = main(["train", "digits", "--epochs", "60", "--save", str(tmp_path / "model")])
    out, err = capsys.readouterr()
    assert code == 0
    accuracy = float(re.search(r"^test accuracy: ([\d.]+) \(\d+ of 359\)$", out, re.MULTILINE)[1])
    assert accuracy >= 0.97
    assert re.search(r"^time: [\d.]+ s, \d+ epochs, [\d,]+ rows/s$", out, re.MULTILINE)
    assert re.search(rf"^backend: {backends.choose().value}, .*(1 thread|at most \d+ threads)$", out, re.MULTILINE)
    assert "loss=" in err
    assert "validation=" in err
    assert "rows/s" in err
    assert "Warning" not in err
    # the printed score is that of the saved model on raw pixels
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    model = pymlp.load(tmp_path / "model")
    assert model.network_.dtype == "float32"
    assert np.mean(model.predict(X) == y) > accuracy


def test_the_same_seed_gives_the_same_bytes(capsys, tmp_path):
    for name in ("a", "b"):
        _run(capsys, "train", "iris", *QUICK, "--seed", 3, "--save", tmp_path / name)
    _run(capsys, "train", "iris", *QUICK, "--seed", 4, "--save", tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_train_goes_on_from_a_checkpoint(capsys, tmp_path):
    kept = ("--checkpoint", tmp_path / "checkpoint")
    _run(capsys, "train", "iris", *QUICK, "--save", tmp_path / "a")
    _run(capsys, "train", "iris", "--layers", "16", "--epochs", 12, *kept, "--resume")
    _run(capsys, "train", "iris", *QUICK, *kept, "--resume", "--save", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    line = _fails(capsys, "train", "iris", *QUICK, *kept, "--resume", "--rate", 0.5)
    assert "learning_rate_init is 0.5 (there 0.001)" in line
    assert "--resume needs a file to go on from" in _fails(capsys, "train", "iris", "--resume")


def test_predict_finds_columns_by_name_and_takes_raw_values(capsys, tmp_path, trained):
    data, model = trained
    rows = list(csv.DictReader(io.StringIO(data.read_text())))
    shuffled = tmp_path / "shuffled.csv"
    with open(shuffled, "w", newline="") as stream:
        writer = csv.DictWriter(stream, ["note", "age", "size"])
        writer.writeheader()
        writer.writerows({"note": "text", "age": row["age"], "size": row["size"]} for row in rows)

    answers = list(csv.DictReader(io.StringIO(_run(capsys, "predict", model, shuffled))))

    right = [answer["prediction"] == row["kind"] for answer, row in zip(answers, rows, strict=True)]
    assert np.mean(right) >= 0.9
    assert _run(capsys, "predict", model, data) == _run(capsys, "predict", model, shuffled)


def test_predict_probabilities(capsys, trained):
    data, model = trained
    rows = list(csv.reader(io.StringIO(_run(capsys, "predict", model, data, "--proba"))))
    assert rows[0] == ["prediction", "probability of high", "probability of low", "probability of mid"]
    probabilities = np.array([row[1:] for row in rows[1:]], float)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    names = np.array(["high", "low", "mid"])[probabilities.argmax(axis=1)]
    assert names.tolist() == [row[0] for row in rows[1:]]


def test_predict_writes_a_file(capsys, tmp_path, trained):
    data, model = trained
    printed = _run(capsys, "predict", model, data)
    output = tmp_path / "answers.csv"
    assert _run(capsys, "predict", model, data, "--output", output) == ""
    assert output.read_text() == printed


def test_a_regression_is_trained_and_predicted_in_its_own_units(capsys, tmp_path):
    generator = np.random.default_rng(1)
    size = generator.normal(3, 0.5, 400)
    data = _csv(tmp_path, rows=400, size=size, kind=20000 + 3000 * size)
    out = _run(capsys, "train", data, "--target", "kind", "--save", tmp_path / "model")
    assert "regression (the target holds decimal numbers)" in out
    score, error = re.search(r"^test R2: ([\d.]+), RMSE: ([\d.]+) \(80 rows\)$", out, re.MULTILINE).groups()
    assert float(score) > 0.99
    answers = list(csv.DictReader(io.StringIO(_run(capsys, "predict", tmp_path / "model", data))))
    residual = np.array([float(row["prediction"]) for row in answers]) - (20000 + 3000 * size)
    assert np.sqrt(np.mean(residual**2)) < 2 * float(error)


def test_columns_far_from_zero_are_kept_in_float64(capsys, tmp_path):
    generator = np.random.default_rng(2)
    stamp = 1.6e9 + generator.normal(0, 1000, 300)
    data = _csv(tmp_path, rows=300, size=stamp, kind=np.where(stamp > 1.6e9, "late", "early"))
    out = _run(capsys, "train", data, "--target", "kind", "--save", tmp_path / "model")
    assert "parameters in float64" in out
    assert float(re.search(r"test accuracy: ([\d.]+)", out)[1]) > 0.9


def test_official_test_part_and_options(capsys, tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=50)
    pictures = np.clip(labels[:, None, None] * 120 + generator.integers(100, size=(50, 4, 4)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "p.npz", X_train=pictures, y_train=labels, X_test=pictures[:7], y_test=labels[:7])
    options = ("--batch", 500, "--rate", 0.01, "--threads", 1, "--backend", "numpy", "--activation", "tanh")
    out = _run(capsys, "train", tmp_path / "p.npz", *QUICK, *options, "--save", tmp_path / "model")
    assert "50 rows to train, 7 to test, 16 columns" in out
    assert "backend: numpy, 1 thread\n" in out
    assert "(7 of 7)" in out
    answers = _run(capsys, "predict", tmp_path / "model", tmp_path / "p.npz").split()
    assert answers == ["prediction", *map(str, labels[:7])]


def test_training_on_every_row(capsys):
    out = _run(capsys, "train", "iris", "--layers", "none", "--epochs", 2, "--test-fraction", 0)
    assert "150 rows to train, 0 to test" in out
    assert "network: 4-3, 15 parameters" in out
    assert "accuracy" not in out


def test_info(capsys, trained):
    _, model = trained
    out = _run(capsys, "info", model)
    assert f"{model.stat().st_size:,} bytes, written by pymlp {pymlp.__version__}" in out
    for line in (
        r"model +MLPClassifier",
        r"network +2-32-3, 195 parameters in float32",
        r"layer 0 +2 -> 32, relu, 96 parameters",
        r"layer 1 +32 -> 3, softmax, 99 parameters",
        r"loss +log_loss, l1=0, l2=0\.0001",
        r"classes +high, low, mid",
        r"features +size, age",
        r"trained +\d+ epochs",
    ):
        assert re.search(f"^{line}$", out, re.MULTILINE), line


def test_plain_networks(capsys, tmp_path):
    network = pymlp.Network.from_widths((2, 3, 2), dtype="float64")
    params = network.initial_params(0)
    pymlp.save((network, params), tmp_path / "model")
    assert re.search(r"^model +network$", _run(capsys, "info", tmp_path / "model"), re.MULTILINE)
    data = _csv(tmp_path, kind=np.zeros(60))
    rows = list(csv.reader(io.StringIO(_run(capsys, "predict", tmp_path / "model", data, "--drop", "kind"))))
    assert rows[0] == ["output 0", "output 1"]
    X = np.array([[row["size"], row["age"]] for row in csv.DictReader(io.StringIO(data.read_text()))], float)
    expected = np.empty((60, 2))
    backends.get("numpy").Plan(network, 1).forward(params, X, expected)
    np.testing.assert_allclose(np.array(rows[1:], float), expected, rtol=1e-9)
    assert "the model takes 2 columns, found 3; leave the target" in _fails(capsys, "predict", tmp_path / "model", data)
    assert "--proba is for classifiers" in _fails(capsys, "predict", tmp_path / "model", data, "--proba")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_multilabel_and_several_targets(capsys, tmp_path):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(40, 2))
    data = _csv(tmp_path, size=X[:, 0], age=X[:, 1], rows=40, kind=np.zeros(40))
    labels = (X > 0).astype(int)
    pymlp.MLPClassifier((8,), max_iter=2, random_state=0).fit(X, labels).save(tmp_path / "labels")
    pymlp.MLPRegressor(hidden_layer_sizes=(8,), max_iter=2, random_state=0).fit(X, X).save(tmp_path / "targets")
    rows = list(
        csv.reader(io.StringIO(_run(capsys, "predict", tmp_path / "labels", data, "--drop", "kind", "--proba")))
    )
    assert rows[0] == ["label 0", "label 1", "probability of 0", "probability of 1"]
    assert set(rows[1][:2]) <= {"0", "1"}
    out = _run(capsys, "predict", tmp_path / "targets", data, "--drop", "kind")
    assert out.startswith("prediction 0,prediction 1\n")


def test_info_works_without_scikit_learn(tmp_path, trained):
    _, model = trained
    program = (
        "import sys; sys.modules['sklearn'] = None; sys.modules['tqdm'] = None\n"
        "from pymlp.__main__ import main\n"
        f"codes = [main(['info', {str(model)!r}]), main(['config']), main(['predict', {str(model)!r}, 'x.csv'])]\n"
        "codes.append(main(['train', 'iris']))\n"
        "print(codes)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout.endswith("[0, 0, 2, 2]\n")
    first, second = result.stderr.splitlines()
    assert "needs scikit-learn: pip install scikit-learn" in first
    assert second == "pymlp: error: the package scikit-learn is missing; run: pip install scikit-learn"


def test_config(capsys):
    out = _run(capsys, "config")
    assert out.startswith("backend ")
    assert "threads" in out


def test_bench(capsys, monkeypatch):
    monkeypatch.setattr(bench, "CASES", bench.CASES[:1])
    monkeypatch.setattr(bench, "PRODUCT_SIZE", 64)
    out = _run(capsys, "bench", "--seconds", 0.1, "--threads", 1)
    lines = out.splitlines()
    assert re.match(r"NumPy's matrix product, float32: [\d,]+ GFLOP/s$", lines[0])
    assert all(name in lines[-2] for name in (*backends.available(), "tight NumPy", "plain NumPy"))
    assert re.match(r"tiny 8-32-32-1 \(32\) ( +[\d,.]+)+ +[\d.]+x$", lines[-1])
    assert "--seconds must be above 0" in _fails(capsys, "bench", "--seconds", 0)


def test_version_and_help(capsys):
    assert _run(capsys, "--version") == f"pymlp {pymlp.__version__}\n"
    for command in ("train", "predict", "info", "bench", "config"):
        assert command in _run(capsys, "--help")
        assert "usage: pymlp" in _run(capsys, command, "--help")


@pytest.mark.parametrize(("text", "widths"), [("100", (100,)), ("100, 50", (100, 50)), ("none", ())])
def test_layer_lists(text, widths):
    assert parse_layers(text) == widths


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("fit",), "invalid choice: 'fit'"),
        (("train",), "the following arguments are required: DATA"),
        (
            ("train", "iris", "--epochs", "many"),
            "argument --epochs: invalid int value: 'many' (see pymlp train --help)",
        ),
        (("train", "iris", "--epochs", "0"), "--epochs must be at least 1, got 0"),
        (("train", "iris", "--batch", "-1"), "--batch must be at least 1, got -1"),
        (("train", "iris", "--rate", "0"), "--rate must be above 0, got 0.0"),
        (("train", "iris", "--rate", "nan"), "--rate must be above 0, got nan"),
        (("train", "iris", "--seed", "-1"), "--seed must be at least 0"),
        (("train", "iris", "--test-fraction", "1"), "the test fraction must be at least 0 and below 1, got 1.0"),
        (("train", "iris", "--layers", "10,x"), "--layers '10,x' must be widths above 0 with commas between"),
        (("train", "iris", "--layers", "10,,5"), "--layers '10,,5' must be"),
        (("train", "iris", "--layers", "0"), "--layers '0' must be"),
        (("train", "iris", "--activation", "rlu"), "there is no activation 'rlu' (did you mean 'relu'?); there are: "),
        (("train", "iris", "--backend", "fortran"), "backend='fortran' is not one of c, numba, numpy"),
        (("train", "iris", "--isa", "mmx"), "isa='mmx' is not one of"),
        (("train", "iris", "--threads", "0"), "n_threads=0 must be an integer of at least 1"),
        (("train", "iris", "--task", "ranking"), "task='ranking' is not one of classification, regression"),
        (("train", "iris", "--target", "x"), "'iris' is a data set with its own target"),
        (("train", "iris", "--save", "{tmp}"), "{tmp}: Is a directory"),
        (("train", "iris", "--save", "{tmp}/no/model"), "{tmp}/no: the folder does not exist"),
        (("train", "iris", "--layers", "2", "--rate", "1e30"), "lower --rate (1e+30)"),
        (("train", ""), "there is no data set ''; there are: "),
        (("train", "{tmp}", "--target", "x"), "{tmp}: Is a directory"),
        (("predict", "{model}", "{tmp}"), "{tmp}: Is a directory"),
        (("predict", "", "{data}"), "'': No such file or directory"),
        (("train", "digts"), "there is no data set 'digts' (did you mean 'digits'?)"),
        (("train", "no.csv", "--target", "x"), "no.csv: no such file"),
        (("train", "{data}"), "{data}: name the column to predict with --target; there are: size, age, kind"),
        (("train", "{data}", "--target", "knd"), "there is no column 'knd' (did you mean 'kind'?); there are: size"),
        (("train", "{data}", "--target", "age"), "row 1 (line 2), column 'kind': the text "),
        (("train", "{data}", "--target", "kind", "--separator", ";"), "there is no column 'kind'"),
        (
            ("train", "{data}", "--target", "kind", "--drop", "sizes"),
            "there is no column 'sizes' (did you mean 'size'?)",
        ),
        (("train", "{data}", "--target", "kind", "--task", "regression"), "stands where a regression needs a number"),
        (("predict", "{model}", "no.csv"), "no.csv: No such file or directory"),
        (("predict", "no.model", "{data}"), "no.model: No such file or directory"),
        (("predict", "{data}", "{data}"), "{data} is not a valid model file: "),
        (("predict", "{model}", "{data}", "--output", "{tmp}/no/a.csv"), "{tmp}/no: the folder does not exist"),
        (("predict", "{model}", "{model}"), "the ending must be one of .csv"),
        (("info", "{data}"), "{data} is not a valid model file: "),
        (("info", "{tmp}"), "{tmp}: Is a directory"),
    ],
)
def test_errors_are_one_line(capsys, tmp_path, trained, arguments, message):
    places = {"tmp": tmp_path, "data": trained[0], "model": trained[1]}
    err = _fails(capsys, *(argument.format(**places) for argument in arguments))
    assert message.format(**places) in err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": ["x"] * 60}, "column 'kind' has only one class (x)"),
        ({"age": [""] + [1] * 59}, "row 1 (line 2), column 'age': a value is missing ('')"),
        ({"age": [1] * 59 + ["nan"]}, "row 60 (line 61), column 'age': a value is missing (NaN)"),
    ],
)
def test_data_errors_are_one_line(capsys, tmp_path, changes, message):
    assert message in _fails(capsys, "train", _csv(tmp_path, **changes), "--target", "kind")


def test_columns_that_the_model_misses(capsys, tmp_path, trained):
    _, model = trained
    one = tmp_path / "one.csv"
    one.write_text("size,ages\n1,2\n")
    assert "there is no column 'age' (did you mean 'ages'?)" in _fails(capsys, "predict", model, one)
    none = tmp_path / "none.csv"
    none.write_text("a,b\n1,2\n")
    assert "2 columns are missing: 'size', 'age'" in _fails(capsys, "predict", model, none)
    np.savez(tmp_path / "data.npz", X=np.ones((2, 5)))
    assert "the model takes 2 columns, found 5" in _fails(capsys, "predict", model, tmp_path / "data.npz")


def test_a_number_too_large_for_the_model(capsys, tmp_path, trained):
    path = tmp_path / "large.csv"
    path.write_text("age,size\n1,2\n3,4e300\n")
    err = _fails(capsys, "predict", trained[1], path)
    assert "row 2 (line 3), column 'size': 4e+300 is too large for the model, which computes in float32" in err


@pytest.mark.skipif("c" not in backends.available(), reason="only the C engine has instruction sets")
def test_an_instruction_set_that_cannot_run_is_told_before_the_data_are_read(capsys):
    foreign = next(name for name in ISAS if name not in backends.get("c").instruction_sets())
    err = _fails(capsys, "train", "no.csv", "--target", "x", "--backend", "c", "--isa", foreign)
    assert f"isa='{foreign}' " in err
    assert "this machine runs " in err


@pytest.mark.parametrize("name", ["PYMLP_NUM_THREADS", "OMP_NUM_THREADS"])
def test_a_thread_count_that_is_none_is_told_before_the_data_are_read(capsys, monkeypatch, name):
    monkeypatch.delenv("PYMLP_NUM_THREADS", raising=False)
    monkeypatch.setenv(name, "many")
    assert f"{name}='many' must be an integer" in _fails(capsys, "train", "no.csv", "--target", "x")


def test_a_rate_that_makes_the_weights_infinite(capsys, tmp_path):
    err = _fails(capsys, "train", "diabetes", "--rate", "1e30", "--epochs", 5, "--layers", "4,4")
    assert "the loss was no longer finite in epoch 1; lower --rate (1e+30)" in err


def test_a_backend_that_cannot_run_names_the_remedy(capsys, monkeypatch):
    monkeypatch.setattr(backends, "missing_reason", lambda name: "run: pip install 'pymlp[numba]'")
    assert "pip install 'pymlp[numba]'" in _fails(capsys, "train", "iris", "--backend", "numba")


def test_a_full_disk_leaves_the_old_model(capsys, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(b"old")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert "No space left on device" in _fails(capsys, "train", "iris", *QUICK, "--save", path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model"]


def test_out_of_memory(capsys, monkeypatch):
    def fail(path):
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr(files, "read", fail)
    assert "not enough memory: Unable to allocate 8 TiB" in _fails(capsys, "info", "model")


def test_a_warning_is_one_line(capsys, monkeypatch, trained):
    import warnings

    real = files.read

    def read(path):
        warnings.warn("first\nsecond", UserWarning, stacklevel=1)
        return real(path)

    monkeypatch.setattr(files, "read", read)
    assert main(["info", str(trained[1])]) == 0
    assert capsys.readouterr().err == "pymlp: warning: first second\n"


def test_as_a_program(trained):
    with _program("info", trained[1]) as process:
        out, err = process.communicate()
    assert process.returncode == 0
    assert "MLPClassifier" in out
    assert err == ""
    with _program("info", "missing") as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err == "pymlp: error: missing: No such file or directory\n"


@pytest.mark.skipif(os.name != "posix", reason="signals and pipes of POSIX")
def test_ctrl_c():
    with _program("train", "digits", "--epochs", 1_000_000, "--layers", "64") as process:
        # the bar's first drawing says that the training begins
        while b"epoch" not in os.read(process.stderr.fileno(), 1000):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert err.endswith("pymlp: interrupted\n")
    assert "Traceback" not in err


@pytest.mark.skipif(os.name != "posix", reason="signals and pipes of POSIX")
def test_a_reader_that_leaves_early(tmp_path, trained):
    data = _csv(tmp_path, rows=20_000)
    with _program("predict", trained[1], data) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
