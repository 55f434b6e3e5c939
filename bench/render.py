"""Writes recorded results into the READMEs: tables between their markers, and the two pictures.

    python -m pytest bench --slow --benchmark-json=bench/results/latest.json
    python bench/mnist.py
    python bench/speedrun.py
    python bench/accuracy.py
    python bench/render.py

Tables and pictures come from the recorded files alone, so no figure in a README was typed by hand.  What was not
measured, because it is not installed, has no column.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import accuracy
import mnist
import speedrun
from cases import PREDICTION_CASES, TRAINING_CASES
from pictures import draw_relative, draw_roofline
from recorded import TITLES, Record, Results

BENCH = Path(__file__).parent
RESULTS = BENCH / "results" / "latest.json"

# what a cell shows when nothing was measured
EMPTY = "-"


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


def _exact_ratio(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.2f}"


def _percent(share: float | None) -> str:
    return EMPTY if share is None else f"{100 * share:.0f} %"


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown, without the columns in which nothing was measured."""
    shown = [column for column in range(len(head)) if not rows or any(row[column] != EMPTY for row in rows)]
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line[column] for column in shown) + " |" for line in lines)


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
    lines += [
        f"read from {record['case']} by {record['threads']} core{'s' if record['threads'] > 1 else ''}: "
        f"{record['gigabytes']:.0f} GB/s"
        for record in results.kind("bandwidth")
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


def _training_rows(results: Results, *kinds: str) -> list[tuple[Any, str, list[str]]]:
    """Case, dtype and first cells of each row of a table of training steps."""
    measured = {(record["case"], record["dtype"]) for kind in kinds for record in results.kind(kind)}
    return [
        (case, dtype, [f"{case.name}: {_layers(case.widths)} ({case.batch_size})", dtype])
        for case in TRAINING_CASES
        for dtype in case.dtypes
        if (case.name, dtype) in measured
    ]


def _others(results: Results, kind: str) -> list[str]:
    """Who the C engine is compared with, but for the reference."""
    return [name for name in results.contestants(kind) if name != "c"]


def step_table(results: Results) -> str:
    """Microseconds a training step."""
    contestants = results.contestants("step")
    head = ["case: layers (batch)", "dtype", *[TITLES.get(name, name) for name in contestants], "tight NumPy"]
    rows = [
        cells
        + [_time(results.find("step", case.name, dtype, name)) for name in contestants]
        + [microseconds(results.reference_seconds("step", case.name, dtype))]
        for case, dtype, cells in _training_rows(results, "step")
    ]
    return _table(head, rows)


def gain_table(results: Results) -> str:
    """How many times faster the C engine takes a step, and what it makes of the peak."""
    others = [None, *_others(results, "step")]
    titles = ["tight NumPy" if name is None else TITLES.get(name, name) for name in others]
    rows = []
    for case, dtype, cells in _training_rows(results, "step"):
        engine = results.find("step", case.name, dtype, "c")
        rows.append(
            [
                *cells,
                EMPTY if engine is None else f"{engine['gflops']:.1f}",
                _percent(engine and engine["share_of_peak"]),
            ]
            + [_ratio(results.gain("step", case.name, dtype, name)) for name in others]
        )
    return _table(["case: layers (batch)", "dtype", "C GFLOP/s", "C of peak", *titles], rows)


def engine_table(results: Results) -> str:
    """The C engine against itself: AVX2, one thread, and the estimator's `fit`, each in a race of its own."""
    head = ["case: layers (batch)", "dtype", "AVX2 / best instruction set", "one core / all cores", "fit / bare steps"]
    rows = []
    for case, dtype, cells in _training_rows(results, "isa", "threads", "fit overhead"):
        isa = results.find("isa", case.name, dtype, "avx2")
        threads = results.find("threads", case.name, dtype, "c")
        fit = results.find("fit overhead", case.name, dtype, "c")
        # a speed is reference / contestant; the first and the last column have the contestant above
        ratios = [isa and 1 / isa["speed"], threads and threads["speed"], fit and 1 / fit["speed"]]
        rows.append(cells + [_exact_ratio(ratio) for ratio in ratios])
    lines = [_table(head, rows)]
    lines += [
        f"\nAn epoch of one batch costs {microseconds(record['epoch_seconds'])} us more in `fit` than its step."
        for record in results.kind("epoch overhead")
    ]
    return "\n".join(lines)


def predict_table(results: Results) -> str:
    """Microseconds a call, the C engine's rows per second, and how it compares."""
    contestants = results.contestants("predict")
    head = ["case", "rows", *[TITLES.get(name, name) for name in contestants], "NumPy"]
    head += ["C, rows a second", "C of peak", "NumPy / C"]
    rows = []
    for case in dict.fromkeys(record["case"] for record in results.kind("predict")):
        found = {name: results.find("predict", case, "float32", name) for name in contestants}
        engine = results.engine("predict", case, "float32")
        count = next(record["rows"] for record in found.values() if record)
        rows.append(
            [case, f"{count:,}"]
            + [_time(found[name]) for name in contestants]
            + [microseconds(results.reference_seconds("predict", case, "float32"))]
            + [EMPTY if engine is None else f"{count / engine['seconds']:,.0f}"]
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
    others = ["scikit-learn", "PyTorch", "JAX", "ONNX Runtime"]
    head = ["work", "C engine", "Numba", "NumPy by hand", *others, "C, share of peak"]
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
        engine, numba = results.engine(kind, case, "float32"), results.find(kind, case, "float32", "numba")
        if engine is None and numba is None:
            continue
        rows.append(
            [title, _time(engine), _time(numba), microseconds(results.reference_seconds(kind, case, "float32"))]
            + [_time(results.find(kind, case, "float32", name)) for name in others]
            + [_percent(engine and engine["share_of_peak"])]
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


def main() -> None:
    """Render the file of results given, by default the latest recorded, and the recorded trainings on real data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS)
    results = Results(parser.parse_args().results)
    write_between(BENCH.parent / "README.md", "measured", summary_table(results))
    for name, table in {
        "machine": machine_list,
        "tile": tile_table,
        "step": step_table,
        "gain": gain_table,
        "engine": engine_table,
        "predict": predict_table,
        "fit": fit_table,
    }.items():
        write_between(BENCH / "README.md", name, table(results))
    for program in (mnist, speedrun, accuracy):
        if not program.RESULTS.exists():
            continue
        records = json.loads(program.RESULTS.read_text(encoding="utf-8"))
        write_between(BENCH / "README.md", program.__name__, program.table(records))
    draw_relative(results, BENCH / "relative.png")
    draw_roofline(results, BENCH / "roofline.png")


if __name__ == "__main__":
    main()
