"""The figures as tables: for a terminal, and for docs/explanation/performance.rst."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.figures import Figure

VERDICTS = {True: "met", False: "MISSED", None: ""}

#: What stands between these two comments in that page is written by ``--rst``.
BEGIN, END = ".. What follows is written by tests.benchmarks --rst.\n", ".. End of what is written.\n"


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": _libraries(),
    }


def _processor() -> str:
    """Return the processor's name; only Linux tells it so easily."""
    try:
        with open("/proc/cpuinfo") as stream:
            return next(line.split(":")[1].strip() for line in stream if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "an unknown processor"


def _libraries() -> str:
    import cryptography
    import zmq
    from cryptography.hazmat.backends.openssl import backend

    return f"libzmq {zmq.zmq_version()}, cryptography {cryptography.__version__}, {backend.openssl_version_text()}"


def described(of: dict[str, Any]) -> str:
    """Return a machine in one sentence."""
    where = "%(processor)s, %(cores)s cores, load %(load)s at the start; %(system)s, "
    return (where + "Python %(python)s, %(libraries)s") % of


def for_terminal(figures: Sequence[Figure]) -> str:
    """Return all figures, aligned."""
    width = max((len(figure.name) for figure in figures), default=0)
    lines = [
        f"{one.name:<{width}}  {one.value:10.4g} {one.unit:<7} {one.goal:<9} {VERDICTS[one.met]:<7}{one.note}"
        for one in figures
    ]
    return "\n".join(line.rstrip() for line in lines)


def for_a_page(figures: Sequence[Figure], of: dict[str, Any], command: str) -> str:
    """Return the figures that are worth it as reStructuredText, and how they came about."""
    rows = [["what", "measured", "goal"]]
    for one in figures:
        if one.goal or one.worthy:
            goal = one.goal + (", missed" if one.met is False else "")
            rows.append([one.name, (f"{_short(one.value)} {one.unit}").strip(), goal])
    head = textwrap.fill(f"``{command}`` on {described(of)}:", 110)
    return f"\n{head}\n\n{_grid(rows)}"


def _short(value: float) -> str:
    """Return three digits of *value*, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _grid(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([rule, lines[0], rule] + lines[1:] + [rule]) + "\n"


def put_between(path: str, text: str) -> None:
    """Replace what stands between BEGIN and END in the file *path*.

    Raises:
        ValueError: it does not hold both, in this order.
    """
    with open(path, encoding="utf-8") as stream:
        before = stream.read()
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} must hold the lines {BEGIN!r} and {END!r}")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(head + begin + text + "\n" + end + tail)
