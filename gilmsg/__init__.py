"""gilmsg: fedmsg that knows whether a message arrived.

``import gilmsg`` takes the place of ``import fedmsg``: every public name of fedmsg is here. Of its own:

    publish             publish a message; return only when every recipient has proven that it got it
    publish_async       the same, which returns a Future at once
    Receipt             who acknowledged a message, and when: the result of both
    any_of              a group of recipients, any one of which will do
    tail_messages       yield the messages of the bus, and acknowledge those that name us
    GilmsgConsumer      the same for fedmsg-hub: a consumer that acknowledges
    check, Report       tell whether a publish would succeed, without publishing; the answer
    init, destroy       begin (a publish does so by itself) and end what this process has open
    send_message        fedmsg's old name of publish

    GilmsgError         any of the following
    Timeout             not every recipient has acknowledged in time
    Reason              why one has not, in Timeout.missing
    ConfigurationError  an argument, a setting or a file is not usable; nothing was sent
    EndpointError       no declared port is free
    ListenerError       what waits for ACKs has ended, or could not start

The modules gilmsg.aio (publish and tail_messages for asyncio), gilmsg.metrics (for Prometheus), gilmsg.outbox (messages that
wait in a database), gilmsg.sandbox (a bus on this machine) and gilmsg.testing (for tests) are imported by name. The
documentation (docs/ in the sources) tells how all of it goes together.
"""

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING, Any

# First: within the imports of another module of ours, fedmsg's own took 15 ms more.
from fedmsg import __local

from . import _trust
from ._version import __version__
from .errors import ConfigurationError, EndpointError, GilmsgError, ListenerError, Reason, Timeout

if TYPE_CHECKING:
    from concurrent.futures import Future

    from fedmsg import API_function as API_function
    from fedmsg import config as config
    from fedmsg import core as core
    from fedmsg import crypto as crypto
    from fedmsg import encoding as encoding
    from fedmsg import replay as replay
    from fedmsg import utils as utils

    from ._check import Report, check
    from ._client.context import destroy, init
    from ._client.overloads import Publish
    from ._client.tail import tail_messages
    from ._protocol import Receipt
    from ._settings import any_of
    from .consumers import GilmsgConsumer

    publish: Publish[Receipt, Receipt | None, None]
    send_message: Publish[Receipt, Receipt | None, None]
    publish_async: Publish[Future[Receipt], Future[Receipt | None], Future[None]]

#: Names that are loaded on first use, and their modules: an import of gilmsg costs little more than one of fedmsg.
_LATER = {
    "GilmsgConsumer": "consumers",
    "Receipt": "_protocol",
    "Report": "_check",
    "any_of": "_settings",
    "check": "_check",
    "destroy": "_client.context",
    "init": "_client.context",
    "publish": "_client.publish",
    "publish_async": "_client.publish",
    "send_message": "_client.publish",  # fedmsg's old name for publish, deprecated there too
    "tail_messages": "_client.tail",
}

__all__ = [
    "ConfigurationError", "EndpointError", "GilmsgConsumer", "GilmsgError", "ListenerError", "Reason", "Receipt",
    "Report", "Timeout", "__local", "__version__", "any_of", "check", "destroy", "init", "publish", "publish_async",
    "send_message", "tail_messages",
]  # fmt: skip

_trust.turn_on_fedmsg_crypto()


@atexit.register
def _leave() -> None:
    """End deliverers and the engine, if there are any, after whatever was registered since this import: that may still publish."""
    for name in ("outbox.delivery", "_engine"):
        module = sys.modules.get(f"{__name__}.{name}")
        if module is not None:
            module.leave()


if not TYPE_CHECKING:  # pragma: no branch  # or any misspelt name would pass for one

    def __getattr__(name: str) -> Any:
        """Find what is loaded on first use, and the modules that fedmsg brings."""
        import importlib

        if name in ("aio", "consumers", "metrics", "outbox"):
            return importlib.import_module("." + name, __name__)
        if name in _LATER:
            module = importlib.import_module("." + _LATER[name], __name__)
            found = globals()[name] = getattr(module, "publish" if name == "send_message" else name)
            return found
        if not name.startswith("_"):
            found = getattr(importlib.import_module("fedmsg"), name, None)
            if found is not None:
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names: what an editor or the interpreter completes."""
    return sorted({*__all__} - {"__local"})
