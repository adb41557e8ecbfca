"""gilmsg: fedmsg that knows whether a message arrived.

``import gilmsg`` takes the place of ``import fedmsg``: every public name of fedmsg is here.
"""

from typing import TYPE_CHECKING, Any, List

from . import _trust as _trust  # first: it makes fedmsg's crypto work
from ._bus import _local as __local  # noqa: F401
from ._bus import destroy, init
from ._publish import publish, publish_async
from ._receipt import Receipt
from ._settings import any_of
from ._tail import tail_messages
from ._version import __version__
from .errors import ConfigurationError, EndpointError, GilmsgError, ListenerError, Timeout

if TYPE_CHECKING:
    from .consumers import GilmsgConsumer

#: fedmsg's old name for it, deprecated there too.
send_message = publish

__all__ = [
    "__local",
    "__version__",
    "any_of",
    "ConfigurationError",
    "destroy",
    "EndpointError",
    "GilmsgConsumer",
    "GilmsgError",
    "init",
    "ListenerError",
    "publish",
    "publish_async",
    "Receipt",
    "send_message",
    "tail_messages",
    "Timeout",
]


def __getattr__(name: str) -> Any:
    """Find what is loaded on first use (moksha is slow), and the modules that fedmsg brings."""
    import importlib

    if name in ("GilmsgConsumer", "consumers"):
        module = importlib.import_module(".consumers", __name__)
        return module if name == "consumers" else module.GilmsgConsumer
    if not name.startswith("_"):
        found = getattr(importlib.import_module("fedmsg"), name, None)
        if found is not None:
            return found
    raise AttributeError("module %r has no attribute %r" % (__name__, name))


def __dir__() -> List[str]:
    return sorted(set(globals()) | set(__all__))
