"""``python -m tests.benchmarks``: measure, show progress, print a table; see docs/explanation/performance.rst."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from typing import Any

from tests.benchmarks import tables
from tests.benchmarks.figures import Figure, median_of
from tests.benchmarks.parties import no_configuration_of_the_user
from tests.benchmarks.scale import FULL, QUICK
from tests.benchmarks.studies import STUDIES

DESCRIPTION = """
Measure gilmsg against what the same work costs over bare pyzmq (the signed floor). Each figure
is a ratio of medians from rounds that alternate in one run.
"""

def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    written = {name: os.path.abspath(path) for name, path in vars(options).items() if name in ("svg", "rst") and path}
    result = _measured(options) if options.earlier is None else json.load(options.earlier)
    figures = [Figure.of(one) for one in result["figures"]]
    if "svg" in written:
        from tests.benchmarks.plot import plot

        plot(result["curves"], written["svg"])
        FULL.say(f"plot: {options.svg}")
    if "rst" in written:
        text = tables.for_a_page(figures, result["machine"], result["command"])
        tables.put_between(written["rst"], text)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        print(tables.described(result["machine"]), tables.for_terminal(figures), sep="\n\n")
    return 1 if options.check and any(figure.met is False for figure in figures) else 0


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    # A study provokes Timeouts by the hundred.
    logging.getLogger("gilmsg").addHandler(logging.NullHandler())
    logging.getLogger("gilmsg").propagate = False
    scale = QUICK if options.quick else FULL
    studies = options.only or list(STUDIES)
    more = (" --quick" if options.quick else "") + (f" --runs {options.runs}" if options.runs > 1 else "")
    command, machine = "python -m tests.benchmarks" + more, tables.machine()
    figures, curves = [], {}
    with no_configuration_of_the_user():
        for number, name in enumerate(studies, 1):
            scale.say(f"{number} of {len(studies)}: {name} ...")
            began = time.monotonic()
            outcomes = [STUDIES[name](scale) for _ in range(options.runs)]
            scale.say(f"  {time.monotonic() - began:.0f} s")
            figures += [median_of(same).as_dict() for same in zip(*(one.figures for one in outcomes))]
            curves[name] = outcomes[-1].curves or {}
    return {"command": command, "machine": machine, "figures": figures, "curves": curves}


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: half a minute instead of two")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="the median of N runs of each study")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a goal was missed")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on stdout")
    parser.add_argument("--svg", metavar="FILE", help="draw latencies to FILE")
    parser.add_argument("--rst", metavar="FILE", help="renew the table in FILE (docs/explanation/performance.rst)")
    parser.add_argument(
        "--from", metavar="FILE", dest="earlier", type=argparse.FileType("r"),
        help="measure nothing, take the figures from what --json has printed",
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(STUDIES), metavar="STUDY", help="only these: {}".format(", ".join(STUDIES))
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
