"""The study of this gilmsg beside 1.0.0, publisher and recipient of each; 1.0.0 is taken from this repository."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import ExitStack
from typing import Callable

from tests.benchmarks.figures import Figure, Outcome, alternate, median, ratio
from tests.benchmarks.members import THREADS
from tests.benchmarks.parties import Bus
from tests.benchmarks.scale import Scale
from tests.processes import REPOSITORY

#: 1.0.0.
COMMIT = "fba97e3"


def threads(scale: Scale) -> Outcome:
    """Many threads that publish and wait for each message, as a rate; 1.0.0 does the same in turn."""
    count = max(5, scale.outstanding // THREADS)
    with ExitStack() as stack:
        contestants = {"ours": _publisher(stack, None, count)}
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gilmsg-benchmarks-"))
        problem = _take_out(folder)
        if problem:
            scale.say(f"1.0.0: not measured, {problem}")
        else:
            contestants["1.0.0"] = _publisher(stack, folder, count)
        alternate(contestants, 1, {})  # warm
        results = alternate(contestants, scale.rounds, {})
    rates = {name: THREADS * count / median(seconds) for name, seconds in results.items()}
    figures = [Figure(f"{THREADS} threads: rate", rates["ours"], "1/s", worthy=True)]
    if "1.0.0" in rates:
        faster = ratio(results["1.0.0"], results["ours"])
        figures.append(Figure(f"{THREADS} threads: 1.0.0's rate", rates["1.0.0"], "1/s"))
        figures.append(Figure(f"{THREADS} threads: rate / 1.0.0's rate", faster, "x", ">= 1.35"))
    return Outcome(figures)


def _take_out(folder: str) -> str:
    """Put the ``gilmsg`` of COMMIT into *folder*; return why that cannot be done, or nothing."""
    try:
        archive = subprocess.run(["git", "archive", COMMIT, "gilmsg"], cwd=REPOSITORY, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, capture_output=True, check=True)
    except OSError as error:
        return str(error)
    except subprocess.CalledProcessError as error:
        return error.stderr.decode("utf-8", "replace").strip()
    return ""


def _publisher(stack: ExitStack, folder: str | None, count: int) -> Callable[[], float]:
    """Start a bus with the gilmsg in *folder*, or this one; return what publishes *count* messages in each thread."""
    env = None if folder is None else {"PYTHONPATH": os.pathsep.join([folder, str(REPOSITORY)])}
    bus = stack.enter_context(Bus(["tail"]))
    bus.tail("tail", env=env)
    publisher = bus.start("tests.benchmarks.members", {"role": "threads", "config": bus.config}, env)
    return lambda: float(publisher.ask(count))
