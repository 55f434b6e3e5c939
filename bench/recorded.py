"""The recorded results of a run of the benchmarks, found by kind, case, dtype and contestant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# names of the contestants in tables and pictures; the backends are recorded under their own names
TITLES = {"c": "C", "numba": "Numba", "numpy": "NumPy backend"}
# the shortest way into the C engine for predictions: `pymlp.Predictor` with an array for the answer
PREDICTOR = "predictor(x, out=)"

Record = dict[str, Any]


class Results:
    """The records of one run."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        self.machine: Record = content["machine_info"]
        self.records: list[Record] = [entry["extra_info"] for entry in content["benchmarks"]]

    def kind(self, kind: str) -> list[Record]:
        """All records of a kind, in the order they were measured."""
        return [record for record in self.records if record["kind"] == kind]

    def contestants(self, kind: str) -> list[str]:
        """Who took part in the races of a kind, in order."""
        return list(dict.fromkeys(record["contestant"] for record in self.kind(kind)))

    def find(self, kind: str, case: str, dtype: str, contestant: str) -> Record | None:
        """The record, or None if it was not measured."""
        wanted = {"kind": kind, "case": case, "dtype": dtype, "contestant": contestant}
        return next((record for record in self.records if wanted.items() <= record.items()), None)

    def engine(self, kind: str, case: str, dtype: str) -> Record | None:
        """The C engine as its users call it: through a predictor where one was measured."""
        plan = self.find(kind, case, dtype, "c")
        return plan and (self.find(kind, case, dtype, PREDICTOR) or plan)

    def reference_seconds(self, kind: str, case: str, dtype: str) -> float | None:
        """Time of hand-written NumPy, from its race with the fastest backend that took part."""
        found = (self.find(kind, case, dtype, name) for name in TITLES)
        return next((record["reference_seconds"] for record in found if record), None)

    def gain(self, kind: str, case: str, dtype: str, contestant: str | None) -> float | None:
        """How many times faster the C engine is than a contestant, or than the reference itself (None).

        Both raced against the same reference, so the ratio of their speeds is free of the hour they were measured at.
        """
        engine = self.find(kind, case, dtype, "c")
        if engine is None or contestant is None:
            return engine and engine["speed"]
        other = self.find(kind, case, dtype, contestant)
        return other and engine["speed"] / other["speed"]
