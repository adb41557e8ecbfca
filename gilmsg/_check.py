"""``gilmsg.check``: would a publish succeed? Found out as publish would, without publishing.

In a process that publishes already, its own publisher and listener are looked at. What
does not run yet is opened for the time of the look only, outside the registries that publish
uses: it can be closed again without taking anything from anybody.
"""

import errno
import socket
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional, Sequence

import six

from . import _acks, _bus, _config_files, _listeners, _outlets, _own_sockets, _self_check, _settings, _sockets
from ._caller import calling_module
from ._directory import Directory
from ._evidence import Evidence, with_groups
from ._listener import Listener
from ._outlet import Address, Outlet
from ._outlets import SharedPublisher
from ._report import Line, Report
from .errors import ConfigurationError, EndpointError, GilmsgError


def check(recipients: Any = None, topic: Optional[str] = None, **config: Any) -> Report:
    """Tell whether a publish would be expected to succeed, without publishing anything.

    Waits for the recipients at most ``gilmsg.head_start`` seconds, as a publisher that has
    just been started does, and not at all where this process's publisher and listener are older than that.
    Leaves everything as it was: a publisher and a listener that run here are looked at and go
    on; where none runs, one is opened and closed again. (As by publish, a soft limit of open files is
    raised where it is too low for the endpoints.)

    Args:
        recipients: as for :func:`publish`; None asks ``gilmsg.recipients`` for *topic* (without
            a topic: all that it names).
        topic (str): a full topic. Without one a recipient is present if it listens to any
            topic of our ``topic_prefix`` and ``environment``.
        **config: fedmsg configuration, used if this thread has no context; the ``gilmsg.*``
            keys always count. ``config_filename`` is read instead of ``fedmsg.d``.

    Returns:
        Report: true if a publish is expected to succeed; ``as_dict()`` is what ``gilmsg-check
        --json`` prints. Whatever is wrong with configuration, files or peers is in there.

    Raises:
        ConfigurationError: *recipients* or *topic* is not usable, or ``config_filename`` is no file.
    """
    named = None if recipients is None else _settings.recipients(recipients)
    if topic is not None and (not isinstance(topic, six.text_type) or not topic):
        raise ConfigurationError("topic must be a full topic (text); it is %r" % (topic,))
    context = _bus.current()
    if context is None:
        loaded = _config_files.load(config)
        effective = _bus.named_after(loaded.config, calling_module())
    else:
        own = {key: config[key] for key in _settings.KEYS if key in config}
        effective = {**context.c, **own}
        effective["endpoints"] = dict(effective.get("endpoints") or {})
        loaded = _config_files.in_force(effective)
    return _Check(loaded, effective, topic).run(named)


class _Check:
    """One look: lines about ourselves are collected, then the recipients are judged."""

    def __init__(
        self, loaded: _config_files.Loaded, config: Dict[str, Any], topic: Optional[str]
    ) -> None:
        self._config = config
        self._topic = topic
        self._lines = _self_check.shape(config)
        self._lines += _self_check.lines(loaded, config)

    def run(self, named: Optional[Sequence[str]]) -> Report:
        self._require_topic()
        entries = self._recipients() if named is None else named
        groups = [_acks.members(entry) for entry in entries]
        names = list(dict.fromkeys(name for group in groups for name in group))
        directory = self._directory()
        with self._publisher() as outlet, self._listener(directory) as listener:
            evidence = Evidence(self._config, self._topic, outlet, listener, directory)
            evidence.wait_for(entries, self._patience(outlet, listener))
            if outlet is not None and outlet.address.active:
                self._lines.append(_relay(outlet, evidence.absent("")))
            seen = evidence.seen(names)
            if evidence.deaf:
                self._fail("listener", "it ended during this check, by destroy() for example; check again")
        return Report(self._lines, with_groups(seen, groups), groups)

    def _fail(self, check: str, detail: str) -> None:
        self._lines.append(Line(check, False, detail))

    def _require_topic(self) -> None:
        prefix = "%s.%s." % (self._config.get("topic_prefix"), self._config.get("environment"))
        if self._topic is not None and not self._topic.startswith(prefix):
            self._fail(
                "topic",
                "%r does not begin with %r, topic_prefix and environment, so nothing is published on it here; "
                "give the full topic, or mend those" % (self._topic, prefix),
            )

    def _recipients(self) -> Sequence[str]:
        """Return the recipients that the configuration names."""
        key = _settings.RECIPIENTS
        try:
            table = _settings.read(key, self._config)
        except ConfigurationError:
            return ()  # a line says so already
        if self._topic is None:
            found = tuple(dict.fromkeys(one for row in table.values() for one in row))
        else:
            found = _settings.recipients_for(self._topic, table)
        if not found:
            where = "any topic" if self._topic is None else repr(self._topic)
            self._fail("recipients", "none were given, and %s names none for %s" % (key, where))
        return found

    def _head_start(self) -> float:
        try:
            return float(_settings.read(_settings.HEAD_START, self._config))
        except ConfigurationError:
            return _settings.DEFAULT_HEAD_START

    def _patience(self, outlet: Optional[Outlet], listener: Optional[Listener]) -> float:
        """Return for how many seconds a publish would wait now; what we opened is as new."""
        limit = self._head_start()
        if outlet is None or outlet is not _outlets.existing(outlet.address):
            return limit
        if listener is None or listener is not _listeners.running(listener.bus):
            return limit
        return max(0.0, limit + max(0.0, listener.born - outlet.born) - outlet.age)

    # The way out.

    @contextmanager
    def _publisher(self) -> Iterator[Optional[Outlet]]:
        """Give our publishing socket, None if there can be none; a line says which, or why."""
        outlet: Optional[Outlet] = None
        opened: Optional[Outlet] = None
        try:
            try:
                address = _bus.require_publisher(self._config)
                outlet = _outlets.existing(address)
                if outlet is None and not self._is_fedmsgs():
                    opened = Outlet(address, self._config)
                    opened.open(self._config, "")
                    outlet = opened
                if outlet is not None:
                    self._lines.append(Line("endpoint", True, _publisher_line(outlet, borrowed=opened is None)))
            except EndpointError as error:
                self._fail("endpoint", _in_so_many_words(address, str(error)))
            except (GilmsgError, ValueError, TypeError) as error:
                self._fail("endpoint", str(error))
            yield outlet
        finally:
            if opened is not None:
                opened.close()

    def _is_fedmsgs(self) -> bool:
        """Whether this thread publishes by fedmsg's own socket, which shows no subscribers."""
        plain = getattr(_bus.current(), "publisher", None)
        if plain is None or isinstance(plain, SharedPublisher):
            return False
        self._fail(
            "endpoint",
            "this thread's publisher was made by fedmsg.init, and that shows nobody who listens; "
            "it is left as it is: use gilmsg.init, or check from another process",
        )
        return True

    # The way back.

    def _directory(self) -> Optional[Directory]:
        """Return who publishes where, None if the configuration does not say; a line says so then."""
        try:
            return Directory(self._config)
        except (KeyError, TypeError, ValueError) as error:
            self._fail("listener", "cannot listen for ACKs: %s" % error)
            return None

    @contextmanager
    def _listener(self, directory: Optional[Directory]) -> Iterator[Optional[Listener]]:
        """Give the ACK listener, None if there can be none; a line says so."""
        listener = _listeners.running(directory.bus) if directory is not None else None
        opened: Optional[Listener] = None
        try:
            try:
                if directory is not None and listener is None:
                    opened = _listeners.new(directory.bus, self._config)
                    opened.launch()
                    opened.wait_ready()
                    listener = opened
            except GilmsgError as error:
                self._fail("listener", "cannot listen for ACKs: %s" % error)
            if listener is not None:
                whose = "can listen" if opened else "this process's own listener"
                self._lines.append(Line("listener", True, "%s for %s" % (whose, listener.bus.ack_topic)))
            yield listener
        finally:
            if opened is not None:
                opened.stop()


def _publisher_line(outlet: Outlet, borrowed: bool) -> str:
    if outlet.address.active:
        what = "connects to the relay at %s (relay_inbound)" % outlet.endpoint
    else:
        what = "%s (endpoints[%r]) can be bound" % (outlet.endpoint, outlet.address.name)
        if borrowed:
            what = "%s (endpoints[%r]) is bound" % (outlet.endpoint, outlet.address.name)
    return what + " by this process's own publisher" if borrowed else what


def _in_so_many_words(address: Address, otherwise: str) -> str:
    """Return why none of our ports can be bound: in plain words if all are taken."""
    if not all(map(_is_taken, address.endpoints)):
        return otherwise
    here = _own_sockets.listening_ports()
    ours = [one for one in address.endpoints if _sockets.port(one) in here]
    if not ours:
        holder = "another process holds"
    elif len(ours) == len(address.endpoints):
        holder = "this process itself holds, by a publisher that is not this one,"
    else:
        holder = "another process, and for %s this one, holds" % ", ".join(ours)
    return "%s all our declared ports, endpoints[%r]: %s; declare one for each process that publishes" % (
        holder, address.name, ", ".join(address.endpoints)
    )


def _is_taken(endpoint: str) -> bool:
    with socket.socket() as probe:
        # As libzmq does; without it, a port with a connection in TIME_WAIT looks taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", _sockets.port(endpoint)))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _relay(outlet: Outlet, absent: Optional[str]) -> Line:
    if absent is not None:
        return Line("relay", False, "%s (relay_inbound)" % absent)
    there = "the relay at %s (relay_inbound) is there; recipients behind it cannot be seen"
    return Line("relay", True, there % outlet.endpoint)
