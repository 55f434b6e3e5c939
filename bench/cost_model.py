"""What a training step should cost, from a few measured rates: csrc/README.md explains the terms and shows the table.

    python bench/cost_model.py                     # the cases of the record on 1 to 64 cores
    python bench/cost_model.py --widths 100 64 10 --batch 500

The rates are those of the machine of the record (bench/README.md); a machine with other rates is an option away.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from cases import TRAINING_CASES

CORES = (1, 2, 4, 8, 16, 32, 64)
LANES = 16
PANEL = 32
LINE = 16


@dataclass(frozen=True)
class Rates:
    """Measured rates of a machine, for float32 with 16 lanes."""

    gigahertz: float = 3.63  # vector multiply-adds a nanosecond and core: the peak is 32 times this in GFLOP/s
    tile: float = 0.96  # share of the peak that the micro-kernel keeps at the depths of a layer
    row_cycles: float = 110.0  # a row's gathering, loss and first deltas
    update_cycles: float = 30.0  # a vector of parameters: penalties, Adam, transpose, memory
    barrier: float = 0.5  # us, two threads
    member: float = 0.06  # us that each further thread adds to a barrier
    line: float = 3e-3  # us for a cache line that another core wrote last


@dataclass(frozen=True)
class Cost:
    """A step's parts in us, on so many cores."""

    rows: float
    units: float
    exchange: float
    barriers: float

    @property
    def total(self) -> float:
        return self.rows + self.units + self.exchange + self.barriers


def vectors(columns: int) -> float:
    """Vectors that `columns` columns take; half a vector is the least."""
    return max(0.5, ceil(columns / LANES)) if columns > LANES // 2 else 0.5


def step_cost(widths: tuple[int, ...], batch: int, cores: int, rates: Rates) -> Cost:
    """Cost of one step of Adam on a perceptron of these widths."""
    pairs = list(pairwise(widths))
    forward = sum(inputs * vectors(outputs) for inputs, outputs in pairs)
    backward = sum(outputs * vectors(inputs) for inputs, outputs in pairs[1:])
    gradient = sum(min(inputs * vectors(outputs), outputs * ceil(inputs / LANES)) for inputs, outputs in pairs)
    parameters = sum(inputs * outputs for inputs, outputs in pairs)
    turned = sum(inputs * outputs for inputs, outputs in pairs[1:])

    # a tile of few rows waits for its multiply-adds: 8 of them, two a row, are under way at any time
    most_rows = ceil(batch / cores)
    tile_rows = max(most_rows, 4)
    rows = (tile_rows * (forward + backward) / rates.tile + most_rows * rates.row_cycles) / rates.gigahertz / 1e3
    # units are dealt whole
    units = sum(ceil(inputs / 32) * ceil(outputs / PANEL) for inputs, outputs in pairs)
    share = ceil(units / cores) / units
    work = batch * gradient / rates.tile + parameters / LANES * rates.update_cycles
    if cores == 1:
        return Cost(rows, work / rates.gigahertz / 1e3, 0.0, 0.0)
    # weights that others have updated; what this core writes for others to read, and what it reads of theirs
    others = 1 - 1 / cores
    lines = others * (parameters + turned) / LINE
    lines += batch / cores * (2 * sum(widths[1:]) + widths[0]) / LINE
    lines += batch * others * (sum(widths[:-1]) + sum(widths[1:]) / cores) / LINE
    barrier = rates.barrier + rates.member * (cores - 2)
    return Cost(rows, share * work / rates.gigahertz / 1e3, lines * rates.line, 2 * barrier)


def table(cases: list[tuple[str, tuple[int, ...], int]], rates: Rates) -> str:
    """The cases' times on each number of cores, as Markdown; the fastest in bold."""
    head = ["case: layers (batch)", *(f"{cores} core{'s' if cores > 1 else ''}" for cores in CORES)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * len(CORES)]
    for name, widths, batch in cases:
        times = [step_cost(widths, batch, cores, rates).total for cores in CORES]
        texts = [f"{time:,.1f}" if time < 100 else f"{time:,.0f}" for time in times]
        best = times.index(min(times))
        texts[best] = f"**{texts[best]}**"
        lines.append(f"| {name}: {'-'.join(map(str, widths))} ({batch}) | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", help="layers of one network, instead of the record's cases")
    parser.add_argument("--batch", type=int, default=128)
    for name, value in vars(Rates()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value)
    arguments = parser.parse_args()
    if arguments.widths is not None and (len(arguments.widths) < 2 or min(arguments.widths) < 1):
        parser.error(f"--widths must be at least two numbers above 0, got {arguments.widths}")
    if arguments.batch < 1:
        parser.error(f"--batch must be at least 1, got {arguments.batch}")
    rates = Rates(**{name: getattr(arguments, name) for name in vars(Rates())})
    cases = [("network", tuple(arguments.widths), arguments.batch)] if arguments.widths else None
    print(table(cases or [(case.name, case.widths, case.batch_size) for case in TRAINING_CASES], rates))


if __name__ == "__main__":
    main()
