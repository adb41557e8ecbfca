"""What the caller asks for: recipients, ack_timeout and the ``gilmsg.*`` keys, checked. Pure.

Everything here is refused before anything is sent, with the value and the way out in the
text. A keyword or argument of the call wins over the configuration.
"""

import functools
import re
import threading
from types import MappingProxyType
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import six

from . import _acks
from .errors import ConfigurationError

RECIPIENTS = "gilmsg.recipients"
ACK_TIMEOUT = "gilmsg.ack_timeout"
HEAD_START = "gilmsg.head_start"
KEYS = (RECIPIENTS, ACK_TIMEOUT, HEAD_START)

DEFAULT_ACK_TIMEOUT = 0.25
DEFAULT_HEAD_START = 2.0
_DEFAULTS = {ACK_TIMEOUT: DEFAULT_ACK_TIMEOUT, HEAD_START: DEFAULT_HEAD_START}


class Settings(NamedTuple):
    """What holds for one publish; times in seconds."""

    table: Dict[str, Tuple[str, ...]]
    ack_timeout: float
    head_start: float


def recipients_for(topic: str, table: Mapping[str, Tuple[str, ...]]) -> Tuple[str, ...]:
    """Return what *table*, the value of ``gilmsg.recipients``, has for the full *topic*: the longest match counts."""
    return next((table[prefix] for prefix in _prefixes(topic) if prefix in table), ())


def settings(
    config: Mapping[str, Any], ack_timeout: Optional[float], own: Mapping[str, Any] = MappingProxyType({})
) -> Settings:
    """Return the checked settings; what is in *own* wins, and over its key *ack_timeout*, unless None.

    All three keys are checked whole, not only the entry that would match.

    Raises:
        ConfigurationError: for the first value that cannot be used.
    """

    require_known(own)

    def value(key: str) -> Any:
        return read(key, own if key in own else config)

    configured = value(ACK_TIMEOUT)
    return Settings(
        value(RECIPIENTS),
        configured if ack_timeout is None else _seconds(ack_timeout, "ack_timeout"),
        value(HEAD_START),
    )


def require_known(config: Mapping[str, Any]) -> None:
    """Refuse a ``gilmsg.*`` key that does not exist: a misspelt one would silently guarantee nothing.

    Raises:
        ConfigurationError: it names the key, and those that there are.
    """
    for key in config:
        if isinstance(key, str) and key.startswith("gilmsg.") and key not in KEYS:
            raise ConfigurationError("there is no setting %r; these are: %s" % (key, ", ".join(KEYS)))


def read(key: str, config: Mapping[str, Any]) -> Any:
    """Return the checked value of one of ``KEYS`` in *config*, or its default.

    Raises:
        ConfigurationError: it cannot be used.
    """
    if key == RECIPIENTS:
        return _table(config.get(key))
    return _seconds(config.get(key, _DEFAULTS[key]), key, zero_allowed=key == HEAD_START)


def any_of(*names: str) -> str:
    """Return one entry of ``recipients``: a group, any one member of which will do.

    Args:
        *names (str): certificate common names, at least one.

    Returns:
        str: the names joined by commas. That string is the group's form in fedmsg.d, on
        the command line, in the message, and as a key of ``Timeout.missing``.

    Raises:
        ConfigurationError: without a name, or for a name that is not a non-empty string.
    """
    if not names:
        raise ConfigurationError("any_of() needs at least one common name")
    return _entry(_acks.join_group(_name(name) for name in names), "any_of()")


def recipients(value: Any, where: str = "recipients") -> Tuple[str, ...]:
    """Return the entries of *value*, checked; duplicates collapse, one string is one entry.

    Raises:
        ConfigurationError: for anything but an iterable of non-empty strings; *where*
            names the argument or key in its text.
    """
    value = [value] if isinstance(value, six.string_types) else value
    try:
        entries: List[Any] = list(value)
    except TypeError:
        raise ConfigurationError(
            "%s must be a list of certificate common names; it is %r" % (where, value)
        ) from None
    if isinstance(value, six.binary_type):
        raise ConfigurationError("%s must hold text, not bytes: %r" % (where, value))
    return _distinct(tuple(_entry(entry, where) for entry in entries))


@functools.lru_cache(maxsize=512)
def _distinct(entries: Tuple[str, ...]) -> Tuple[str, ...]:
    """Return *entries* without those that name the same as one before; a service has the same all the time."""
    unique = {frozenset(_acks.members(entry)): entry for entry in reversed(entries)}
    return tuple(reversed(list(unique.values())))


def _entry(entry: Any, where: str) -> str:
    """Return one entry, a name or a group, in its plain form."""
    if not isinstance(entry, six.text_type):
        raise ConfigurationError(
            "%s holds %r; each entry must be a certificate common name (text)" % (where, entry)
        )
    plain = _plain(entry)
    if plain is None:
        raise ConfigurationError(
            "%s holds %r; a common name cannot be empty (a group is 'name,name')" % (where, entry)
        )
    return plain


@functools.lru_cache(maxsize=512)
def _plain(entry: str) -> Optional[str]:
    """Return *entry* in its plain form, None if a name in it is empty; the same ones come all the time."""
    names = _acks.members(entry)
    return _acks.join_group(dict.fromkeys(names)) if all(names) else None


def _name(name: Any) -> str:
    if not isinstance(name, six.text_type) or not name.strip():
        raise ConfigurationError("any_of() takes non-empty strings; it was given %r" % (name,))
    return str(name)


def _table(value: Any) -> Dict[str, Tuple[str, ...]]:
    """Return the key gilmsg.recipients, checked."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            "%s must be a dict of topic -> recipients; it is %r" % (RECIPIENTS, value)
        )
    found: Dict[str, Tuple[str, ...]] = {}
    for key, names in value.items():
        topic = _topic(key)
        if topic in found:
            raise ConfigurationError("%s has %r twice, with a dot at its end and without" % (RECIPIENTS, topic))
        found[topic] = _row(key, names)
    return found


#: What a topic consists of: words that are joined by dots. A last dot does no harm.
_WORDS = re.compile(r"[^\s.*]+(\.[^\s.*]+)*\.?\Z")


def _topic(topic: Any) -> str:
    """Return a key of the table; one that matches no topic at all would silently guarantee nothing."""
    if not isinstance(topic, six.text_type) or not _WORDS.match(topic):
        raise ConfigurationError(
            "%s has the key %r; it must be a full topic, or the part of one before some dot (without *: "
            "it holds for all that follows)" % (RECIPIENTS, topic)
        )
    return str(topic).rstrip(".")


def _row(topic: Any, names: Any) -> Tuple[str, ...]:
    return recipients(names, "%s[%r]" % (RECIPIENTS, topic))


def _prefixes(topic: str) -> Iterator[str]:
    """Yield *topic* and each part of it before a dot, the longest first."""
    while topic:
        yield topic
        topic = topic.rpartition(".")[0]


def _seconds(value: Any, where: str, zero_allowed: bool = False) -> float:
    """Return *value* as a number of seconds."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = number and 0 <= value <= threading.TIMEOUT_MAX  # not nan, either
    if not fits or (value == 0 and not zero_allowed):
        raise ConfigurationError(
            "%s must be a %s, finite number of seconds, at most %g; it is %r"
            % (where, "non-negative" if zero_allowed else "positive", threading.TIMEOUT_MAX, value)
        )
    return float(value)
