"""Small models of Keras, of each kind of layer that can be converted; and the golden file of what some of them say.

``python tests/keras_models.py`` writes tests/golden/keras_models.json, from which the tests run without Keras.
"""

import json
import os
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "keras_models.json"
COLUMNS = 5
# those in the golden file
CHOSEN = ("usual", "norms", "leaks", "normalization", "functional", "nested", "flattened", "hidden gelu", "end softmax")
HIDDEN = ("relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu", "mish", "softplus", "linear", "leaky_relu")
ENDS = ("linear", "softmax", "sigmoid", "exponential", "tanh", "relu")


def rows():
    """Inputs of all models: (12, 5)."""
    return np.random.RandomState(5).normal(size=(12, COLUMNS)).astype("float32")


def import_keras():
    """Keras on whatever backend is there; ImportError if there is none."""
    if "KERAS_BACKEND" not in os.environ:
        for backend in ("torch", "jax", "tensorflow"):
            try:
                __import__(backend)
            except ImportError:
                continue
            os.environ["KERAS_BACKEND"] = backend
            break
    import keras

    return keras


def builders(keras):
    """What makes each model, by name."""
    layers = keras.layers

    def chain(*given, shape=(COLUMNS,)):
        return lambda: keras.Sequential([layers.Input(shape), *given])

    def functional():
        inputs = keras.Input((COLUMNS,))
        hidden = layers.Dense(6, "tanh", name="first")(inputs)
        hidden = layers.Dropout(0.5)(hidden, training=False)
        return keras.Model(inputs, layers.Dense(2, name="last")(hidden))

    def normalization(axis=-1):
        layer = layers.Normalization(axis=axis)
        # the weights that come then are its state
        layer.adapt(np.random.RandomState(6).normal(3, 2, (50, COLUMNS)))
        return keras.Sequential([layers.Input((COLUMNS,)), layer, layers.Dense(3)])

    dense = layers.Dense
    inner = keras.Sequential([layers.Input((6,)), dense(6, "gelu"), layers.BatchNormalization()])
    found = {
        "usual": chain(dense(8, "relu"), layers.Dropout(0.25), dense(8, "tanh", use_bias=False), dense(3, "softmax")),
        "norms": chain(
            layers.BatchNormalization(), dense(6), layers.BatchNormalization(scale=False), layers.ReLU(),
            layers.BatchNormalization(center=False, epsilon=0.01), dense(6), layers.LayerNormalization(),
            layers.Activation("silu"), layers.LayerNormalization(scale=False, center=False, epsilon=1e-5), dense(2),
        ),
        "leaks": chain(
            dense(6), layers.LeakyReLU(), dense(6), layers.PReLU(), dense(6), layers.LeakyReLU(negative_slope=0.01),
            dense(6), layers.ReLU(negative_slope=0.25), dense(6, layers.LeakyReLU(negative_slope=0.5)), layers.ELU(),
            dense(1),
        ),
        "normalization": normalization,
        "normalization by one deviation": lambda: normalization(None),
        "functional": functional,
        "nested": chain(dense(6), layers.Activation("tanh"), inner, dense(2)),
        "flattened": chain(
            layers.Rescaling(0.5, 1.0), layers.Flatten(), dense(4, "relu"), dense(2), shape=(1, COLUMNS)
        ),
        "known normalization": chain(layers.Normalization(mean=[1.0] * COLUMNS, variance=[4.0] * COLUMNS), dense(3)),
        "inverse normalization": chain(layers.Normalization(mean=2.0, variance=4.0, invert=True), dense(3)),
        "norm at the end": chain(dense(6, "relu"), layers.BatchNormalization()),
        "layer norm at the end": chain(dense(6), layers.LayerNormalization()),
        "dropout first": chain(layers.Dropout(0.25), dense(3, "tanh"), dense(1)),
        "softmax layer": chain(dense(3), layers.Softmax()),
        "only scaled": chain(dense(3, "tanh"), layers.Rescaling([1.0, 2.0, 3.0], 0.5)),
    }  # fmt: skip
    for name in HIDDEN:
        found[f"hidden {name}"] = chain(dense(7, name), dense(6), layers.Activation(name), dense(2))
    for name in ENDS:
        found[f"end {name}"] = chain(dense(7, "tanh"), dense(3, name))
    return found


def built(keras, name):
    """One of the models, with random numbers for all its weights."""
    model = builders(keras)[name]()
    random = np.random.RandomState(7)
    weights = []
    for variable in model.weights:
        shape = tuple(variable.shape)
        drawn = random.uniform(-0.7, 1.0, shape)
        positive = "variance" in variable.path or "count" in variable.path
        weights.append(np.abs(drawn) + 0.5 if positive else drawn)
    return filled(model, weights)


def filled(model, weights):
    """The model with these weights; a Normalization has to be told that its have changed."""
    model.set_weights(weights)
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def said(model, inputs):
    """What a model says of rows."""
    return np.asarray(model.predict(inputs, verbose=0))


def main():
    """Write the golden file."""
    keras = import_keras()
    golden = {"keras": keras.__version__, "rows": rows().tolist(), "models": {}}
    for name in CHOSEN:
        model = built(keras, name)
        inputs = rows().reshape(-1, *model.input_shape[1:])
        golden["models"][name] = {
            "json": model.to_json(),
            "weights": [weight.tolist() for weight in model.get_weights()],
            "outputs": said(model, inputs).tolist(),
        }
    GOLDEN.write_text(json.dumps(golden) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
