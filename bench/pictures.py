"""The two pictures of the recorded results: time per step relative to each peer, and the roofline.

The colours are those of Okabe and Ito, which colour-blind readers can tell apart; the markers differ as well.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from cases import PREDICTION_CASES, TRAINING_CASES
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from recorded import TITLES, Results

# colour, marker and line of each; None is the reference, NumPy written tightly by hand
STYLES: dict[str | None, tuple[str, str, str]] = {
    "PyTorch bf16": ("#CC79A7", "d", "--"),
    "PyTorch": ("#CC79A7", "D", "-"),
    "scikit-learn": ("#D55E00", "s", "-"),
    None: ("#0072B2", "o", "-"),
    "JAX": ("#009E73", "^", "-"),
    "numba": ("#E69F00", "v", ":"),
}
TRAINING_COLOUR, PREDICTION_COLOUR = "#0072B2", "#D55E00"
GREY = "#555555"
# places for a point's label, best first: offset in points, alignment
PLACES = (
    ((7, -3), "left"),
    ((-7, -3), "right"),
    ((0, 7), "center"),
    ((0, -14), "center"),
    ((7, 7), "left"),
    ((7, -13), "left"),
    ((-7, 7), "right"),
    ((-7, -13), "right"),
)


def _layers(widths: tuple[int, ...]) -> str:
    return "-".join(str(width) for width in widths)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=130, metadata={"Software": None})


def draw_relative(results: Results, path: Path) -> None:
    """Each peer's time for a training step in float32 as a multiple of the C engine's, by size of the network."""
    cases = [case for case in TRAINING_CASES if results.find("step", case.name, "float32", "c")]
    figure = Figure(figsize=(10.5, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.axhspan(1e-3, 1, color="#000000", alpha=0.07, linewidth=0)
    axes.axhline(1, color="black", linewidth=1)
    highest = 1.0
    lowest = 1.0
    for name, (colour, marker, line) in STYLES.items():
        gains = [results.gain("step", case.name, "float32", name) for case in cases]
        points = [(place, gain) for place, gain in enumerate(gains) if gain]
        if not points:
            continue
        title = "NumPy by hand" if name is None else "pymlp on Numba" if name == "numba" else TITLES.get(name, name)
        places, values = zip(*points, strict=True)
        highest, lowest = max(highest, *values), min(lowest, *values)
        axes.plot(places, values, color=colour, marker=marker, linestyle=line, markersize=7, linewidth=1.8, label=title)
    axes.set_yscale("log")
    axes.set_ylim(min(0.6, 0.8 * lowest), 1.4 * highest)
    ticks = [tick for tick in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if 0.8 * lowest <= tick <= 1.4 * highest]
    axes.set_yticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_xlim(-0.4, len(cases) - 0.6)
    axes.set_xticks(
        range(len(cases)),
        [f"{case.name}\n{_layers(case.widths)}\nbatch {case.batch_size}" for case in cases],
        fontsize=8.5,
    )
    axes.text(-0.35, 0.94, "here pymlp is slower", va="top", fontsize=9, color=GREY)
    axes.set_title("Time of a training step as a multiple of pymlp's (C engine)", loc="left", fontsize=12)
    axes.set_xlabel("network, by operations in a step; float32, Adam; PyTorch bf16: products in bfloat16", fontsize=9.5)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", fontsize=10, framealpha=1, edgecolor="white")
    _save(figure, path)


def _bandwidths(results: Results) -> list[tuple[str, float]]:
    """GB/s of all cores together, fastest first."""
    found = [(record["case"], record["gigabytes"]) for record in results.kind("bandwidth")]
    rates = {case: max(rate for name, rate in found if name == case) for case, _ in found}
    return sorted(rates.items(), key=lambda item: -item[1])


def _points(results: Results) -> list[tuple[str, float, float, bool]]:
    """Label, operations a byte, GFLOP/s of the C engine, and whether it is a training step."""
    points = []
    for kind, cases in (("step", TRAINING_CASES), ("predict", PREDICTION_CASES)):
        for case in cases:
            record = results.engine(kind, case.name, "float32")
            if record and record.get("gflops"):
                points.append((case.name, case.flops / case.bytes("float32"), record["gflops"], kind == "step"))
    return points


def _along(box: Bbox) -> list[Bbox]:
    """Squares along the diagonal of the box around a slanting text: the space that the text itself takes."""
    side = 18.0
    parts = max(1, int((box.height - side) / (side / 2)))
    steps = [part / parts for part in range(parts + 1)]
    corners = [(box.x0 + step * (box.width - side), box.y0 + step * (box.height - side)) for step in steps]
    return [Bbox.from_bounds(x, y, side, side) for x, y in corners]


def _label(axes: Any, renderer: Any, points: list[tuple[str, float, float]], taken: list[Bbox]) -> None:
    """Write each label at the first place where it meets no point and no other text."""
    for _, x, y in points:
        centre = axes.transData.transform((x, y))
        taken.append(Bbox.from_extents(*(centre - 6), *(centre + 6)))
    inside = axes.get_window_extent(renderer)
    for label, x, y in points:
        text = axes.annotate(label, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=9)
        # the first place is also what remains where none is free
        for offset, alignment in (*PLACES, PLACES[0]):
            text.set(position=offset, horizontalalignment=alignment)
            box = text.get_window_extent(renderer)
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if within and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def draw_roofline(results: Results, path: Path) -> None:
    """GFLOP/s against operations per byte: the measured roofs, and the C engine under them, in float32."""
    points = _points(results)
    peak = statistics.median(
        record["gflops"] / record["share_of_peak"]
        for kind in ("step", "predict")
        for record in results.kind(kind)
        if record["dtype"] == "float32" and record.get("share_of_peak")
    )
    left, right = 0.3, 2000.0
    bottom = 0.6 * min(rate for _, _, rate, _ in points)
    figure = Figure(figsize=(10.5, 6), layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, 1.7 * peak))
    bandwidths = _bandwidths(results)
    corner = peak / bandwidths[0][1] if bandwidths else left
    axes.plot([corner, right], [peak, peak], color="black", linewidth=1.6)
    count = results.machine["usable_cores"]
    cores = f"{count} core{'s' if count > 1 else ''}"
    text = f"multiply-adds of {cores}: {peak:.0f} GFLOP/s"
    roof = axes.text(right / 1.05, 1.06 * peak, text, ha="right", fontsize=9.5)
    slopes = []
    # the first slope's label stands above it, the second's below
    for (name, rate), style, offset, share in zip(
        bandwidths, ("-", "--"), ((-7, 6), (12, -11)), (0.62, 0.84), strict=False
    ):
        end = peak / rate
        start = max(left, bottom / rate)
        axes.plot([start, end], [start * rate, peak], color="black", linewidth=1.6, linestyle=style)
        place = start * (end / start) ** share
        slope = axes.annotate(
            f"{name}: {rate:.0f} GB/s",
            (place, place * rate),
            xytext=offset,
            textcoords="offset points",
            rotation_mode="anchor",
            ha="center",
            fontsize=9.5,
        )
        slopes.append(slope)
    for training, colour, marker, title in (
        (True, TRAINING_COLOUR, "o", "training step (Adam)"),
        (False, PREDICTION_COLOUR, "s", "prediction"),
    ):
        chosen = [(x, y) for _, x, y, is_training in points if is_training == training]
        if chosen:
            axes.scatter(*zip(*chosen, strict=True), color=colour, marker=marker, s=48, zorder=3, label=title)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if bottom <= tick <= 1.7 * peak]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    axes.set_xlabel("operations per byte that is read or written, each number counted once in each phase of the work")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"The C engine under its roofline: float32, {cores}", loc="left", fontsize=12)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=10, framealpha=1, edgecolor="white")
    figure.draw_without_rendering()
    # a slope of one in these axes, as an angle on paper
    (x, y), (further_x, further_y) = axes.transData.transform([(1, 1), (10, 10)])
    for text in slopes:
        text.set_rotation(math.degrees(math.atan2(further_y - y, further_x - x)))
    renderer = FigureCanvasAgg(figure).get_renderer()
    taken = [roof.get_window_extent(renderer)]
    for text in slopes:
        taken += _along(text.get_window_extent(renderer))
    _label(axes, renderer, [(name, x, y) for name, x, y, _ in points], taken)
    _save(figure, path)
