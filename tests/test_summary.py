"""The summary of a network: every row of its table, the sums, as text and as HTML."""

import html.parser
import re

import pytest

from pymlp import Dense, Network
from pymlp.summary import COLUMNS, Summary, size_text


def test_text_of_a_plain_network():
    summary = Network.from_widths((784, 100, 10), loss="log_loss").summary()
    assert (summary.n_parameters, summary.flops) == (79510, 158910)
    assert str(summary) == repr(summary)
    # the example in the documentation
    documented = [line.strip() for line in Summary.__doc__.splitlines()]
    start = next(number for number, line in enumerate(documented) if line.startswith(">>> print")) + 1
    assert str(summary).splitlines() == documented[start : start + 6]


def test_every_row_of_the_table_has_a_line():
    layers = (
        Dense(8, "gelu", dropout=0.1, normalization="layer", residual=True, parametric=True),
        Dense(1, "identity"),
    )
    network = Network(8, layers, input_dropout=0.2)
    summary = network.summary()
    assert [(line["layer"], line["kind"]) for line in summary.lines] == [
        ("inputs", "dropout 0.2"),
        ("0", "dense"),
        ("0", "layer_norm"),
        ("0", "parametric"),
        ("0", "dropout 0.1"),
        ("0", "add"),
        ("1", "dense"),
    ]
    assert sum(line["parameters"] for line in summary.lines) == network.n_parameters == 72 + 16 + 8 + 9
    assert [line["FLOPs a row"] for line in summary.lines] == [0, 136, 16, 8, 0, 0, 17]
    assert "float32" in str(summary)


def test_html_says_what_the_text_says():
    class Cells(html.parser.HTMLParser):
        def handle_data(self, data):
            found.append(data)

        def handle_starttag(self, tag, attributes):
            opened.append(tag)

        def handle_endtag(self, tag):
            closed.append(tag)

    found, opened, closed = [], [], []
    summary = Network.from_widths((784, 100, 10), loss="log_loss").summary()
    Cells().feed(summary._repr_html_())
    assert sorted(opened) == sorted(closed)
    assert opened.count("tr") == 4
    text = " ".join(found)
    assert set(re.findall(r"\w+", str(summary))) == set(re.findall(r"\w+", text))
    assert all(column in found for column in COLUMNS)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1234, "1.23 kB"), (5e6, "5 MB"), (2.5e9, "2.5 GB"), (4e12, "4e+03 GB")],
)
def test_sizes(n_bytes, text):
    assert size_text(n_bytes) == text


def test_of_an_estimator():
    estimators = pytest.importorskip("pymlp.estimators", reason="the estimators need scikit-learn")
    model = estimators.MLPRegressor(hidden_layer_sizes=(5,), max_iter=1)
    with pytest.raises(ValueError, match="not fitted"):
        model.summary()
    with pytest.warns(UserWarning, match="hasn't converged"):
        model.fit([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0])
    assert str(model.summary()).startswith("MLPRegressor: 2 inputs, 1 output, squared_error, float64\n")
    assert model.summary().n_parameters == 21
