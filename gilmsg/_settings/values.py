"""The values of our own keys in force: of each, a keyword's, else the environment's, else the files', else the default.

``GILMSG_ACK_TIMEOUT`` is the environment's word on ``gilmsg.ack_timeout``, and so on. It is read when the configuration is
loaded, as files are. Keywords are often the whole of a loaded configuration: so what the files say is remembered, and a
keyword that says the same is theirs.
"""

from __future__ import annotations  # noqa: I001  those of keys are sorted, but packed

import functools
import json
import logging
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import fedmsg.config

from ..errors import ConfigurationError
from .keys import (
    DATABASE, FAIL_FAST, FLAGS, HEAD_START, KEEP, KEYS, NEAR, OTHER_KEYS, OUTBOX_ACK_TIMEOUT, POLL, PUBLISH_KEYS, RECIPIENTS,
    WINDOW, checked, default, distance, require_known, seconds,
)  # fmt: skip

log = logging.getLogger("gilmsg.settings")

#: Sources of a value that are neither a variable of the environment nor a file.
KEYWORD, FILES, DEFAULT = "keyword", "files", "default"

#: Our keys, and the variables of that meaning.
VARIABLES = {key: key.upper().replace(".", "_") for key in KEYS}

_KEYS = {variable: key for key, variable in VARIABLES.items()}

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


def kept() -> dict[str, Any]:
    """Return the very dict that fedmsg keeps as the process's configuration, empty before it is loaded."""
    found: dict[str, Any] = getattr(fedmsg.config, "__cache")
    return found


def remembered(config: Mapping[str, Any] | None = None) -> Said:
    """Return what was said when the dict that fedmsg keeps was new; if given, *config* is what files say now."""
    global _said
    found, now = _said, kept()
    if found.kept is not now or config is not None:
        _said = found = seen(now if config is None else config)._replace(kept=now)
    return found


def seen(config: Mapping[str, Any]) -> Said:
    """Return what is said now, *config* being what files say."""
    texts, near = {}, []
    for name, text in os.environ.items():
        if name in _KEYS and text:
            texts[_KEYS[name]] = text
        elif name[:1] in ("G", "g"):
            meant = (variable for variable in _KEYS if name not in _KEYS and distance(name.upper(), variable) <= NEAR)
            near += [f"the environment variable {name} is ignored: {variable} is meant, most likely" for variable in meant]
    for sentence in near:
        _warn(sentence)
    return Said(config, {key: config[key] for key in KEYS if key in config}, texts, tuple(near))


@functools.cache
def _warn(sentence: str) -> None:
    log.warning("%s", sentence)


class Settings(NamedTuple):
    """The settings of one publish, in the order of ``PUBLISH_KEYS``; times in seconds."""

    table: dict[str, tuple[str, ...]]
    ack_timeout: float
    head_start: float
    required: bool
    fail_fast: bool


def settings(
    config: Mapping[str, Any], ack_timeout: float | None, own: Mapping[str, Any] = MappingProxyType({}),
    fail_fast: bool | None = None,
) -> Settings:  # fmt: skip
    """Return the settings, all of them checked; what is in *own* wins, and over its keys *ack_timeout*, *fail_fast*."""
    require_known(own)
    said = remembered()
    found = Settings(*(_read(key, said, own, config) for key in PUBLISH_KEYS))
    if ack_timeout is not None:
        found = found._replace(ack_timeout=seconds(ack_timeout, "ack_timeout"))
    if fail_fast is not None:
        found = found._replace(fail_fast=checked(FAIL_FAST, fail_fast, "fail_fast"))
    for key in OTHER_KEYS:
        if key in own or key in config or key in said.texts:
            _read(key, said, own, config)
    return found


class OutboxSettings(NamedTuple):
    """The settings of a deliverer; times in seconds."""

    head_start: float
    ack_timeout: float
    window: int
    poll: float
    keep: float


def outbox_settings(config: Mapping[str, Any]) -> OutboxSettings:
    """Return the settings of a deliverer under *config*, all of them checked."""
    require_known(config)
    return OutboxSettings(*(read(key, config) for key in (HEAD_START, OUTBOX_ACK_TIMEOUT, WINDOW, POLL, KEEP)))


def read(key: str, config: Mapping[str, Any]) -> Any:
    """Return the checked value of one of ``KEYS``, or its default."""
    return _read(key, remembered(), config)


def _read(key: str, said: Said, *configs: Mapping[str, Any]) -> Any:
    value, source = sourced(key, said, *configs)
    return checked(key, value, source if source == VARIABLES[key] else key)


def sourced(key: str, said: Said, *configs: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the value of one of ``KEYS`` in *configs*, the first of which wins, and its source; it is not checked."""
    theirs: tuple[Any, str] = default(key), DEFAULT
    for config in configs:
        if key in config:
            value, in_files = config[key], said.files.get(key, said)
            if in_files is not value and in_files != value:
                return value, KEYWORD
            theirs = value, FILES
    text = said.texts.get(key)
    return theirs if text is None else (_value(key, text), VARIABLES[key])


def _value(key: str, text: str) -> Any:
    """Return what *text*, of the variable of *key*, says: a value as in a file, still to be checked."""
    if key == RECIPIENTS:
        try:
            return json.loads(text)
        except ValueError as error:
            words = f"{VARIABLES[key]} must be JSON, an object of topic -> list: {error}; it is {text!r}"
            raise ConfigurationError(words) from None
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
