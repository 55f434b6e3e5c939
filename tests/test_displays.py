"""The displays: what they draw, where, and what they refuse; on a backend of matplotlib that needs no screen."""

import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
pytest.importorskip("matplotlib", reason="the displays draw by matplotlib")

from matplotlib import colors, pyplot
from matplotlib.collections import LineCollection
from small_models import small

from pymlp import Dense, FirstLayerDisplay, MLPRegressor, Network, NetworkDisplay, TrainingCurveDisplay
from pymlp.displays.axes import NEGATIVE, POSITIVE
from pymlp.displays.first_layer import SHOWN_QUANTILE

# the fits here are short on purpose
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# needs no screen
pyplot.switch_backend("Agg")

DISPLAYS = [FirstLayerDisplay, NetworkDisplay, TrainingCurveDisplay]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def model(iris):
    return small(early_stopping=True).fit(iris[0], np.array(["setosa", "versicolor", "virginica"])[iris[1]])


@pytest.mark.parametrize("display", DISPLAYS)
def test_draws_into_the_axes_it_is_given_or_its_own(display, model):
    own = display.from_estimator(model)
    assert own.figure_ is own.ax_.figure
    figure, (left, right) = pyplot.subplots(1, 2)
    given = display.from_estimator(model, ax=right)
    assert given.ax_ is right
    assert given.figure_ is figure
    assert not left.has_data()
    # drawn again from what it keeps
    assert given.plot().ax_ is not right
    for each in (own.figure_, figure):
        each.canvas.draw()


@pytest.mark.parametrize("display", DISPLAYS)
def test_an_estimator_must_be_fitted(display):
    with pytest.raises(ValueError, match=r"estimator must be .*fitted"):
        display.from_estimator(small())


@pytest.mark.parametrize("display", DISPLAYS)
def test_names_the_command_where_matplotlib_is_missing(display, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'pymlp\[plot\]'"):
        display.from_estimator(model)


def test_training_curves_show_the_history(model):
    display = TrainingCurveDisplay.from_estimator(model)
    # the rate is constant, so it says nothing
    assert list(display.axes_) == ["loss", "validation_score"]
    (loss,) = display.axes_["loss"].lines
    assert loss.get_xdata().tolist() == [1, 2, 3, 4]
    assert loss.get_ydata().tolist() == model.loss_curve_
    scores, best = display.axes_["validation_score"].lines
    assert scores.get_ydata().tolist() == model.validation_scores_
    assert best.get_ydata().tolist() == [model.best_validation_score_]
    assert best.get_color() == scores.get_color() == loss.get_color()


def test_training_curves_of_lbfgs_are_those_of_its_iterations(iris):
    model = small(solver="lbfgs").fit(*iris)
    display = TrainingCurveDisplay.from_estimator(model)
    assert list(display.axes_) == ["loss"]
    assert len(display.ax_.lines[0].get_ydata()) == model.n_iter_


def test_training_curves_of_several_models_share_panels(model, iris):
    options = {"solver": "sgd", "learning_rate": "invscaling", "early_stopping": True}
    display = TrainingCurveDisplay.from_estimator(small(**options).fit(*iris), name="sgd", linestyle="--")
    assert list(display.axes_) == ["loss", "validation_score", "rate"]
    assert np.all(np.diff(display.axes_["rate"].lines[0].get_ydata()) < 0)
    other = TrainingCurveDisplay.from_estimator(model, name="adam", ax=display.axes_)
    assert other.axes_ is display.axes_
    assert [text.get_text() for text in display.axes_["loss"].get_legend().get_texts()] == ["sgd", "adam"]
    assert display.axes_["loss"].lines[0].get_linestyle() == "--"


def test_a_history_may_have_gaps():
    history = {"loss": [2.0, float("nan"), 1.0], "validation_score": [None, None, None], "rate": [None] * 3}
    display = TrainingCurveDisplay(history).plot()
    assert list(display.axes_) == ["loss"]
    assert display.axes_["loss"] is display.ax_
    history = {"loss": [2.0, 1.0], "validation_loss": [2.5, 2.0]}
    display = TrainingCurveDisplay(history).plot()
    assert [line.get_ydata().tolist() for line in display.axes_["loss"].lines] == [[2.0, 1.0], [2.5, 2.0]]
    assert display.axes_["loss"].get_legend() is not None


def test_edges_have_the_sign_and_size_of_the_weights(iris):
    model = small(hidden_layer_sizes=(), max_iter=1).fit(*iris)
    model.coefs_[0] = [[4.0, -2.0, 0.0]] * 4
    edges = [each for each in NetworkDisplay.from_estimator(model).ax_.collections if isinstance(each, LineCollection)]
    (lines,) = edges
    # nothing is drawn for a weight of zero, and the largest lie on top
    assert len(lines.get_segments()) == 8
    drawn = [colors.to_hex(colour) for colour in lines.get_colors()]
    assert drawn == [NEGATIVE] * 4 + [POSITIVE] * 4
    assert len(set(lines.get_linewidths())) == 2
    assert all(np.diff(lines.get_linewidths()) >= 0)


def test_nodes_are_named_and_wide_layers_thinned(iris):
    pandas = pytest.importorskip("pandas", reason="names of features come from a table")
    X = pandas.DataFrame(iris[0], columns=["a", "b", "c", "d"])
    model = small(hidden_layer_sizes=(30,)).fit(X, np.array(["one", "two", "three"])[iris[1]])
    display = NetworkDisplay.from_estimator(model)
    written = [text.get_text() for text in display.ax_.texts]
    assert {"a", "b", "c", "d", "one", "two", "three", "18 more", "30\nrelu", "3\nsoftmax"} <= set(written)
    assert [len(nodes.get_offsets()) for nodes in display.ax_.collections[2:]] == [4, 12, 3]
    display = NetworkDisplay.from_estimator(model, max_nodes=30, input_names="wxyz")
    assert "w" in [text.get_text() for text in display.ax_.texts]
    assert [len(nodes.get_offsets()) for nodes in display.ax_.collections[2:]] == [4, 30, 3]
    with pytest.raises(ValueError, match="output_names must be 3 names, got 2"):
        NetworkDisplay.from_estimator(model, output_names=["a", "b"])
    with pytest.raises(ValueError, match="max_nodes must be at least 2, got 1"):
        NetworkDisplay.from_estimator(model, max_nodes=1)


def test_captions_say_what_a_layer_has():
    hidden = Dense(3, "gelu", dropout=0.25, normalization="layer", residual=True, parametric=True)
    network = Network(3, (hidden, Dense(1, "identity")))
    display = NetworkDisplay(network, network.initial_params(0)).plot()
    captions = [text.get_text() for text in display.ax_.texts]
    assert captions == ["3\ninputs", "3\nlayer norm\nparametric gelu\ndropout 0.25\n+ inputs", "1\nidentity"]


def test_a_network_with_one_output_and_no_hidden_layer_is_drawn(iris):
    model = small(MLPRegressor, hidden_layer_sizes=()).fit(*iris)
    display = NetworkDisplay.from_estimator(model)
    display.figure_.canvas.draw()


def test_images_are_the_weights_of_the_first_layer(model):
    display = FirstLayerDisplay.from_estimator(model)
    weights = model.coefs_[0]
    sizes = np.linalg.norm(weights[:, display.units], axis=0)
    assert np.all(np.diff(sizes) <= 0)
    assert sorted(display.units) == list(range(6))
    assert np.array_equal(display.image_[:2, :2], weights[:, display.units[0]].reshape(2, 2))
    # a gap of one pixel, then the next
    assert np.isnan(display.image_[:2, 2]).all()
    assert np.array_equal(display.image_[:2, 3:5], weights[:, display.units[1]].reshape(2, 2))
    low, high = display.ax_.images[0].get_clim()
    assert high == -low == np.quantile(np.abs(weights), SHOWN_QUANTILE)


def test_images_of_chosen_units_and_shapes(model, iris):
    display = FirstLayerDisplay.from_estimator(model, shape=(1, 4), units=[5, 0])
    assert display.units == (5, 0)
    assert np.isnan(display.image_).sum() > 0
    assert FirstLayerDisplay.from_estimator(model, units=3).units == FirstLayerDisplay.from_estimator(model).units[:3]
    coloured = small().fit(np.tile(iris[0], 3), iris[1])
    image = FirstLayerDisplay.from_estimator(coloured, shape=(2, 2, 3)).ax_.images[0].get_array()
    assert image.shape[2] == 3
    assert 0 <= image.min() < image.max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (3, 2)}, r"shape must be \(height, width\) .* for 4 inputs, but it is \(3, 2\)"),
        ({"shape": (4,)}, "shape must be"),
        ({"units": [6]}, r"units must lie between 0 and 5 and be at least one, got \[6\]"),
        ({"units": []}, "units must lie"),
        ({"units": 0}, "units must be at least 1, got 0"),
    ],
)
def test_images_that_cannot_be(model, options, message):
    with pytest.raises(ValueError, match=message):
        FirstLayerDisplay.from_estimator(model, **options)


def test_inputs_that_are_no_square_need_a_shape(iris):
    model = small().fit(iris[0][:, :3], iris[1])
    with pytest.raises(ValueError, match="shape must say how 3 inputs make up an image"):
        FirstLayerDisplay.from_estimator(model)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
@pytest.mark.parametrize("classes", [2, 3])
def test_scikit_learn_draws_the_regions(iris, method, classes):
    inspection = pytest.importorskip("sklearn.inspection", reason="the display is scikit-learn's")
    chosen = iris[1] < classes
    X, y = iris[0][chosen, :2], np.array(["a", "b", "c"])[iris[1][chosen]]
    model = small(solver="lbfgs").fit(X, y)
    display = inspection.DecisionBoundaryDisplay.from_estimator(model, X, response_method=method, grid_resolution=20)
    display.figure_.canvas.draw()
