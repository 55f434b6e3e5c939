"""A network at a glance: what each row of its table is, how wide, how many parameters it has and what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

COLUMNS = ("layer", "kind", "activation", "inputs", "outputs", "parameters", "FLOPs a row")
# of the columns, those that hold words
WORDS = ("layer", "kind", "activation")


def flops_of(row: Any) -> int:
    """Operations of a table's row for one row of data: two for each weight of a matrix, one for any other parameter."""
    return sum(math.prod(part.shape) * (2 if len(part.shape) > 1 else 1) for part in row.parts)


def size_text(n_bytes: float) -> str:
    """A number of bytes in the unit that keeps it short."""
    units = ("bytes", "kB", "MB", "GB")
    power = min((len(str(int(n_bytes))) - 1) // 3, len(units) - 1)
    return f"{n_bytes / 1000**power:.3g} {units[power]}"


@dataclass(frozen=True)
class Summary:
    """A table of a network's layers, as text (`str`) or, in a notebook, as HTML.

    Parameters
    ----------
    network : Network
    title : str, default="Network"

    Attributes
    ----------
    lines : list of dict
        What stands in the table: ``layer``, ``kind``, ``activation``, ``inputs``, ``outputs``, ``parameters`` and
        ``FLOPs a row`` (two for each weight, one for any other parameter; for inference on one row of data).
    n_parameters, flops : int
        The sums.

    Examples
    --------
    >>> from pymlp import Network
    >>> print(Network.from_widths((784, 100, 10), loss="log_loss").summary())
    Network: 784 inputs, 10 outputs, log_loss, float32
    layer   kind   activation  inputs  outputs  parameters  FLOPs a row
    0       dense  relu           784      100      78,500      156,900
    1       dense  softmax        100       10       1,010        2,010
    in all                                          79,510      158,910
    parameters take 318 kB
    """

    network: Any
    title: str = "Network"

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The table, a dict for each row."""
        return [
            dict(
                zip(
                    COLUMNS,
                    (
                        "inputs" if row.layer < 0 else str(row.layer),
                        _kind_text(row),
                        "" if row.activation == "identity" and not row.parts else row.activation,
                        row.inputs,
                        row.outputs,
                        sum(math.prod(part.shape) for part in row.parts),
                        flops_of(row),
                    ),
                    strict=True,
                )
            )
            for row in self.network.table
        ]

    @property
    def n_parameters(self) -> int:
        """Parameters of the whole network."""
        return self.network.n_parameters

    @property
    def flops(self) -> int:
        """Operations of the whole network for one row of data."""
        return sum(flops_of(row) for row in self.network.table)

    def __str__(self) -> str:
        cells = [list(COLUMNS), *self._cells()]
        widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
        lines = [
            "  ".join(
                cell.ljust(width) if name in WORDS else cell.rjust(width)
                for cell, width, name in zip(line, widths, COLUMNS, strict=True)
            ).rstrip()
            for line in cells
        ]
        return "\n".join([self._heading(), *lines, self._size()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells: list[str], tag: str) -> str:
            aligned = (
                f'<{tag} style="text-align: {"left" if name in WORDS else "right"}">{escape(cell)}</{tag}>'
                for cell, name in zip(cells, COLUMNS, strict=True)
            )
            return f"<tr>{''.join(aligned)}</tr>"

        *body, sums = self._cells()
        return (
            f"<table><caption>{escape(self._heading())}; {escape(self._size())}</caption>"
            f"<thead>{line(list(COLUMNS), 'th')}</thead>"
            f"<tbody>{''.join(line(cells, 'td') for cells in body)}</tbody>"
            f"<tfoot>{line(sums, 'th')}</tfoot></table>"
        )

    def _cells(self) -> list[list[str]]:
        """The table as text, the sums last."""
        body = [[value if isinstance(value, str) else f"{value:,}" for value in line.values()] for line in self.lines]
        return [*body, ["in all", "", "", "", "", f"{self.n_parameters:,}", f"{self.flops:,}"]]

    def _heading(self) -> str:
        network = self.network
        loss = network.loss if isinstance(network.loss, str) else repr(network.loss)
        inputs, outputs = _counted(network.inputs, "input"), _counted(network.outputs, "output")
        return f"{self.title}: {inputs}, {outputs}, {loss}, {network.dtype}"

    def _size(self) -> str:
        return f"parameters take {size_text(self.n_parameters * np.dtype(self.network.dtype).itemsize)}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _kind_text(row: Any) -> str:
    # of the rows with a number of their own, only that of dropout is the user's
    return f"{row.kind} {row.setting:g}" if row.kind == "dropout" else row.kind
