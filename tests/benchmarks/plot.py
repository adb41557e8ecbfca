"""Two plots in one SVG: how latencies are distributed, and how they grow with the recipients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot  # noqa: E402, RUF100  the backend has to be chosen first


def plot(curves: dict[str, dict[str, Any]], path: str) -> None:
    """Write the plots of those studies that were run to *path*."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5))
    _distribution(left, curves.get("latency", {}))
    _growth(right, curves.get("recipients", {}))
    figure.tight_layout()
    figure.savefig(path, format="svg")
    pyplot.close(figure)


def _distribution(axes: Any, samples: dict[str, Sequence[float]]) -> None:
    for name, seconds in samples.items():
        ordered = sorted(1000 * value for value in seconds)
        axes.step(ordered, [(n + 1) / len(ordered) for n in range(len(ordered))], label=name)
    axes.set(xscale="log", xlabel="milliseconds", ylabel="share of calls", title="Latency of one message")
    axes.grid(True, which="both", alpha=0.3)
    if samples:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=3, fontsize="small")


def _growth(axes: Any, series: dict[str, dict[int, float]]) -> None:
    for name, by_count in series.items():
        counts = [int(count) for count in by_count]  # JSON has made strings of them
        axes.plot(counts, [1000 * value for value in by_count.values()], marker="o", label=name)
    axes.set(
        xscale="log", yscale="log", xlabel="recipients", ylabel="milliseconds",
        title="One message, confirmed by all",
    )
    axes.grid(True, which="both", alpha=0.3)
    if series:
        axes.legend(fontsize="small")
