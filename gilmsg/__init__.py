"""gilmsg, as far as the room _trust needs it (another branch has the real one)."""

from fedmsg import __local

from . import _trust
from ._version import __version__
from .errors import ConfigurationError

_trust.turn_on_fedmsg_crypto()

__all__ = ["ConfigurationError", "__local", "__version__"]
