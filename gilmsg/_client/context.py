"""fedmsg's contexts, with gilmsg's publisher in them: the only user of fedmsg.core.

Relied on: ``FedMsgContext(mute=True, **config)`` binds nothing, makes a zmq context that ``destroy`` terminates, sleeps
for ``post_init_sleep``, and reads no other key of ``config`` that is changed here; ``publish`` uses
``context.publisher.send_multipart(parts, flags=...)``, ``destroy`` its ``close()``.
"""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Callable

import fedmsg.core

from .. import _engine, _settings
from .._engine import Address, Port
from .._settings import AddressBook
from ..errors import ConfigurationError, ListenerError
from .names import calling_module, certname, named_after

log = logging.getLogger("gilmsg.publish")

#: Takes over what fedmsg's own code sends for the current call, in place of a wait until that has left.
taking_over: ContextVar[Callable[[Port, list[bytes]], None] | None] = ContextVar("gilmsg.taking_over", default=None)

_GONE = "the publisher is closed, by destroy() for example; nothing was sent"


class SharedPublisher:
    """The publisher in a context: safe in any thread, one socket per name and process.

    A handle that leads to the one socket of its name, and opens that anew after ``destroy()`` or a fork. *config* is
    looked at again at each use, for anybody may change it; *preferred* is bound before all other endpoints.
    """

    def __init__(self, address: Address, config: Mapping[str, Any], preferred: str = "") -> None:
        self.address, self._config = address, config
        self._closed = False
        self._book = AddressBook(config)
        #: The port, and the book of the listener that it has; replaced by one assignment.
        self._open: tuple[Port, AddressBook | None] = _engine.publisher(address, None, config, preferred), None
        self._tell(self._open[0])

    def port(self, awaits: bool = False) -> Port:
        """Return the open port of this name, one with a listener if it *awaits* ACKs."""
        if self._closed:
            raise ListenerError(_GONE)
        if awaits and not self._book.holds_for(self._config):
            self._book = AddressBook(self._config)
        (port, heard), book = self._open, self._book if awaits else None
        if port.alive and book in (None, heard):
            return port
        opened = _engine.publisher(self.address, book, self._config)
        self._open = opened, book
        self._tell(opened)
        if heard is not None:
            port.close()  # its listener hears by an older book
        return opened

    def _tell(self, port: Port) -> None:
        """Log whose name, port and certificate these are, if this opened the socket."""
        if not port.shared:
            where = f"through the relay at {port.endpoint}" if self.address.active else f"from {port.endpoint}"
            signed = "unsigned"
            if self._config.get("sign_messages", False):
                with contextlib.suppress(ConfigurationError):  # told when something is to be signed
                    signed = f"signed with {certname(self._config)}"
            log.info("publishing as %s %s, %s", self.address.name, where, signed)

    def aged_port(self) -> Port:
        """Return the port for plain messages once it is ``post_init_sleep`` old: there is no evidence to wait for."""
        port = self.port()
        time.sleep(max(0.0, float(self._config.get("post_init_sleep") or 0.0) - port.age))
        return port

    def send_multipart(self, parts: Sequence[bytes], flags: int = 0, **_: Any) -> None:
        """Send one plain message; TypeError, as from a socket of pyzmq's, if *parts* are not bytes."""
        frames = [part if isinstance(part, bytes) else bytes(memoryview(part)) for part in parts]
        port, take_over = self.aged_port(), taking_over.get()
        if take_over is None:
            port.plain(frames)
        else:
            take_over(port, frames)

    def close(self, linger: int | None = None) -> None:
        """Give up this handle; the last one closes the socket."""
        self._closed = True
        self._open[0].close()


def init(**config: Any) -> Any:
    """Make the calling thread's context, as ``fedmsg.init`` does.

    Differs in three ways: the socket is shared by all threads that publish under the same name,
    nothing is slept (a message waits for its head start when it is sent), and gilmsg sees who
    listens.

    Args:
        **config: fedmsg configuration; wins over what is in fedmsg.d.

    Returns:
        fedmsg.core.FedMsgContext: the context, also found in ``gilmsg.__local``.

    Raises:
        ValueError: the thread has a context already.
        ConfigurationError: there is no configuration, or a file of it cannot be used; no declared port
            is free (then it is an IOError too), ``active`` is set and no relay is configured, a value has
            the wrong type, or the process has too many open files.
        ListenerError: the engine could not start.
    """
    if current() is not None:
        raise ValueError("fedmsg already initialized")
    return _made(config, calling_module())


def _made(config: Mapping[str, Any], module: str) -> Any:
    kept = _settings.current(config)
    whole = {**kept, **config}
    _settings.require(whole)
    _settings.require_known(whole)
    kept.update(config)  # for the whole process, as fedmsg.init does
    context = _new_context(named_after(kept, module))
    setattr(fedmsg.__local, "__context", context)
    return context


def destroy(**_: Any) -> None:
    """Close the calling thread's context, and the process's gilmsg publishers and listeners.

    Threads that wait for ACKs get a :class:`~gilmsg.ListenerError` at once. The next
    publish, from any thread, starts anew.

    Raises:
        ConfigurationError: a ``__del__`` or weakref callback called it on the engine thread.
    """
    _engine.destroy()
    # fedmsg leaves None there, and its next publish() dies of it.
    found = vars(fedmsg.__local).pop("__context", None)
    if found is not None:
        found.destroy()


def current() -> Any:
    """Return the calling thread's context, or None."""
    return getattr(fedmsg.__local, "__context", None)


def place() -> dict[str, Any]:
    """Return where the calling thread keeps its context, for :func:`lent`."""
    kept: dict[str, Any] = vars(fedmsg.__local)
    return kept


@contextlib.contextmanager
def lent(place: dict[str, Any]) -> Iterator[None]:
    """Have the calling thread, which has no context, use the one in *place*; one that it makes meanwhile is put there."""
    found, own = place.get("__context"), vars(fedmsg.__local)
    if found is not None:
        own["__context"] = found
    try:
        yield
    finally:
        made = own.pop("__context", None)
        if made is None and found is not None and place.get("__context") is found:
            del place["__context"]  # destroy() was called meanwhile
        elif made is not None and made is not found:
            place.setdefault("__context", made)


def require_keywords(config: Mapping[str, Any], ours: tuple[str, ...] = _settings.KEYWORDS) -> None:
    """Refuse keywords of *config* that may be misspelt ones of *ours*, and are no settings of this process either."""
    misspelt = _settings.misspelt(tuple(config), ours)
    if not misspelt:
        return
    found = current()
    known = _settings.current(config) if found is None else found.c
    for keyword, name in misspelt.items():
        if keyword not in known:
            raise ConfigurationError(
                f"there is no argument or setting {keyword!r}; {name!r} is meant, most likely (if not, rename it, or set it "
                "in a configuration file)"
            )


def context(config: Mapping[str, Any], module: str | None = None) -> Any:
    """Return the calling thread's context with our publisher in it, made of *config*, for *module*, if need be."""
    found = current()
    if found is None:
        return _made(config, module or calling_module())
    plain = getattr(found, "publisher", None)
    if plain is not None and not isinstance(plain, SharedPublisher):
        # Plain fedmsg.init made it: ours takes its place, at the same endpoint.
        address = require_publisher(found.c)
        bound = 0 if address.active or plain.closed else _settings.port(plain.LAST_ENDPOINT.decode("ascii"))
        plain.close()
        preferred = next((one for one in address.endpoints if bound and _settings.port(one) == bound), "")
        found.publisher = SharedPublisher(address, found.c, preferred)
    return found


def _new_context(config: dict[str, Any]) -> Any:
    """Return a context of fedmsg's that was kept from binding a port, with our publisher in it."""
    publishes = config.get("zmq_enabled", True) and not config.get("mute", False)
    address = _address(config) if publishes else None
    handle = SharedPublisher(address, config) if address else None
    named = {"name": config["name"] or "-", "io_threads": int(config.get("io_threads") or 1)}
    try:
        context = fedmsg.core.FedMsgContext(**{**config, **named, "mute": True, "active": False, "post_init_sleep": 0})
    except fedmsg.core.zmq.ZMQError as error:
        words = f"no ZeroMQ context can be opened: {error} (too many open files? ulimit -n)"
        raise ConfigurationError(words) from error
    context.c = config
    if handle:
        context.publisher = handle
    elif publishes:
        warnings.warn(f"fedmsg is not configured to send any zmq messages for name {config['name']!r}", stacklevel=3)
    return context


def port(context: Any) -> Port:
    """Return the open port, with a listener, by which *context* publishes."""
    return publisher(context).port(awaits=True)


def publisher(context: Any) -> SharedPublisher:
    """Return the publisher of *context*; if it has none, raise ConfigurationError with the setting that is to blame."""
    found: SharedPublisher | None = getattr(context, "publisher", None)
    if found is not None:
        return found
    if context is not current():
        raise ListenerError(_GONE)
    require_publisher(context.c)
    raise ConfigurationError(
        "this context was destroyed, or was initialized without a publisher; "
        "call gilmsg.destroy() and initialize it again"
    )


def require_publisher(config: Mapping[str, Any]) -> Address:
    """Return where *config* publishes; if nowhere, raise ConfigurationError with the setting that is to blame."""
    if not config.get("zmq_enabled", True):
        raise ConfigurationError("zmq_enabled is False; gilmsg needs ZeroMQ")
    if config.get("mute", False):
        raise ConfigurationError("mute is True: this context cannot publish")
    address = _address(config)
    if address is None:
        names = ", ".join(sorted(_settings.publishing_endpoints(config)))
        raise ConfigurationError(
            f"endpoints has no entry for the name {config.get('name')!r}, so it has no port to publish on; declare one"
            + (f", or set name to one of: {names}" if names else "")
        )
    return address


def _address(config: Mapping[str, Any]) -> Address | None:
    """Return where *config* publishes, None if it has nowhere to."""
    name, active = config.get("name"), bool(config.get("active", False))
    if not name:
        return None
    endpoints = _settings.listed(config.get(name) if active else config["endpoints"].get(name))
    if active and not endpoints:
        words = f"active is True, but {name!r} does not say where the relay is; set it to its endpoint"
        raise ConfigurationError(words)
    return Address(name, tuple(endpoints), active) if endpoints else None
