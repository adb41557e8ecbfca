"""Recipients, ``ack_timeout`` and the ``gilmsg.*`` keys, checked. Pure."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Mapping
from typing import Any, Callable

from .. import _protocol
from ..errors import ConfigurationError

RECIPIENTS = "gilmsg.recipients"
ACK_TIMEOUT = "gilmsg.ack_timeout"
HEAD_START = "gilmsg.head_start"
REQUIRED = "gilmsg.required"
FAIL_FAST = "gilmsg.fail_fast"
DATABASE = "gilmsg.outbox.database"
OUTBOX_ACK_TIMEOUT = "gilmsg.outbox.ack_timeout"
WINDOW = "gilmsg.outbox.window"
POLL = "gilmsg.outbox.poll"
KEEP = "gilmsg.outbox.keep"
METRICS_PORT = "gilmsg.metrics.port"
DEPTH = "gilmsg.metrics.depth"
#: Those of a publish, and those of the outbox and of metrics, which a publish only looks at.
PUBLISH_KEYS = (RECIPIENTS, ACK_TIMEOUT, HEAD_START, REQUIRED, FAIL_FAST)
OTHER_KEYS = (DATABASE, OUTBOX_ACK_TIMEOUT, WINDOW, POLL, KEEP, METRICS_PORT, DEPTH)
KEYS = (*PUBLISH_KEYS, *OTHER_KEYS)
#: True or False.
FLAGS = (REQUIRED, FAIL_FAST)

#: Names of ours for which another keyword may be meant; shorter ones are too near to those of others.
KEYWORDS = ("recipients", "recipient", "ack_timeout", "pre_fire_hook", "modname", "fail_fast", *KEYS)

#: Characters, at most, to insert, remove or replace until a misspelt name is the right one.
NEAR = 2

#: An address in brackets or without a colon, which may be left out, and a port.
_LISTENING = re.compile(r"(?:(?:\[([0-9a-fA-F:.]+)\]|([^:\s\[\]]+)):)?([0-9]{1,5})\Z")
_LOOPBACK = "127.0.0.1"

#: libzmq takes a larger port modulo 65,536: it would silently connect to another.
LARGEST_PORT = 65535

#: A topic: words that are joined by dots. A last dot does no harm.
_TOPIC = re.compile(r"[^\s.*]+(\.[^\s.*]+)*\.?\Z")


def require_known(config: Mapping[str, Any]) -> None:
    """Refuse a ``gilmsg.*`` key that does not exist: a misspelt one would silently guarantee nothing."""
    for key in config:
        if isinstance(key, str) and key.startswith("gilmsg.") and key not in KEYS:
            raise ConfigurationError(f"there is no setting {key!r}; these are: {', '.join(KEYS)}")


def checked(key: str, value: Any, where: str) -> Any:
    """Return *value* of one of ``KEYS``, in the form in which it is used; it was found *where*."""
    return _DEFAULTS_AND_CHECKS[key][1](value, where)


def plain(key: str, config: Mapping[str, Any]) -> Any:
    """Return the checked value of one of ``KEYS`` in *config*, or its default, whatever the environment says."""
    return checked(key, config.get(key, default(key)), key)


def default(key: str) -> Any:
    """Return the value of one of ``KEYS`` that nobody has set."""
    return _DEFAULTS_AND_CHECKS[key][0]


@functools.lru_cache(maxsize=512)
def misspelt(keywords: tuple[str, ...], names: tuple[str, ...] = KEYWORDS) -> dict[str, str]:
    """Return those of *keywords* that may be misspelt *names* of ours, and the name: they would silently guarantee nothing.

    One that contains such a name (``mail_recipients``) is somebody else's; of ``gilmsg.*``, all others are refused anyway.
    """
    return {
        keyword: "recipients" if name == "recipient" else name
        for keyword in keywords
        if not keyword.startswith("gilmsg.")
        for name in names
        if (name not in keyword or keyword == "recipient") and distance(keyword, name) <= NEAR
    }


def distance(one: str, other: str) -> int:
    """Return how many characters to insert, remove or replace make *one* the *other* (Levenshtein)."""
    if abs(len(one) - len(other)) > NEAR:
        return NEAR + 1
    row = list(range(len(other) + 1))
    for number, character in enumerate(one, 1):
        row, before = [number], row
        for column, wanted in enumerate(other):
            row.append(min(row[-1] + 1, before[column + 1] + 1, before[column] + (character != wanted)))
    return row[-1]


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
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"any_of() takes non-empty strings; it was given {name!r}")
    return _plain((_protocol.join_group(names),), "any_of()")[0]


def recipients(value: Any, where: str = "recipients") -> tuple[str, ...]:
    """Return the entries of *value*, checked; duplicates collapse, one string is one entry."""
    if isinstance(value, bytes):
        raise ConfigurationError(f"{where} must hold text, not bytes: {value!r}")
    try:
        entries = (value,) if isinstance(value, str) else tuple(value)
    except TypeError:
        raise ConfigurationError(f"{where} must be a list of certificate common names; it is {value!r}") from None
    for entry in entries:
        if not isinstance(entry, str):
            raise ConfigurationError(f"{where} holds {entry!r}; each entry must be a certificate common name (text)")
    return _plain(entries, where)


def recipients_for(topic: str, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return what *table*, the value of ``gilmsg.recipients``, has for the full *topic*: the longest match counts."""
    while topic and topic not in table:
        topic = topic.rpartition(".")[0]
    return table.get(topic, ())


@functools.lru_cache(maxsize=512)  # a service has the same ones all the time
def _plain(entries: tuple[str, ...], where: str) -> tuple[str, ...]:
    unique: dict[frozenset[str], str] = {}
    for entry in entries:
        names = dict.fromkeys(_protocol.members(entry))
        if not all(names):
            raise ConfigurationError(f"{where} holds {entry!r}; a common name cannot be empty (a group is 'name,name')")
        unique.setdefault(frozenset(names), _protocol.join_group(names))
    return tuple(unique.values())


#: The last table that was checked, as a copy, and what came of it: a process has the same one all the time.
_last: tuple[dict[Any, Any], dict[str, tuple[str, ...]]] = {}, {}


def _table(value: Any, where: str) -> dict[str, tuple[str, ...]]:
    global _last
    if value is None:
        return {}
    before, found = _last
    if value == before:
        return found
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where} must be a dict of topic -> recipients; it is {value!r}")
    found = {}
    for key, names in value.items():
        if not isinstance(key, str) or not _TOPIC.match(key):  # it would match no topic: it would guarantee nothing
            raise ConfigurationError(
                f"{where} has the key {key!r}; it must be a full topic, or the part of one before some dot "
                "(without *: it holds for all that follows)"
            )
        topic = key.rstrip(".")
        if topic in found:
            raise ConfigurationError(f"{where} has {topic!r} twice, with a dot at its end and without")
        found[topic] = recipients(names, f"{where}[{topic!r}]")
    _last = {key: names.copy() if hasattr(names, "copy") else names for key, names in value.items()}, found
    return found


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        spelling = " (1, 0, true or false)" if where.isupper() else ""  # a variable of the environment
        raise ConfigurationError(f"{where} must be True or False{spelling}; it is {value!r}")
    return value


def _place(value: Any, where: str) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigurationError(f"{where} must be the path of an SQLite file, or a database URL; it is {value!r}")
    return value


def listening(value: Any, where: str) -> tuple[str, int]:
    """Return address and port of *value*, ``9100`` or ``"[ADDRESS:]PORT"``; loopback where it names no address."""
    found = _LISTENING.match(str(value)) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
    port = int(found[3]) if found else 0
    if found is None or not 1 <= port <= LARGEST_PORT:
        raise ConfigurationError(
            f"{where} must be a port from 1 to {LARGEST_PORT}, or 'ADDRESS:PORT' (without an address {_LOOPBACK}); "
            f"it is {value!r}"
        )
    return found[1] or found[2] or _LOOPBACK, port


def _number(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{where} must be a whole number of at least 1; it is {value!r}")
    return value


def seconds(value: Any, where: str, zero_allowed: bool = False) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = number and 0 <= value <= threading.TIMEOUT_MAX  # not nan, either
    if not fits or (value == 0 and not zero_allowed):
        sign = "non-negative" if zero_allowed else "positive"
        raise ConfigurationError(
            f"{where} must be a {sign}, finite number of seconds, at most {threading.TIMEOUT_MAX:g}; it is {value!r}"
        )
    return float(value)


_seconds_or_0 = functools.partial(seconds, zero_allowed=True)

_DEFAULTS_AND_CHECKS: dict[str, tuple[Any, Callable[[Any, str], Any]]] = {
    RECIPIENTS: (None, _table),
    ACK_TIMEOUT: (0.25, seconds),
    HEAD_START: (2.0, _seconds_or_0),
    REQUIRED: (False, _flag),
    FAIL_FAST: (False, _flag),
    DATABASE: (None, _place),
    OUTBOX_ACK_TIMEOUT: (5.0, seconds),
    WINDOW: (100, _number),
    POLL: (1.0, seconds),
    KEEP: (7 * 86400.0, _seconds_or_0),
    METRICS_PORT: (None, lambda value, where: None if value is None else listening(value, where)),
    DEPTH: (2, _number),
}
