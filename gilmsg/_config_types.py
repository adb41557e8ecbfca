"""Whether fedmsg's keys have the shape that fedmsg and gilmsg rely on. Pure.

fedmsg takes every value as it comes: a wrong one ends in a TypeError from deep inside, or in
a thread. Here it is refused before anything is opened, with key and value.
"""

import threading
from typing import Any, Callable, Dict, List, Mapping, Tuple

import six

from .errors import ConfigurationError

#: The largest port. libzmq takes a larger one modulo 65,536: it would silently connect to another.
_LARGEST_PORT = 65535


def require(config: Mapping[str, Any]) -> None:
    """Refuse values that cannot be used.

    Raises:
        ConfigurationError: for the first one; it names key and value.
    """
    for _, problem in wrong(config):
        raise ConfigurationError(problem)


def wrong(config: Mapping[str, Any]) -> List[Tuple[Tuple[str, ...], str]]:
    """Return the way to each bad value, ``(key,)`` or ``("endpoints", name)``, and what is wrong.

    What is absent is in order here; so is None, where it means that there is none, or fedmsg's default.
    """
    found: List[Tuple[Tuple[str, ...], str]] = []
    for key, (fits, wanted) in _SHAPES.items():
        value = config.get(key)
        given = value is not None or (key in config and key in _NEVER_NONE)
        if given and not fits(value):
            found.append(((key,), "%s must be %s; it is %r" % (key, wanted, value)))
    endpoints = config.get("endpoints")
    named = endpoints.items() if isinstance(endpoints, Mapping) else ()
    ways: List[Tuple[Tuple[str, ...], Any]] = [(("endpoints", name), value or None) for name, value in named]
    for way, value in ways + [(("relay_inbound",), config.get("relay_inbound"))]:
        where = "endpoints[%r]" % way[1] if way[1:] else way[0]
        problem = _problem(value) if all(map(_is_text, way)) else " has a name that is no text"
        if problem:
            found.append((way, where + problem))
    return found


def _problem(value: Any) -> str:
    """Return what is wrong with *value* as endpoints, to be read after their key; empty if nothing is."""
    if value is None:
        return ""
    endpoints = [value] if _is_text(value) else value
    if not isinstance(endpoints, (list, tuple)) or not all(map(_is_text, endpoints)):
        return " must be an endpoint, or a list of them; it is %r" % (value,)
    for endpoint in endpoints:
        if endpoint.startswith("tcp://") and not port(endpoint):
            return " holds %r; a tcp endpoint must end in a colon and a port, a number from 1 to %d" % (
                endpoint, _LARGEST_PORT
            )
    return ""


def port(endpoint: str) -> int:
    """Return the port with which *endpoint* ends; 0 if that is none."""
    text = endpoint.rpartition(":")[2].strip()
    # The length: int() of thousands of digits is a ValueError.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    return number if number <= _LARGEST_PORT else 0


def _is_text(value: Any) -> bool:
    return isinstance(value, six.text_type)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_names(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, [*value, *value.values()]))


def _is_count(value: Any) -> bool:
    # libzmq takes a C int.
    return isinstance(value, int) and 0 < value < 2**31


def _is_whole(value: Any) -> bool:
    # -1 is libzmq's "for ever", or "never".
    return isinstance(value, int) and -1 <= value < 2**31


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= threading.TIMEOUT_MAX


#: Where None is no value, and there is no default to take instead.
_NEVER_NONE = frozenset(
    ["topic_prefix", "environment", "zmq_linger", "zmq_reconnect_ivl", "zmq_reconnect_ivl_max"]
)

_SHAPES: Dict[str, Tuple[Callable[[Any], bool], str]] = {
    "topic_prefix": (_is_text, "text"),
    "environment": (_is_text, "text"),
    "name": (_is_text, "text"),
    "endpoints": (_is_mapping, "a dict of name -> endpoints"),
    "certnames": (_is_names, "a dict of name -> name of a certificate"),
    "ssldir": (_is_text, "the path of a folder"),
    "io_threads": (_is_count, "a positive number"),
    "high_water_mark": (_is_whole, "a whole number, 0 for no limit"),
    "zmq_linger": (_is_whole, "a whole number of milliseconds"),
    "zmq_reconnect_ivl": (_is_whole, "a whole number of milliseconds"),
    "zmq_reconnect_ivl_max": (_is_whole, "a whole number of milliseconds"),
    "post_init_sleep": (_is_number, "a number of seconds"),
    "crl_cache_expiry": (_is_number, "a number of seconds"),
}
