"""gilmsg: fedmsg that knows whether a message arrived.

``import gilmsg`` takes the place of ``import fedmsg``: every public name of fedmsg is here.
"""

from typing import TYPE_CHECKING, Any, List

# First: within the imports of another module of ours, fedmsg's own took 15 ms more.
from fedmsg import __local  # type: ignore[import-untyped]

from . import _later
from . import _trust as _trust  # it makes fedmsg's crypto work
from ._ending import destroy
from ._version import __version__
from .errors import ConfigurationError, EndpointError, GilmsgError, ListenerError, Timeout

if TYPE_CHECKING:
    from fedmsg import API_function as API_function
    from fedmsg import config as config
    from fedmsg import core as core
    from fedmsg import crypto as crypto
    from fedmsg import encoding as encoding
    from fedmsg import replay as replay
    from fedmsg import utils as utils

    from ._bus import init
    from ._check import check
    from ._publish import publish, publish_async
    from ._publish import publish as send_message
    from ._receipt import Receipt
    from ._report import Report
    from ._settings import any_of
    from ._tail import tail_messages
    from .consumers import GilmsgConsumer

#: What is loaded on first use, and where it is: an import of gilmsg costs little more than one of fedmsg.
_LATER = {
    "any_of": "_settings.any_of",
    "check": "_check.check",
    "GilmsgConsumer": "consumers.GilmsgConsumer",
    "init": "_bus.init",
    "publish": "_publish.publish",
    "publish_async": "_publish.publish_async",
    "Receipt": "_receipt.Receipt",
    "Report": "_report.Report",
    "send_message": "_publish.publish",  # fedmsg's old name for it, deprecated there too
    "tail_messages": "_tail.tail_messages",
}

__all__ = [
    "__local",
    "__version__",
    "any_of",
    "check",
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
    "Report",
    "send_message",
    "tail_messages",
    "Timeout",
]


if not TYPE_CHECKING:  # pragma: no branch  # or any misspelt name would pass for one

    def __getattr__(name: str) -> Any:
        """Find what is loaded on first use, and the modules that fedmsg brings."""
        import importlib

        if name == "consumers":
            return _later.load(name)
        if name in _LATER:
            module, _, attribute = _LATER[name].partition(".")
            found = globals()[name] = getattr(_later.load(module), attribute)
            return found
        if not name.startswith("_"):
            found = getattr(importlib.import_module("fedmsg"), name, None)
            if found is not None:
                return found
        raise AttributeError("module %r has no attribute %r" % (__name__, name))


def __dir__() -> List[str]:
    return sorted(set(globals()) | set(__all__))
