"""Writes tests/golden_onnx: models as the exporters of PyTorch, Keras and scikit-learn write them, and their answers.

``python tests/make_onnx_golden.py torch``, ``... sklearn`` and, with KERAS_BACKEND=torch or jax, ``... keras`` make the
files of one library anew; they need onnx, onnxruntime and torch with onnxscript, skl2onnx, or keras (with jax also
jax2onnx).  Beside each file of ONNX lies one of NumPy with the inputs and with what onnxruntime gives of them.  What
exporters write down of the machine they ran on is taken out.

`models` is also what the tests convert where the libraries are installed.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).with_name("golden_onnx")
COLUMNS = 4


def _torch_models():
    """Name, module, and whether it is of float64."""
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.linear, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

        def forward(self, x):
            return torch.tanh(self.norm(self.linear(x))) + x

    torch.manual_seed(0)
    activations = [
        nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.LeakyReLU(), nn.ELU(), nn.SELU(), nn.GELU(), nn.SiLU(), nn.Mish(),
        nn.Softplus(), nn.PReLU(5), nn.LeakyReLU(0.3),
    ]  # fmt: skip
    chain = [part for each in activations for part in (nn.Linear(5, 5), each)]
    chain[0] = nn.Linear(COLUMNS, 5)
    models = {
        "activations": nn.Sequential(*chain, nn.Linear(5, 3), nn.Softmax(dim=1)),
        "norms": nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(COLUMNS), nn.Linear(COLUMNS, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2),
            nn.LayerNorm(6, eps=1e-3), nn.Linear(6, 5, bias=False), nn.GELU(), nn.BatchNorm1d(5), nn.Linear(5, 3),
            nn.LogSoftmax(dim=1),
        ),
        "residual": nn.Sequential(Residual(COLUMNS), Residual(COLUMNS), nn.Linear(COLUMNS, 1), nn.Sigmoid()),
        "logits": nn.Sequential(nn.Linear(COLUMNS, 6), nn.ReLU(), nn.Linear(6, 3)),
        "double": nn.Sequential(nn.Linear(COLUMNS, 5), nn.Tanh(), nn.Linear(5, 2)).double(),
    }  # fmt: skip
    for model in models.values():
        for part in model.modules():
            if isinstance(part, (nn.BatchNorm1d, nn.LayerNorm)):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias)
            if isinstance(part, nn.BatchNorm1d):
                nn.init.normal_(part.running_mean)
                nn.init.uniform_(part.running_var, 0.5, 1.5)
        nn.init.uniform_(list(model.parameters())[-1])
        model.eval()
    return models


def torch_files(folder):
    """Name and path of each model of PyTorch, by both exporters."""
    import torch

    for name, model in _torch_models().items():
        x = torch.zeros(2, COLUMNS, dtype=next(model.parameters()).dtype)
        path = folder / f"torch_script_{name}.onnx"
        torch.onnx.export(model, (x,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "rows"}})
        yield path
        path = folder / f"torch_dynamo_{name}.onnx"
        rows = torch.export.Dim("rows")
        options = {"dynamo": True, "external_data": False, "verbose": False}
        torch.onnx.export(model, (x,), path, dynamic_shapes=({0: rows},), **options)
        yield path


def keras_files(folder):
    """Name and path of each model of Keras, on the backend that is chosen."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    backend = keras.backend.backend()
    names = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus")
    batch = {"gamma_initializer": "random_uniform", "moving_mean_initializer": "random_normal"}
    layer = {"gamma_initializer": "random_uniform", "beta_initializer": "random_normal"}
    dense = {"bias_initializer": "random_normal"}
    models = {
        "activations": [*(layers.Dense(4, each, **dense) for each in names), layers.Dense(1, "sigmoid", **dense)],
        "normalization": [
            layers.Normalization(mean=np.arange(COLUMNS), variance=1.0 + np.arange(COLUMNS)),
            layers.Dense(5, "relu", **dense),
            layers.BatchNormalization(**batch),
            layers.Dropout(0.2),
            layers.Dense(2, **dense),
        ],
    }
    if backend == "jax":
        models["norms"] = [
            layers.Dense(5, "gelu", **dense),
            layers.LayerNormalization(**layer),
            layers.Dense(5, **dense),
            layers.LayerNormalization(epsilon=1e-5, **layer),
            layers.Activation("relu"),
            layers.Dense(3, "softmax", **dense),
        ]
    for name, parts in models.items():
        model = keras.Sequential([keras.Input((COLUMNS,)), *parts])
        model(np.zeros((2, COLUMNS), np.float32))
        path = folder / f"keras_{backend}_{name}.onnx"
        model.export(path, format="onnx", verbose=False)
        yield path


def sklearn_files(folder):
    """Name and path of each model of scikit-learn."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.datasets import load_iris, make_multilabel_classification
    from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler
    from sklearn.svm import LinearSVC

    X, y = load_iris(return_X_y=True)
    X_labels, labels = make_multilabel_classification(n_samples=60, n_features=4, n_classes=3, random_state=0)
    names, two = np.array(["a", "b", "c"])[y], y < 2
    small = {"hidden_layer_sizes": (5,), "max_iter": 30, "random_state": 0}
    scaled = ColumnTransformer([("a", StandardScaler(), [2, 0]), ("b", MinMaxScaler(), [1])])
    tensor = {"zipmap": False}
    models = {
        "binary": (MLPClassifier(**small).fit(X[two], y[two] + 3), None),
        "binary_names": (MLPClassifier(**small, activation="tanh").fit(X[two], names[two]), tensor),
        "multiclass": (MLPClassifier(**small).fit(X, names), None),
        "multiclass_tensor": (MLPClassifier(**small, activation="logistic").fit(X, y), tensor),
        "multilabel": (MLPClassifier(**small).fit(X_labels, labels), tensor),
        "regressor": (MLPRegressor(**small).fit(X, y), None),
        "pipeline": (make_pipeline(StandardScaler(), MinMaxScaler(), MLPClassifier(**small)).fit(X, names), None),
        "columns": (make_pipeline(scaled, MLPRegressor(**small)).fit(X, y), None),
        "double": (make_pipeline(StandardScaler(), MLPClassifier(**small)).fit(X, y), tensor),
        "logistic_binary": (LogisticRegression().fit(X[two], names[two]), None),
        "logistic": (make_pipeline(StandardScaler(), LogisticRegression()).fit(X, names), tensor),
        "linear": (LinearRegression().fit(X, np.c_[y, X @ np.arange(4)]), None),
        "svm_binary": (LinearSVC(random_state=0).fit(X[two], names[two]), None),
        "svm": (LinearSVC(random_state=0).fit(X, y), None),
        "perceptron": (Perceptron(random_state=0).fit(X, y), tensor),
        "frame": (make_pipeline(StandardScaler(), MLPClassifier(**small)).fit(X, names), tensor),
    }
    for name, (model, option) in models.items():
        kind = (DoubleTensorType if name == "double" else FloatTensorType)([None, COLUMNS])
        types = [("X", kind)]
        if name == "frame":
            types = [(f"column {place}", FloatTensorType([None, 1])) for place in range(COLUMNS)]
        last = model[-1] if hasattr(model, "steps") else model
        written = to_onnx(model, initial_types=types, options={id(last): option} if option else None)
        path = folder / f"sklearn_{name}.onnx"
        path.write_bytes(written.SerializeToString())
        yield path


SOURCES = {"torch": torch_files, "keras": keras_files, "sklearn": sklearn_files}


def inputs_of(session, X):
    """What to feed a session with: X in its type, or column by column."""
    inputs = session.get_inputs()
    X = X.astype(np.float64 if "double" in inputs[0].type else np.float32)
    if len(inputs) == 1:
        return {inputs[0].name: X}
    return {each.name: X[:, place : place + 1] for place, each in enumerate(inputs)}


def answers(path, X):
    """What onnxruntime gives of X, by the kind of output: "numbers" and "labels"."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = {}
    for given in session.run(None, inputs_of(session, X)):
        if isinstance(given, list):
            # a ZipMap's: a dict for each row
            given = np.array([list(row.values()) for row in given])
        found["numbers" if given.dtype.kind == "f" else "labels"] = (
            given.astype(str) if given.dtype == object else given
        )
    return found


def without_traces(path):
    """The model of a file without what exporters note of the machine and of their own source."""
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    del model.graph.metadata_props[:], model.graph.value_info[:]
    for each in [*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        each.doc_string = ""
        del each.metadata_props[:]
    return model


def main(source):
    """Make the files of one library anew."""
    FOLDER.mkdir(exist_ok=True)
    X = np.random.default_rng(0).normal(loc=3, scale=2, size=(12, COLUMNS)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        for path in SOURCES[source](Path(folder)):
            target = FOLDER / path.name
            target.write_bytes(without_traces(path).SerializeToString(deterministic=True))
            np.savez(target.with_suffix(".npz"), X=X, **answers(target, X))
            print(target.name, os.path.getsize(target))


if __name__ == "__main__":
    main(sys.argv[1])
