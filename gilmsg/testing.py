"""For tests of code that publishes: a real bus, or a promise that nothing is published.

These are the working parts of the pytest fixtures ``gilmsg_bus`` and ``gilmsg_forbidden``, which
pytest finds by itself (``pytest_gilmsg``). Nothing here needs pytest; as context managers,
:meth:`Buses.bus` and :func:`forbidden` serve any test runner.
"""

from __future__ import annotations

import atexit
import copy
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Callable

import fedmsg
import fedmsg.config

from . import _engine, _settings
from ._client import publish as _publish
from .errors import ConfigurationError, GilmsgError
from .sandbox import DEFAULT_RECIPIENTS, Sandbox

if TYPE_CHECKING:
    from .outbox import Outbox

__all__ = ["Bus", "Buses", "PublishForbidden", "forbidden"]

#: Sandboxes that are kept running for the next test that names the same recipients in the same order.
_KEPT = 4

#: Seconds, the most that the recipients may take to answer before and after a test.
_PATIENCE = 10.0

_SETTINGS: dict[str, Any] = {
    # Each test opens a publisher of its own: stand-ins look for it every 20 ms, without backing off.
    "zmq_reconnect_ivl": 20,
    "zmq_reconnect_ivl_max": 20,
    # Seconds. CI machines are slow, and a test that fails now and then is no test.
    "gilmsg.ack_timeout": 1.0,
    "gilmsg.outbox.ack_timeout": 1.0,
}


class PublishForbidden(AssertionError):
    """gilmsg was asked to publish in a test that forbids it."""

    def __init__(self, topic: str | None = None) -> None:
        super().__init__(f"gilmsg was to publish on the topic {topic!r}; this test forbids it")


@contextmanager
def forbidden() -> Iterator[None]:
    """Make every publish and publish_async of the process raise PublishForbidden from the call.

    With recipients or without, under whatever name it was imported. Plain ``fedmsg.publish`` is
    not concerned, nor are the ACKs of consumers.
    """
    former = _publish.forbidden
    _publish.forbidden = PublishForbidden
    try:
        yield
    finally:
        _publish.forbidden = former


class Received(Mapping[str, list[dict[str, Any]]]):
    """Common name to the messages that it got in this test, as they are now."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def __getitem__(self, common_name: str) -> list[dict[str, Any]]:
        try:
            return self._sandbox.received(common_name)
        except ConfigurationError as error:
            raise KeyError(str(error)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._sandbox.recipients)

    def __len__(self) -> int:
        return len(self._sandbox.recipients)

    def __repr__(self) -> str:
        return repr(dict(self))


class Bus:
    """A signed bus with stand-in recipients, each a process of its own, for one test.

    Attributes:
        recipients (list): the common names of the stand-ins.
        received (mapping): common name -> list of the messages (dicts) that it got in this test.
            When publish has returned, every recipient that acknowledged holds the message there.
        config (dict): for code that passes ``**config``; code without any configuration
            publishes here as it is.
        directory (str): a process started there publishes on this bus, too. What it sends counts for
            this test if publish has returned there: only of the test's own process all that is under way
            is waited for, and what another one has sent may turn up in the next test.
    """

    def __init__(self, sandbox: Sandbox, outboxes: ExitStack) -> None:
        self._sandbox, self._outboxes = sandbox, outboxes
        self.recipients = list(sandbox.recipients)
        self.received = Received(sandbox)
        self.config: dict[str, Any] = copy.deepcopy(sandbox.config)
        self.directory = sandbox.directory

    def silence(self, common_name: str) -> None:
        """Make *common_name* receive without acknowledging, for the rest of this test.

        Raises:
            ConfigurationError: it is not a recipient here, or it is dead.
        """
        self._sandbox.silent(common_name)

    def kill(self, common_name: str) -> None:
        """Kill the process of *common_name* (SIGKILL); it is back in the next test.

        Raises:
            ConfigurationError: it is not a recipient here.
        """
        self._sandbox.dead(common_name)

    def outbox(self) -> Outbox:
        """Return a new outbox, in a temporary file, whose deliverer runs; it is closed and removed when the test has ended.

        What is put there is on its way once it is committed: wait until ``get(msg_id).state`` says ``"delivered"``.
        ``engine`` is its database, for code that puts within a transaction of its own.

        Raises:
            ImportError: SQLAlchemy is not installed (``gilmsg[outbox]``).
        """
        from .outbox import Outbox

        folder = self._outboxes.enter_context(tempfile.TemporaryDirectory(prefix="gilmsg-outbox-"))
        box = Outbox(os.path.join(folder, "outbox.sqlite"))
        self._outboxes.callback(box.close)
        box.start()
        self._outboxes.callback(box.stop)
        return box


class Buses(AbstractContextManager["Buses"]):
    """The sandboxes of a test session: one for each list of recipients, the last few kept running.

    Use it as a context manager, or call ``close`` at the end; what neither has closed is closed when
    the interpreter exits.
    """

    def __init__(self) -> None:
        self._sandboxes: dict[tuple[str, ...], Sandbox] = {}
        self._process = os.getpid()
        atexit.register(self.close)

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def bus(self, recipients: Sequence[str] = DEFAULT_RECIPIENTS) -> Iterator[Bus]:
        """Give a bus with these *recipients*, all of them well.

        For as long as it is in use, gilmsg and fedmsg are configured for it; what they were before returns afterwards.

        Raises:
            ConfigurationError: a name that cannot be a stand-in's.
            TimeoutError: a process did not come up.
        """
        key = _settings.recipients(recipients, "gilmsg_recipients")
        if not key:
            raise ConfigurationError("gilmsg_recipients needs at least one common name")
        in_order = False
        try:
            sandbox = self._ready(key)
            with _isolated(sandbox.config) as start_anew:
                # Every recipient answers over this test's publisher, so its first message needs no head start. Nor
                # does one to a recipient that the test has killed wait for it in vain: it passes for an old one.
                _send(sandbox.recipients)
                _engine.grow_old()
                sandbox.forget()
                start_anew()
                try:
                    with ExitStack() as outboxes:
                        yield Bus(sandbox, outboxes)
                finally:
                    start_anew()  # whatever the test has initialized
                    in_order = _settled(sandbox)
        finally:
            if not in_order and key in self._sandboxes:
                self._sandboxes.pop(key).stop()

    def close(self) -> None:
        """End all processes and remove their temporary folders; idempotent. A later ``bus`` starts anew."""
        # A forked child exits too, and they are not its own.
        while self._sandboxes and self._process == os.getpid():
            self._sandboxes.popitem()[1].stop()

    def _ready(self, key: tuple[str, ...]) -> Sandbox:
        """Return the sandbox with these recipients, all of them well."""
        sandbox = self._sandboxes.pop(key, None) or Sandbox(key, **_SETTINGS).start()
        self._sandboxes[key] = sandbox  # the last: it was used last
        while len(self._sandboxes) > _KEPT:
            self._sandboxes.pop(next(iter(self._sandboxes))).stop()
        for name in sandbox.recipients:
            sandbox.well(name)
        return sandbox


def _send(recipients: Sequence[str]) -> None:
    """Publish, though it be forbidden; raise if somebody does not answer."""
    _publish.Call("test", {}, "gilmsg", recipients, _PATIENCE, None, None, {}).confirmed()


def _settled(sandbox: Sandbox) -> bool:
    """Let all that was sent in this test arrive, or it would turn up in the next one; False if that is in vain.

    What leaves through one socket arrives in order: who acknowledges one more message has had all before it.
    """
    alive = [name for name in sandbox.recipients if sandbox.is_alive(name)]
    try:
        if _engine.running() and alive:
            for name in alive:
                sandbox.well(name)
            _send(alive)
    except (GilmsgError, TimeoutError):
        return False
    return True


@contextmanager
def _isolated(config: Mapping[str, Any]) -> Iterator[Callable[[], None]]:
    """Run as a process that is configured by *config* and has initialized nothing; give what makes it so once more.

    At the end the contexts made meanwhile are closed, whatever thread made them. Relied on, of fedmsg:
    ``fedmsg.__local`` is a thread-local, found by its name in fedmsg's module at each call, whose attribute
    ``__context`` holds the thread's context; a new one in its place is empty in every thread at once.
    ``fedmsg.config.conf`` is imported by name, hence changed in place; ``_loaded`` tells that it is loaded.
    """
    conf = fedmsg.config.conf
    before, loaded, kept, local = dict(conf), conf._loaded, _settings.kept(), fedmsg.__local

    class Local(threading.local):
        def __setattr__(self, name: str, value: Any) -> None:
            if value is not None:
                contexts.callback(_close, value)
            super().__setattr__(name, value)

    def start_anew() -> None:
        _use_local(Local())
        _settings.replace(config)

    with _engine.replaced(), ExitStack() as contexts:  # closes each, though another fails to
        try:
            start_anew()
            conf.load_config(settings=copy.deepcopy(dict(config)))
            yield start_anew
        finally:
            _use_local(local)
            _settings.keep(kept)
            conf.clear()
            conf.update(before)
            conf._loaded = loaded


def _use_local(local: threading.local) -> None:
    for module in (fedmsg, sys.modules["gilmsg"]):  # it is one and the same
        setattr(module, "__local", local)


def _close(context: Any) -> None:
    """Close a context of any thread, unless a thread may read from a socket of it: ``destroy()`` would wait for that."""
    publisher = getattr(context, "publisher", None)
    if publisher is not None:
        publisher.close()  # it may be fedmsg's own, a socket of this context
    if context.context is not None and all(one.closed for one in context.context._sockets):
        context.destroy()

