"""The progress bar."""

import io
import pickle
import sys

import numpy as np
import pytest

from pymlp.network import Network
from pymlp.progress import ProgressBar
from pymlp.training import train


def test_shows_epochs_loss_and_rows_per_second():
    shown = io.StringIO()
    network = Network.from_widths((2, 3, 1), dtype="float64")
    X = np.ones((10, 2))
    train(network, network.initial_params(0), X, X[:, :1], epochs=4, callbacks=[ProgressBar(file=shown)])
    last = shown.getvalue().split("\r")[-1]
    assert "epoch 4/4" in last
    assert "100%" in last
    assert "loss=" in last
    assert "rows/s" in last


def test_goes_to_standard_error_and_pickles(capsys):
    bar = pickle.loads(pickle.dumps(ProgressBar()))
    network = Network.from_widths((2, 3, 1), dtype="float64")
    X = np.ones((10, 2))
    train(network, network.initial_params(0), X, X[:, :1], epochs=1, callbacks=[bar])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "epoch 1/1" in captured.err


def test_names_the_command_where_tqdm_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        ProgressBar()


def test_ctrl_c_while_the_bar_is_drawn_stays_ctrl_c():
    class Interrupting(io.StringIO):
        def write(self, text):
            raise KeyboardInterrupt

    network = Network.from_widths((2, 3, 1), dtype="float64")
    X = np.ones((10, 2))
    with pytest.raises(KeyboardInterrupt):
        train(network, network.initial_params(0), X, X[:, :1], epochs=1, callbacks=[ProgressBar(file=Interrupting())])
