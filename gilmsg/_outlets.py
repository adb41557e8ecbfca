"""The process's publishing sockets: one per name, opened when it is needed, shared by all threads.

fedmsg makes one publisher per thread and binds a port for each; here every thread's
context holds a :class:`SharedPublisher`, a handle that leads to the one outlet of that
name, opens it anew after ``destroy()`` or a fork, and can be used like the bare socket
that fedmsg would have put there.
"""

import time
import weakref
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence

from . import _reentry
from ._directory import Directory
from ._outlet import Address, Outlet, gone
from ._registry import Registry


class SharedPublisher:
    """The handle in ``context.publisher``: safe in any thread, one socket per name and process.

    Offers what fedmsg does with a publisher: ``send_multipart`` and ``close``.
    """

    def __init__(self, address: Address, config: Mapping[str, Any], preferred: str = "") -> None:
        self.address = address
        self._config = config
        self._closed = False
        #: Kept for :mod:`gilmsg._bus`: who else publishes, as of the last look.
        self.directory: Optional[Directory] = None
        _open_outlet(address, config, preferred)
        with _outlets.lock:
            _handles.setdefault(address, weakref.WeakSet()).add(self)

    def outlet(self) -> Outlet:
        """Return the outlet, opened anew where it was closed (destroy, fork).

        Raises:
            EndpointError: no declared port is free.
            ConfigurationError: the process has too many open files.
            ListenerError: this handle is closed.
        """
        if self._closed:
            raise gone()  # since the caller got hold of this handle, by a signal handler
        return _open_outlet(self.address, self._config, "")

    def send_multipart(self, parts: Sequence[bytes], flags: int = 0, **_: Any) -> None:
        """Send one plain message, no earlier than ``post_init_sleep`` after the socket's birth."""
        outlet = self.outlet()
        wait_for_age(outlet, self._config)
        outlet.send(parts)

    def close(self, linger: Optional[int] = None) -> None:
        """Give up this handle; the last one closes the socket."""
        if self._closed:
            return
        self._closed = True
        with _outlets.lock:
            users = _handles.get(self.address) or weakref.WeakSet()
            users.discard(self)
            outlet = None if users else _outlets.get(self.address)
            if not users:
                _handles.pop(self.address, None)
        if outlet is not None:
            _outlets.end(self.address, outlet)


def wait_for_age(outlet: Outlet, config: Mapping[str, Any]) -> None:
    """Sleep until *outlet* is ``post_init_sleep`` old: a message without recipients has no
    evidence to wait for, so this is fedmsg's own head start."""
    time.sleep(max(0.0, float(config.get("post_init_sleep") or 0.0) - outlet.age))


_outlets: Registry[Address, Outlet] = Registry(lambda outlet: outlet.close())
#: The handles in use. Weak, so that those of threads that have ended do not count.
_handles: "Dict[Address, weakref.WeakSet[SharedPublisher]]" = {}


def existing(address: Address) -> Optional[Outlet]:
    """Return the process's open outlet of *address*, None if there is none; open none."""
    outlet = _outlets.get(address)
    return outlet if outlet is not None and not outlet.closed else None


def _open_outlet(address: Address, config: Mapping[str, Any], preferred: str) -> Outlet:
    """Return the outlet of *address*, a new one if there is none.

    Opening one, and closing one so that its port is free, takes time: both are done without the
    registry's lock, which the outlets of other names, and a signal handler, want too.
    """
    _reentry.refuse(_outlets.lock)
    # Any of them: it may be one that the listener looks at, for the diagnosis of another message.
    for known in _outlets.all():
        known.refuse_reentry()
    while True:
        outlet = _registered(address, config)
        outlet.open(config, preferred)
        if not outlet.closed:
            return outlet
        _outlets.end(address, outlet)  # who opens the next one waits for the port


def _registered(address: Address, config: Mapping[str, Any]) -> Outlet:
    """Return the outlet of *address*, known before it is opened."""
    with _outlets.lock:
        return _outlets.get(address) or _outlets.new(address, lambda: Outlet(address, config))


def opened() -> List[Outlet]:
    """Return the outlets of the process."""
    return _outlets.all()


def close_all(keep: Collection[Outlet] = ()) -> None:
    """Close every outlet of the process but *keep*; the next use of a handle opens it anew."""
    _outlets.end_all(keep)
