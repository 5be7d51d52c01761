"""Run the benchmarks and print one table; `--write` puts it into docs/benchmarks.md."""

import argparse
import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from benchmarks.table import NotMeasuredError, Row

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = """# Benchmarks

Each figure stands beside a peer, or beside the least that the work can cost, measured in the same run on the same
machine: the ratio is what counts, and what `make bench` prints on yours. Goals that are not met say so.
`python -m benchmarks NAME` repeats the rows of one of them. Those of releases stand beside the goals themselves:
`release` needs a Docker Engine, `nomad` the program `nomad` on the PATH too. The load generator is
`benchmarks/load.py`: it counts every request that got no prediction as failed, and tries none again.
"""


def measured(name: str) -> Iterator[Row]:
    """The rows of one benchmark; what cannot be measured here is said on stderr."""
    try:
        for row in import_module(f"benchmarks.{name}").rows():
            yield Row(*row)
    except NotMeasuredError as reason:
        print(f"{name}: not measured: {reason}", file=sys.stderr)


def line(row: Row) -> str:
    return f"| {row.name} | {row.ours} | {row.limit} | {row.ratio:.2f} | {row.goal.replace('<=', '≤')} | {row.met} |"


def page(rows: list[Row]) -> str:
    table = "\n".join(
        ("| what | ours | limit or peer | ratio | goal | met |", "|---|---|---|---|---|---|", *map(line, rows))
    )
    where = f"{os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}."
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else f"{HEAD}\n{BEGIN}\n{END}\n"
    found = f"{BEGIN}\n{table}\n\n{where}\n{END}"
    return re.sub(f"{BEGIN}.*{END}", lambda _: found, text, flags=re.DOTALL)


def main() -> None:
    others = {"__init__", "__main__", "load", "table"}
    known = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in others)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which; all by default: {', '.join(known)}")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(known):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if chosen.write and chosen.names:
        parser.error("--write needs the rows of all of them")
    rows = []
    for name in chosen.names or known:
        for row in measured(name):
            rows.append(row)
            print(
                f"{row.name:<56} {row.ours:>12} {row.limit:>12} {row.ratio:>7.2f}  {row.goal:<10} {row.met}", flush=True
            )
    if chosen.write:
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
