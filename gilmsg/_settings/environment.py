"""The environment's word on our own keys: ``GILMSG_ACK_TIMEOUT`` for ``gilmsg.ack_timeout``, and so on.

It is read when the configuration is loaded, as files are, and counts for what these say: not over keywords. Keywords are
often the whole of a loaded configuration; so what the files say is remembered, and a keyword that says the same is theirs.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import ConfigurationError
from .keys import DATABASE, FLAGS, KEYS, NEAR, RECIPIENTS, distance

log = logging.getLogger("gilmsg.settings")

#: Our keys, and the variables of that meaning.
VARIABLES = {key: key.upper().replace(".", "_") for key in KEYS}

_KEYS = {variable: key for key, variable in VARIABLES.items()}

_NEAR = "the environment variable {} is ignored: {} is meant, most likely"

_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


class Said(NamedTuple):
    """What files and environment say of our own keys."""

    #: The very dict that fedmsg kept then.
    kept: Mapping[str, Any]
    files: dict[str, Any]
    #: Key -> text of its variable.
    texts: dict[str, str]
    #: A sentence about each variable that is ignored, and may be meant for one of ours.
    near: tuple[str, ...]


NOTHING = _said = Said({}, {}, {}, ())


def said(kept: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> Said:
    """Return what is said where fedmsg keeps *kept*, as it was when that was new; if given, *config* is what files say."""
    global _said
    found = _said
    if found.kept is not kept or config is not None:
        _said = found = seen(kept if config is None else config)._replace(kept=kept)
    return found


def seen(config: Mapping[str, Any]) -> Said:
    """Return what is said now, *config* being what files say."""
    texts, near = {}, []
    for name, text in os.environ.items():
        if name in _KEYS and text:
            texts[_KEYS[name]] = text
        elif name[:1] in ("G", "g"):
            meant = (variable for variable in _KEYS if name not in _KEYS and distance(name.upper(), variable) <= NEAR)
            near += [_NEAR.format(name, variable) for variable in meant]
    for sentence in near:
        _warn(sentence)
    return Said(config, {key: config[key] for key in KEYS if key in config}, texts, tuple(near))


@functools.cache
def _warn(sentence: str) -> None:
    log.warning("%s", sentence)


def value(key: str, text: str) -> Any:
    """Return what *text*, of the variable of *key*, says: a value as in a file, still to be checked.

    Raises:
        ConfigurationError: it is to be JSON, and is not.
    """
    if key == RECIPIENTS:
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"{VARIABLES[key]} must be JSON, an object of topic -> list: {error}; it is {text!r}") from None
    if key == DATABASE:
        return text
    if key in FLAGS:
        return _BOOLEANS.get(text.lower(), text)
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
