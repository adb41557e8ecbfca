"""The figures as tables: for a terminal, and for README.rst."""

import os
import platform
import textwrap
from typing import Any, Dict, List, Sequence

from tests.benchmarks.figures import Figure

VERDICTS = {True: "met", False: "MISSED", None: ""}

#: What stands between these two comments in README.rst is written by ``--rst``.
BEGIN, END = ".. What follows is written by tests.benchmarks --rst.\n", ".. End of what is written.\n"


def machine() -> Dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": "%s %s" % (platform.system(), platform.machine()),
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

    return "libzmq %s, cryptography %s, %s" % (
        zmq.zmq_version(), cryptography.__version__, backend.openssl_version_text(),
    )


def described(of: Dict[str, Any]) -> str:
    """Return a machine in one sentence."""
    where = "%(processor)s, %(cores)s cores, load %(load)s at the start; %(system)s, "
    return (where + "Python %(python)s, %(libraries)s") % of


def for_terminal(figures: Sequence[Figure]) -> str:
    """Return all figures, aligned."""
    width = max(len(figure.name) for figure in figures)
    lines = [
        "%-*s  %10.4g %-7s %-9s %-7s%s"
        % (width, one.name, one.value, one.unit, one.goal, VERDICTS[one.met], one.note)
        for one in figures
    ]
    return "\n".join(line.rstrip() for line in lines)


def for_readme(figures: Sequence[Figure], of: Dict[str, Any], command: str) -> str:
    """Return the figures that are worth it as reStructuredText, and how they came about."""
    rows = [["what", "measured", "goal"]]
    for one in figures:
        if one.goal or one.worthy:
            goal = one.goal + (", missed" if one.met is False else "")
            rows.append([one.name, ("%s %s" % (_short(one.value), one.unit)).strip(), goal])
    head = textwrap.fill("``%s`` on %s:" % (command, described(of)), 110)
    return "\n%s\n\n%s" % (head, _grid(rows))


def _short(value: float) -> str:
    """Return three digits of *value*, or all before the point."""
    return "%.0f" % value if value >= 100 else "%.3g" % value


def _grid(rows: List[List[str]]) -> str:
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
        raise ValueError("%s must hold the lines %r and %r" % (path, BEGIN, END))
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(head + begin + text + "\n" + end + tail)
