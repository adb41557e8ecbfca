"""The values of our own keys in force: of each, a keyword's, else the environment's, else the files', else the default."""

from __future__ import annotations  # noqa: I001  those of keys are sorted, but packed

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from . import environment, files
from .keys import (
    FAIL_FAST, HEAD_START, KEEP, OUTBOX_ACK_TIMEOUT, OTHER_KEYS, POLL, PUBLISH_KEYS, WINDOW, checked, default, require_known,
    seconds,
)  # fmt: skip

#: Sources of a value that are neither a variable of the environment nor a file.
KEYWORD, FILES, DEFAULT = "keyword", "files", "default"


class Settings(NamedTuple):
    """The settings of one publish; times in seconds."""

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
    said = environment.said(files.kept())
    table, timeout, head_start, required, hasty = (_read(key, said, own, config) for key in PUBLISH_KEYS)
    if ack_timeout is not None:
        timeout = seconds(ack_timeout, "ack_timeout")
    if fail_fast is not None:
        hasty = checked(FAIL_FAST, fail_fast, "fail_fast")
    for key in OTHER_KEYS:
        if key in own or key in config or key in said.texts:
            _read(key, said, own, config)
    return Settings(table, timeout, head_start, required, hasty)


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
    return _read(key, environment.said(files.kept()), config)


def _read(key: str, said: environment.Said, *configs: Mapping[str, Any]) -> Any:
    value, source = sourced(key, said, *configs)
    return checked(key, value, source if source == environment.VARIABLES[key] else key)


def sourced(key: str, said: environment.Said, *configs: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the value of one of ``KEYS`` in *configs*, the first of which wins, and its source; it is not checked.

    Raises:
        ConfigurationError: the variable of that key is to be JSON, and is not.
    """
    theirs: tuple[Any, str] = default(key), DEFAULT
    for config in configs:
        if key in config:
            value, in_files = config[key], said.files.get(key, said)
            if in_files is not value and in_files != value:
                return value, KEYWORD
            theirs = value, FILES
    text = said.texts.get(key)
    return theirs if text is None else (environment.value(key, text), environment.VARIABLES[key])
