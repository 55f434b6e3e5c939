"""Bytes that plans ask for, and those of their formula: prints JSON, by case.  See allocation_faults.py."""

from __future__ import annotations

import json

from allocation_faults import ENGINE, Faults

from pymlp import Dense, Network, backends
from pymlp.memory import plan_bytes


def main() -> dict[str, tuple[int, int]]:
    """Bytes asked for and bytes of the formula, by case."""
    module = backends.get("c")
    faults = Faults()
    faults.watch(ENGINE)
    residual = [Dense(60, "gelu", normalization="layer", residual=True, dropout=0.1)] * 3
    results = {}
    for dtype in ("float32", "float64"):
        networks = [
            Network.from_widths(widths, "gelu" if len(widths) % 2 else "relu", dtype=dtype)
            for widths in (
                (1, 1),
                (8, 32, 32, 1),
                (20, 100, 2),
                (784, 512, 512, 10),
                (33, 1000, 3),
                (2000, 2000, 2000, 1),
            )
        ]
        networks.append(Network.from_widths((60, *residual, 7), dtype=dtype, input_dropout=0.1))
        for network in networks:
            for batch_size in (1, 200, 5000):
                for n_threads in (1, 16):
                    faults.take_peak_bytes()
                    module.Plan(network, batch_size, n_threads)
                    name = f"{network.widths}, {dtype}, batch {batch_size}, {n_threads} threads"
                    results[name] = faults.take_peak_bytes(), plan_bytes(network, batch_size, n_threads)
    return results


if __name__ == "__main__":
    print(json.dumps(main()))
