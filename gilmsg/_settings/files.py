"""fedmsg's configuration: the values in force, the files that they come from, and their shapes.

Relied on, of fedmsg.config: where ``_process_config_file`` looks and in which order, that it runs each file by
``execfile``, merges them by ``_recursive_update``, and only warns of an OSError; ``__cache``, unless empty, is what
``load_config`` returns, and ``fedmsg.init`` writes into it; ``load_config`` raises if no file names any endpoint.

fedmsg takes every value as it comes: a wrong one ends in a TypeError from deep inside, or in a thread.
"""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

import fedmsg.config

from ..errors import ConfigurationError
from .keys import LARGEST_PORT
from .values import NOTHING, Said, kept, remembered, seen

_SINGLE = ["/etc/fedmsg-config.py", "~/.fedmsg-config.py", "fedmsg-config.py"]
_FOLDERS = ["/etc/fedmsg.d", "~/.fedmsg.d", "fedmsg.d"]


class Loaded(NamedTuple):
    """A configuration, the files that it was read from, what is wrong with which, and which fedmsg passes over."""

    config: dict[str, Any]
    files: list[str]
    problems: list[str]
    passed_over: Sequence[str] = ()
    #: Why fedmsg did not load it.
    error: Exception | None = None
    #: What files and environment say of our own keys.
    said: Said = NOTHING


def keep(config: dict[str, Any]) -> None:
    """Have fedmsg keep this very dict. It is replaced, never emptied: contexts may hold the former."""
    setattr(fedmsg.config, "__cache", config)


def replace(config: Mapping[str, Any]) -> None:
    """Make *config*, on top of fedmsg's defaults, the process's configuration; no file is read."""
    keep(copy.deepcopy({**fedmsg.config.defaults, **config}))


def current(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the process's configuration without *overrides*; fedmsg loads and keeps it if need be.

    Where only *overrides* name endpoints, fedmsg refuses to; then what the files say will do, and is not kept.
    """
    if kept():  # load_config would return it after a DeprecationWarning
        remembered()  # before anybody adds keywords
        return kept()
    found = _loaded(None, "endpoints" in overrides)
    if found.problems:
        raise ConfigurationError("; ".join(found.problems)) from found.error
    remembered(found.config)
    return found.config


def load(overrides: Mapping[str, Any]) -> Loaded:
    """Return the configuration with *overrides*, and what is wrong with its files; fedmsg keeps what it kept."""
    chosen, former = overrides.get("config_filename"), kept()
    if not isinstance(overrides.get("endpoints") or {}, Mapping):
        raise ConfigurationError(f"endpoints must be a dict; it is {overrides['endpoints']!r}")
    if chosen and not os.path.isfile(chosen):
        raise ConfigurationError(f"config_filename: {chosen!r} is not a file")
    if former and not chosen:
        return in_force({**former, **overrides})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _loaded(chosen, "endpoints" in overrides)
    except ConfigurationError as error:
        found = Loaded(copy.deepcopy(fedmsg.config.defaults), [], [str(error)])
    finally:
        keep(former)
    if not isinstance(found.config.get("endpoints"), dict):
        found.config["endpoints"] = {}
    found = found._replace(said=seen(found.config))
    found.config.update(overrides)
    return found


def in_force(config: dict[str, Any]) -> Loaded:
    """Return the same of a context's *config*: what the files say by now does not matter to it."""
    chosen = config.get("config_filename")
    try:
        return Loaded(config, [chosen] if chosen else found_in(), [], said=remembered())
    except ConfigurationError as error:
        return Loaded(config, [], [], [str(error)], said=remembered())


def _loaded(chosen: str | None, has_endpoints: bool) -> Loaded:
    """Have fedmsg load its files, or only the *chosen* one; where it does not, what they say, and why."""
    files = [chosen] if chosen else found_in()
    try:
        with warnings.catch_warnings():  # just this one, once in a process: threads may get into each other's way here
            warnings.filterwarnings("ignore", 'Using "load_config" is deprecated', DeprecationWarning)
            config = fedmsg.config.load_config([], None, filenames=chosen and files, invalidate_cache=bool(chosen))
        return Loaded(config, files, [])
    except Warning:  # the user wants them as errors
        raise
    except Exception as error:  # noqa: BLE001  # a configuration file is a program: anything may come out
        found, why = read_files(files), error
    named = found.config.get("config_filename")
    if named and not found.problems:
        found = read_files([named])
    endpoints = found.config.get("endpoints")
    if endpoints is None and not has_endpoints:
        looked = f"(looked in {', '.join(places())})"
        none = f"endpoints: no configuration file sets it {looked}; declare yours in one, as docs/reference/keys.rst shows"
        found.problems.extend([*found.passed_over, none])
    elif endpoints is not None and not found.problems:
        told = f"fedmsg cannot load its configuration: {why or repr(why)}"
        wrong_type = f"endpoints: it must be a dict; it is {endpoints!r}"
        found.problems.append(told if isinstance(endpoints, dict) else wrong_type)
    return found._replace(config={**copy.deepcopy(fedmsg.config.defaults), **found.config}, files=files, error=why)


def read_files(files: list[str]) -> Loaded:
    """Return what *files* say without fedmsg's defaults, merged as it does; the readable part where one is no good."""
    config: dict[str, Any] = {}
    problems: list[str] = []
    passed_over: list[str] = []
    for path in files:
        variables: dict[str, Any] = {}
        try:
            fedmsg.config.execfile(path, variables)
            if "config" in variables:
                fedmsg.config._recursive_update(config, variables["config"])
            else:
                problems.append(f"{path}: it defines no 'config'")
        except Exception as error:  # noqa: BLE001  # as above
            passes = isinstance(error, OSError) and os.path.isfile(path)
            what = f"{path}: it cannot be read: {type(error).__name__}: {error}"
            (passed_over if passes else problems).append(what)
    return Loaded(config, files, problems, passed_over)


def found_in(directory: str = "") -> list[str]:
    """Return the files that fedmsg reads for a program started in *directory*, absolute and in its order."""
    found = [path for folder in places(directory) for path in fedmsg.config._gather_configs_in(folder)]
    return [path for path in found + _absolute(directory, _SINGLE) if os.path.isfile(path)]


def places(directory: str = "") -> list[str]:
    """Return the folders in which fedmsg looks for configuration."""
    virtual = [os.path.join(os.environ["VIRTUAL_ENV"], "etc/fedmsg.d")] if "VIRTUAL_ENV" in os.environ else []
    return _absolute(directory, _FOLDERS) + virtual


def _absolute(directory: str, paths: list[str]) -> list[str]:
    try:
        return [os.path.abspath(os.path.join(directory, os.path.expanduser(path))) for path in paths]
    except FileNotFoundError as error:
        where = os.environ.get("PWD", "")
        with contextlib.suppress(OSError):
            where = os.readlink("/proc/self/cwd").replace(" (deleted)", "")
        told = f"the working directory {where} was removed, and fedmsg looks for configuration there; use another one"
        raise ConfigurationError(told) from error


def require(config: Mapping[str, Any]) -> None:
    """Refuse the first value that cannot be used."""
    for _, problem in wrong(config):
        raise ConfigurationError(problem)


def wrong(config: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """Return the way to each bad value, ``(key,)`` or ``("endpoints", name)``, and what is wrong.

    What is absent is in order here; so is None, where it means that there is none, or fedmsg's default.
    """
    found: list[tuple[tuple[str, ...], str]] = []
    for key, (fits, wanted) in _SHAPES.items():
        value = config.get(key)
        if not fits(value) and (value is not None or (key in config and key in _NEVER_NONE)):
            found.append(((key,), f"{key} must be {wanted}; it is {value!r}"))
    endpoints = config.get("endpoints")
    for name, value in endpoints.items() if isinstance(endpoints, Mapping) else ():
        problem = _problem(value or None) if isinstance(name, str) else " has a name that is no text"
        if problem:
            found.append((("endpoints", name), f"endpoints[{name!r}]{problem}"))
    problem = _problem(config.get("relay_inbound"))
    return [*found, (("relay_inbound",), "relay_inbound" + problem)] if problem else found


def _problem(value: Any) -> str:
    """Return what is wrong with *value* as endpoints, to be read after their key; empty if nothing is."""
    endpoints = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(endpoints, (list, tuple)) or not _is_text(*endpoints):
        return f" must be an endpoint, or a list of them; it is {value!r}"
    bad = next((one for one in endpoints if one.startswith("tcp://") and not port(one)), None)
    if bad is None:
        return ""
    return f" holds {bad!r}; a tcp endpoint must end in a colon and a port, a number from 1 to {LARGEST_PORT}"


def port(endpoint: str) -> int:
    """Return the port with which *endpoint* ends; 0 if that is none."""
    text = endpoint.rpartition(":")[2].strip()
    # The length: int() of thousands of digits is a ValueError.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    return number if number <= LARGEST_PORT else 0


def _is_text(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_names(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_text(*value, *value.values())


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= threading.TIMEOUT_MAX


def _is_whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and least <= value < 2**31  # libzmq takes a C int


#: Where None is no value, and there is no default to take instead.
_NEVER_NONE = frozenset(["topic_prefix", "environment", "zmq_linger", "zmq_reconnect_ivl", "zmq_reconnect_ivl_max"])

_MILLISECONDS = (_is_whole(-1), "a whole number of milliseconds")  # -1 is libzmq's "for ever", or "never"

_SHAPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "topic_prefix": (_is_text, "text"),
    "environment": (_is_text, "text"),
    "name": (_is_text, "text"),
    "endpoints": (lambda value: isinstance(value, Mapping), "a dict of name -> endpoints"),
    "certnames": (_is_names, "a dict of name -> name of a certificate"),
    "ssldir": (_is_text, "the path of a folder"),
    "io_threads": (_is_whole(1), "a positive number"),
    "high_water_mark": (_is_whole(-1), "a whole number, 0 for no limit"),
    "zmq_linger": _MILLISECONDS,
    "zmq_reconnect_ivl": _MILLISECONDS,
    "zmq_reconnect_ivl_max": _MILLISECONDS,
    "post_init_sleep": (_is_seconds, "a number of seconds"),
    "crl_cache_expiry": (_is_seconds, "a number of seconds"),
}
