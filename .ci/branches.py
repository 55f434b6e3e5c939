"""Branch coverage of the C code, from what `llvm-cov export` says, which it is given on standard input.

A branch is one side of one condition in the source: of an if, a loop, a `?:`, an operand of && or ||, a case.  The
engine is compiled once for each instruction set, in float and in double, from the same source: these copies count as
one function, whose branch is covered where it is in one of them.  Expansions of a macro count one by one.  Conditions
that are constants in a copy are none there.  With a number as argument, less than so many percent is an error.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

COPY = re.compile(r"_(?:avx512|avx2|neon|portable)_f(?:32|64)\b")


def counted_sides(exported: dict) -> dict[tuple, list[int]]:
    """How often each side of each condition was taken, by (file, line, column, function, number of the expansion)."""
    sides: dict[tuple, list[int]] = defaultdict(lambda: [0, 0])
    for function in exported["data"][0]["functions"]:
        name = COPY.sub("", function["name"].rpartition(":")[2])
        expansions: Counter[tuple] = Counter()
        for line, column, _, _, taken, not_taken, file_id, *_ in function["branches"]:
            file = Path(function["filenames"][file_id])
            if file.parent.name != "csrc":
                continue
            place = (file.name, line, column, name)
            counts = sides[(*place, expansions[place])]
            expansions[place] += 1
            counts[0] += taken
            counts[1] += not_taken
    return sides


def main() -> None:
    least = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    sides = counted_sides(json.load(sys.stdin))
    files: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (file, line, column, name, number), counts in sorted(sides.items()):
        files[file][0] += sum(count > 0 for count in counts)
        files[file][1] += 2
        for side, count in zip(("true", "false"), counts, strict=True):
            if count == 0:
                expansion = f", expansion {number + 1}" if number else ""
                print(f"csrc/{file}:{line}:{column}: never {side}, in {name}{expansion}")
    for file, (covered, all_of_it) in sorted(files.items()):
        print(f"{file:20} {covered:5} of {all_of_it:5} branches  {100 * covered / all_of_it:6.1f} %")
    covered, total = (sum(counts[i] for counts in files.values()) for i in (0, 1))
    percent = 100 * covered / total
    print(f"{'all':20} {covered:5} of {total:5} branches  {percent:6.1f} %")
    if percent < least:
        sys.exit(f"fewer than {least} %")


if __name__ == "__main__":
    main()
