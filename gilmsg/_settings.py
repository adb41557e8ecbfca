"""What the caller asks for: recipients, ack_timeout and the ``gilmsg.*`` keys, checked. Pure.

Everything here is refused before anything is sent, with the value and the way out in the
text. A keyword or argument of the call wins over the configuration.
"""

import math
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import six

from . import _acks
from .errors import ConfigurationError

RECIPIENTS = "gilmsg.recipients"
ACK_TIMEOUT = "gilmsg.ack_timeout"
HEAD_START = "gilmsg.head_start"
KEYS = (RECIPIENTS, ACK_TIMEOUT, HEAD_START)

DEFAULT_ACK_TIMEOUT = 0.25
DEFAULT_HEAD_START = 2.0


class Settings(NamedTuple):
    """What holds for one publish; times in seconds."""

    table: Dict[str, Tuple[str, ...]]
    ack_timeout: float
    head_start: float

    def recipients_for(self, topic: str) -> Tuple[str, ...]:
        """Return the configured recipients of the full *topic*: the longest match counts."""
        for prefix in _prefixes(topic):
            if prefix in self.table:
                return self.table[prefix]
        return ()


def settings(config: Mapping[str, Any], ack_timeout: Optional[float]) -> Settings:
    """Return the checked settings; *ack_timeout*, unless None, wins over its key.

    All three keys are checked whole, not only the entry that would match.

    Raises:
        ConfigurationError: for the first value that cannot be used.
    """
    configured = _seconds(config.get(ACK_TIMEOUT, DEFAULT_ACK_TIMEOUT), ACK_TIMEOUT)
    return Settings(
        _table(config.get(RECIPIENTS)),
        configured if ack_timeout is None else _seconds(ack_timeout, "ack_timeout"),
        _seconds(config.get(HEAD_START, DEFAULT_HEAD_START), HEAD_START, zero_allowed=True),
    )


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
    unique = {frozenset(_acks.members(entry)): entry for entry in reversed(_entries(entries, where))}
    return tuple(reversed(list(unique.values())))


def _entries(entries: Iterable[Any], where: str) -> List[str]:
    return [_entry(entry, where) for entry in entries]


def _entry(entry: Any, where: str) -> str:
    """Return one entry, a name or a group, in its plain form."""
    if not isinstance(entry, six.text_type):
        raise ConfigurationError(
            "%s holds %r; each entry must be a certificate common name (text)" % (where, entry)
        )
    names = _acks.members(entry)
    if not all(names):
        raise ConfigurationError(
            "%s holds %r; a common name cannot be empty (a group is 'name,name')" % (where, entry)
        )
    return _acks.join_group(dict.fromkeys(names))


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
    return {_topic(topic): _row(topic, names) for topic, names in value.items()}


def _topic(topic: Any) -> str:
    if not isinstance(topic, six.text_type) or not topic.strip("."):
        raise ConfigurationError(
            "%s has the key %r; it must be a full topic, or the part of one before some dot"
            % (RECIPIENTS, topic)
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
    if not number or not math.isfinite(value) or value < 0 or (value == 0 and not zero_allowed):
        raise ConfigurationError(
            "%s must be a %s, finite number of seconds; it is %r"
            % (where, "non-negative" if zero_allowed else "positive", value)
        )
    return float(value)
