"""Writes recorded results into the READMEs: tables between their markers, and the picture of relative speeds.

    python -m pytest bench --slow --benchmark-json=bench/results/latest.json
    python bench/mnist.py
    python bench/render.py

Tables and picture come from the two recorded files alone, so no figure in a README was typed by hand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import mnist
from cases import PREDICTION_CASES, TRAINING_CASES

BENCH = Path(__file__).parent
RESULTS = BENCH / "results" / "latest.json"
PICTURE = BENCH / "speed.png"

TITLES = {"c": "C", "numba": "Numba", "numpy": "NumPy backend"}
# what a cell shows when nothing was measured
EMPTY = "-"

Record = dict[str, Any]


class Results:
    """The records of one run, found by kind, case, dtype and contestant."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        self.machine: Record = content["machine_info"]
        self.records: list[Record] = [entry["extra_info"] for entry in content["benchmarks"]]

    def kind(self, kind: str) -> list[Record]:
        """All records of a kind, in the order they were measured."""
        return [record for record in self.records if record["kind"] == kind]

    def find(self, kind: str, case: str, dtype: str, contestant: str) -> Record | None:
        """The record, or None if it was not measured."""
        wanted = {"kind": kind, "case": case, "dtype": dtype, "contestant": contestant}
        return next((record for record in self.records if wanted.items() <= record.items()), None)

    def reference_seconds(self, kind: str, case: str, dtype: str) -> float | None:
        """Time of hand-written NumPy, from its race with the fastest backend that took part."""
        found = (self.find(kind, case, dtype, name) for name in TITLES)
        return next((record["reference_seconds"] for record in found if record), None)


def microseconds(seconds: float | None) -> str:
    """A time in microseconds with three significant digits."""
    if seconds is None:
        return EMPTY
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _time(record: Record | None) -> str:
    return microseconds(record and record["seconds"])


def _ratio(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _percent(share: float | None) -> str:
    return EMPTY if share is None else f"{100 * share:.0f} %"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _layers(widths: tuple[int, ...]) -> str:
    return "-".join(str(width) for width in widths)


def machine_list(results: Results) -> str:
    """The machine that measured, as a list."""
    machine = results.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        f"CPU: {machine['cpu']} ({machine['architecture']}), {machine['usable_cores']} usable cores",
        f"instruction sets of the C engine: {', '.join(machine['instruction_sets']) or 'not built'}",
        f"compiler: {machine['compiler']}",
        f"{machine['system']}, Python {machine['python']}; pymlp {machine['pymlp']}, {packages}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def tile_table(results: Results) -> str:
    """Micro-kernels: GFLOP/s and share of one core's peak."""
    rows = [
        [
            record["case"],
            record["dtype"],
            f"{record['gflops']:.1f}",
            f"{record['peak_gflops']:.1f}",
            _percent(record["share_of_peak"]),
        ]
        for record in results.kind("tile")
    ]
    return _table(["micro-kernel", "dtype", "GFLOP/s", "peak of one core", "share"], rows)


def step_table(results: Results) -> str:
    """Microseconds a training step, and how the C engine compares."""
    contestants = ["c", "numba", "numpy", "plain NumPy", "scikit-learn"]
    head = ["case: layers (batch)", "dtype", *[TITLES.get(name, name) for name in contestants], "tight NumPy"]
    head += ["C GFLOP/s", "C of peak", "tight NumPy / C", "tight NumPy / Numba"]
    rows = []
    for case in TRAINING_CASES:
        for dtype in case.dtypes:
            found = {name: results.find("step", case.name, dtype, name) for name in contestants}
            if not any(found.values()):
                continue
            engine, numba = found["c"], found["numba"]
            rows.append(
                [f"{case.name}: {_layers(case.widths)} ({case.batch_size})", dtype]
                + [_time(found[name]) for name in contestants]
                + [microseconds(results.reference_seconds("step", case.name, dtype))]
                + [EMPTY if engine is None else f"{engine['gflops']:.1f}", _percent(engine and engine["share_of_peak"])]
                + [_ratio(engine and engine["speed"]), _ratio(numba and numba["speed"])]
            )
    return _table(head, rows)


def predict_table(results: Results) -> str:
    """Microseconds a call, and the C engine's rows per second."""
    contestants = ["c", "numba", "numpy", "NumPy in chunks", "scikit-learn"]
    head = ["case", "rows", *[TITLES.get(name, name) for name in contestants], "NumPy"]
    head += ["C, rows a second", "C of peak", "NumPy / C"]
    rows = []
    for case in PREDICTION_CASES:
        found = {name: results.find("predict", case.name, "float32", name) for name in contestants}
        if not any(found.values()):
            continue
        engine = found["c"]
        rows.append(
            [case.name, f"{case.rows:,}"]
            + [_time(found[name]) for name in contestants]
            + [microseconds(results.reference_seconds("predict", case.name, "float32"))]
            + [EMPTY if engine is None else f"{case.rows / engine['seconds']:,.0f}"]
            + [_percent(engine and engine["share_of_peak"]), _ratio(engine and engine["speed"])]
        )
    return _table(head, rows)


def fit_table(results: Results) -> str:
    """Seconds of a whole fit of the estimator, and of scikit-learn's in the same race."""
    rows = [
        [
            f"{record['case']}, {record['epochs']} epochs",
            record["dtype"],
            TITLES[record["contestant"]],
            f"{record['seconds']:.3f}",
            f"{record['reference_seconds']:.3f}",
            _ratio(record["speed"]),
        ]
        for record in results.kind("fit")
    ]
    return _table(["data", "dtype", "backend", "seconds", "scikit-learn, seconds", "scikit-learn / pymlp"], rows)


def summary_table(results: Results) -> str:
    """The table of the top-level README: float32 times of a training step and of a prediction call."""
    head = ["work", "C engine", "Numba", "NumPy by hand", "scikit-learn", "scikit-learn / C", "C, share of peak"]
    named = [
        ("step", case.name, f"training step, {_layers(case.widths)}, batch {case.batch_size}")
        for case in TRAINING_CASES
    ]
    named += [
        ("predict", case.name, f"prediction, {_layers(case.widths)}, {case.rows:,} row{'s' if case.rows > 1 else ''}")
        for case in PREDICTION_CASES
    ]
    rows = []
    for kind, case, title in named:
        engine, numba, other = (
            results.find(kind, case, "float32", contestant) for contestant in ("c", "numba", "scikit-learn")
        )
        if engine is None and numba is None:
            continue
        # both speeds are against the same reference, measured round by round
        gain = engine["speed"] / other["speed"] if engine and other else None
        rows.append(
            [
                title,
                _time(engine),
                _time(numba),
                microseconds(results.reference_seconds(kind, case, "float32")),
                _time(other),
                _ratio(gain),
                _percent(engine and engine["share_of_peak"]),
            ]
        )
    return _table(head, rows)


def write_between(path: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- name begin -->`` and ``<!-- name end -->`` in a file.

    Raises
    ------
    ValueError
        The file has no such pair of markers.
    """
    begin, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
    content = path.read_text(encoding="utf-8")
    if content.count(begin) != 1 or content.count(end) != 1:
        raise ValueError(f"{path.name} must hold the markers {begin} and {end} once each")
    before, rest = content.split(begin)
    after = rest.split(end)[1]
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def draw(results: Results, path: Path) -> None:
    """Bars of the speed of a training step in float32, as multiples of hand-written NumPy."""
    from matplotlib.figure import Figure

    contestants = {"scikit-learn": "#b8b8b8", "plain NumPy": "#7f8fa6", "numba": "#f0a030", "c": "#2060a0"}
    cases = [case for case in TRAINING_CASES if any(results.find("step", case.name, "float32", c) for c in contestants)]
    figure = Figure(figsize=(8, 1.0 + 0.8 * len(cases)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(contestants)
    for position, (contestant, colour) in enumerate(contestants.items()):
        found = [results.find("step", case.name, "float32", contestant) for case in cases]
        places = [len(cases) - index + (position - 1.5) * height for index in range(len(cases))]
        speeds = [record["speed"] if record else 0.0 for record in found]
        bars = axes.barh(places, speeds, height, color=colour, label=TITLES.get(contestant, contestant))
        axes.bar_label(bars, [f"{speed:.1f}" if speed else "" for speed in speeds], padding=2, fontsize=8)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yticks(
        [len(cases) - index for index in range(len(cases))],
        [f"{case.name}\n{_layers(case.widths)} ({case.batch_size})" for case in cases],
        fontsize=8,
    )
    axes.set_xlabel("speed of a training step, float32, Adam; 1 = NumPy written tightly by hand")
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="lower right", frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    """Render the file of results given, by default the latest recorded, and the recorded accuracy on MNIST."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS)
    results = Results(parser.parse_args().results)
    write_between(BENCH.parent / "README.md", "measured", summary_table(results))
    for name, table in {
        "machine": machine_list,
        "tile": tile_table,
        "step": step_table,
        "predict": predict_table,
        "fit": fit_table,
    }.items():
        write_between(BENCH / "README.md", name, table(results))
    write_between(BENCH / "README.md", "mnist", mnist.table(json.loads(mnist.RESULTS.read_text(encoding="utf-8"))))
    draw(results, PICTURE)


if __name__ == "__main__":
    main()
