"""Metrics for Prometheus: what this process published, what was confirmed, and how its recipients and links fare.

::

    import gilmsg.metrics

    gilmsg.metrics.register()       # into prometheus_client's own registry; the service serves that as ever

Counting begins with :func:`register`; without it nothing is counted. The engine thread counts what it does anyway, and
whoever reads the metrics gets a copy: no look at a socket, a file or a database is waited for. A forked child counts from
zero, and has to serve its own. docs/operations/metrics.rst lists them; ``docs/`` has alert rules and a dashboard.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import _engine, _settings, _trust
from .errors import ConfigurationError, EndpointError

try:
    import prometheus_client
except ImportError as error:
    raise ImportError("gilmsg.metrics needs prometheus_client: pip install 'gilmsg[metrics]'") from error

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["register", "serve"]

log = logging.getLogger("gilmsg.metrics")

#: The directory by which several processes share what prometheus_client counts; the second is its former name.
_SHARED = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")

#: The process that serves its metrics because ``gilmsg.metrics.port`` says so.
_served_by = 0


def register(registry: CollectorRegistry = REGISTRY, **config: Any) -> None:
    """Begin to count, and have *registry* tell of it. Twice is as once.

    Args:
        registry (prometheus_client.CollectorRegistry): by default prometheus_client's own.
        **config: fedmsg configuration; of it, or else of ``fedmsg.d``, ``gilmsg.metrics.depth`` counts: how many words of
            a topic, after prefix and environment, are its label (2). That of the last call holds.

    Raises:
        ConfigurationError: ``gilmsg.metrics.depth`` is not usable; or ``PROMETHEUS_MULTIPROC_DIR`` is set: there
            prometheus_client tells only what it keeps in files of its own, which is nothing of ours.
    """
    shared = next((name for name in _SHARED if os.environ.get(name)), None)
    if shared is not None:
        raise ConfigurationError(
            f"gilmsg.metrics cannot be registered under {shared}: there each scrape tells what prometheus_client keeps in "
            "files, for all processes together, and gilmsg's metrics are none of that; unset it, and have each process "
            "serve its own"
        )
    _settings.require_known(config)
    _engine.counting.begin(_settings.read(_settings.DEPTH, _settings.load(config).config))
    try:
        registry.register(_Collector())
    except ValueError as error:  # the one that prometheus_client raises for names which it has already
        log.debug("already registered: %s", error)


def serve(where: int | str, registry: CollectorRegistry = REGISTRY, **config: Any) -> None:
    """Register, and serve *registry* by HTTP on a daemon thread, as ``--metrics-port`` does; returns at once.

    Args:
        where: a port, or ``"ADDRESS:PORT"``; without an address it is that of loopback, 127.0.0.1. ``0.0.0.0`` is all of
            IPv4, ``[::]`` all.
        registry (prometheus_client.CollectorRegistry): what is served, all of it.
        **config: as for :func:`register`.

    Raises:
        ConfigurationError: *where* is no port; or as for :func:`register`.
        EndpointError: the port cannot be bound.
    """
    _serve(*_settings.listening(where, "the port of metrics"), registry, config)


def _serve(address: str, port: int, registry: CollectorRegistry, config: Mapping[str, Any]) -> None:
    register(registry, **config)
    try:
        prometheus_client.start_http_server(port, address, registry)
    except OSError as error:
        words = f"metrics cannot be served at port {port} of {address}: {error}; choose another, or end who has it"
        raise EndpointError(words) from error
    log.info("metrics are served at port %d of %s", port, address)


def serve_by_key(where: tuple[str, int], config: Mapping[str, Any]) -> None:
    """Serve at *where*, address and port, as the configuration of a hub says, once in a process.

    A port that is taken is an ERROR in the log: it is not to keep a consumer from its messages, and Prometheus itself tells
    that nothing is served.
    """
    global _served_by
    if _served_by == os.getpid():
        return
    own = {key: value for key, value in config.items() if key == _settings.DEPTH}
    try:
        _serve(*where, REGISTRY, own)
    except EndpointError as error:
        log.error("%s: %s", _settings.METRICS_PORT, error)
    _served_by = os.getpid()


class _Collector(Collector):
    """Makes prometheus_client's metrics of what was counted, each time anew."""

    def describe(self) -> Iterable[Metric]:
        return _metrics(_engine.counting.Tally(1), None, {})

    def collect(self) -> Iterable[Metric]:
        tally = _engine.counting.tally
        if tally is None:  # only tests end it
            return self.describe()
        return _metrics(tally, _engine.sight(), _trust.ends())


def _metrics(
    tally: _engine.counting.Tally, sight: _engine.counting.Sight | None, ends: Mapping[str, float]
) -> Iterator[Metric]:
    told = "Messages with recipients that were given to the socket; of an outbox, each attempt."
    yield _family(CounterMetricFamily, "gilmsg_messages_published", told, tally.published, "topic")
    told = "Messages that each recipient has confirmed in time."
    yield _family(CounterMetricFamily, "gilmsg_messages_confirmed", told, tally.confirmed, "topic")
    told = "Messages that some recipient has not confirmed in time."
    yield _family(CounterMetricFamily, "gilmsg_messages_timed_out", told, tally.timed_out, "topic")
    told = "Recipients that have not confirmed a message in time, by the code of the reason."
    yield _family(CounterMetricFamily, "gilmsg_recipients_missing", told, tally.missing, "topic", "recipient", "code")
    yield _ack_seconds(tally)
    outstanding, links = ({}, {}) if sight is None else ({(): sight.outstanding}, sight.links)
    yield _family(GaugeMetricFamily, "gilmsg_messages_outstanding", "Messages that await ACKs.", outstanding)
    yield _family(GaugeMetricFamily, "gilmsg_link_up", "Whether we are connected to an endpoint.", links, "endpoint")
    yield CounterMetricFamily("gilmsg_acks_sent", "ACKs of ours that were given to the socket.", tally.acks_sent)
    yield CounterMetricFamily("gilmsg_acks_failed", "ACKs of ours that could not be sent.", tally.acks_failed)
    told = "Frames that came and were no good, by reason."
    yield _family(CounterMetricFamily, "gilmsg_frames_dropped", told, tally.dropped, "reason")
    told = "Times that the engine, the thread that listens for ACKs, had failed and was started anew."
    yield CounterMetricFamily("gilmsg_listener_restarts", told, tally.restarts)
    told = "End of the certificate, CA and CRL in use, in seconds since the epoch; the first of each kind."
    yield _family(GaugeMetricFamily, "gilmsg_not_after_timestamp_seconds", told, ends, "kind")
    yield from _outbox(tally)


def _family(
    kind: type[CounterMetricFamily | GaugeMetricFamily], name: str, told: str, numbers: Mapping[Any, float], *labels: str
) -> Metric:
    """Return a metric with *numbers*: its label, or a tuple of them -> number."""
    family = kind(name, told, labels=labels)
    for key, number in dict(numbers).items():  # copied in one step, for other threads go on counting
        family.add_metric([key] if isinstance(key, str) else key, number)
    return family


def _ack_seconds(tally: _engine.counting.Tally) -> Metric:
    bounds = [*map(str, _engine.counting.BOUNDS), "+Inf"]
    below = list(zip(bounds, itertools.accumulate(tally.classes.copy())))
    told = "Seconds from the sending of a message to an ACK that came in time."
    return HistogramMetricFamily("gilmsg_ack_seconds", told, buckets=below, sum_value=tally.seconds)


def _outbox(tally: _engine.counting.Tally) -> Iterator[Metric]:
    """Yield what waits in the outboxes for which this process has a deliverer; nothing elsewhere."""
    standings, now = list(tally.outboxes.copy().values()), time.monotonic()
    rows = {(): sum(one.rows for one in standings)} if standings else {}
    oldest = {(): max(one.oldest + now - one.at if one.rows else 0.0 for one in standings)} if standings else {}
    yield _family(GaugeMetricFamily, "gilmsg_outbox_rows", "Messages that wait in the outbox, as its deliverer saw last.", rows)
    told = "For how long the oldest of these has waited; 0 if none waits."
    yield _family(GaugeMetricFamily, "gilmsg_outbox_oldest_seconds", told, oldest)
