"""fedmsg's configuration: the values in force, the files that they come from, and their shapes.

The only module that reads files of configuration, and that touches what fedmsg keeps of them.
Relied on, of fedmsg.config:

- where ``_process_config_file`` looks and in which order, that it runs each file by ``execfile``
  and merges them by ``_recursive_update``, and that an OSError of a file is a warning there.
- ``__cache``, unless empty, is what ``load_config`` returns; ``fedmsg.init`` writes into it.
- ``load_config`` raises if no file names any endpoint; it reads only the ``config_filename`` that a
  file names.

fedmsg takes every value as it comes: a wrong one ends in a TypeError from deep inside, or in
a thread. `require` refuses it before anything is opened, with key and value.
"""

from __future__ import annotations

import copy
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

import fedmsg.config

from ..errors import ConfigurationError

_SINGLE = ["/etc/fedmsg-config.py", "~/.fedmsg-config.py", "fedmsg-config.py"]
_FOLDERS = ["/etc/fedmsg.d", "~/.fedmsg.d", "fedmsg.d"]


class Loaded(NamedTuple):
    """A configuration, the files that it was read from, what is wrong with which, and which fedmsg passes over."""

    config: dict[str, Any]
    files: list[str]
    problems: list[str]
    passed_over: Sequence[str] = ()


def kept() -> dict[str, Any]:
    """Return the very dict that fedmsg keeps as the process's configuration, empty before it is loaded."""
    found: dict[str, Any] = getattr(fedmsg.config, "__cache")
    return found


def keep(config: dict[str, Any]) -> None:
    """Have fedmsg keep this very dict. It is replaced, never emptied: contexts may hold the former."""
    setattr(fedmsg.config, "__cache", config)


def replace(config: Mapping[str, Any]) -> None:
    """Make *config*, on top of fedmsg's defaults, the process's configuration; no file is read."""
    keep(_with_defaults(copy.deepcopy(dict(config))))


def current(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the process's configuration without *overrides*; fedmsg loads and keeps it if need be.

    fedmsg refuses to load where no file names any endpoint. Where *overrides* do, what the files
    say of everything else is enough; then nothing is kept.

    Raises:
        ConfigurationError: there is none, or a file of it cannot be used.
    """
    try:
        # Once loaded, it is what load_config would return, after a DeprecationWarning at every call.
        return kept() or fedmsg.config.load_config([], None)
    except Warning:  # the user wants them as errors
        raise
    except Exception as error:  # a configuration file is a program: anything may come out
        found = _salvage(found_in(), error, "endpoints" in overrides)
        if found.problems:
            raise ConfigurationError("; ".join(found.problems)) from error
        return found.config


def load(overrides: Mapping[str, Any]) -> Loaded:
    """Return fedmsg's configuration with *overrides*; what fedmsg keeps for the process stays.

    Where fedmsg would raise, the readable part is returned, and each problem.

    Raises:
        ConfigurationError: ``config_filename`` is no file, or ``endpoints`` in *overrides* no dict.
    """
    chosen = overrides.get("config_filename")
    if not isinstance(overrides.get("endpoints") or {}, Mapping):
        raise ConfigurationError(f"endpoints must be a dict; it is {overrides['endpoints']!r}")
    if chosen and not os.path.isfile(chosen):
        raise ConfigurationError(f"config_filename: {chosen!r} is not a file")
    files, former, known = [chosen] if chosen else found_in(), kept(), kept() and not chosen
    try:
        if not known:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fedmsg.config.load_config([], None, filenames=files, invalidate_cache=True)
        found = Loaded(dict(kept()), files, [])
    except Exception as error:  # noqa: BLE001  # as in current()
        found = _salvage(files, error, "endpoints" in overrides)
        if not isinstance(found.config.get("endpoints"), dict):
            found.config["endpoints"] = {}
    finally:
        keep(former)  # a later look sees the files as they are then
    found.config.update(overrides)
    return found


def in_force(config: dict[str, Any]) -> Loaded:
    """Return the same of a context's *config*: what the files say by now does not matter to it."""
    chosen = config.get("config_filename")
    return Loaded(config, [chosen] if chosen else found_in(), [])


def places() -> str:
    """Return where fedmsg looks for configuration, for people."""
    return ", ".join(_folders(""))


def found_in(directory: str = "") -> list[str]:
    """Return the files that fedmsg reads for a program started in *directory*, as absolute paths.

    They are in fedmsg's order: what comes later wins. By default it is the working directory.
    """
    found = []
    for folder in _folders(directory):
        if os.path.isdir(folder) and os.access(folder, os.R_OK):
            found += sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".py"))
    return [path for path in found + _absolute(directory, _SINGLE) if os.path.isfile(path)]


def _folders(directory: str) -> list[str]:
    virtual = [os.path.join(os.environ["VIRTUAL_ENV"], "etc/fedmsg.d")] if "VIRTUAL_ENV" in os.environ else []
    return _absolute(directory, _FOLDERS) + virtual


def _absolute(directory: str, paths: list[str]) -> list[str]:
    return [os.path.abspath(os.path.join(directory, os.path.expanduser(path))) for path in paths]


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
        except Exception as error:  # noqa: BLE001  # as in current()
            passes = isinstance(error, OSError) and os.path.isfile(path)
            what = f"{path}: it cannot be read: {type(error).__name__}: {error}"
            (passed_over if passes else problems).append(what)
    return Loaded(config, files, problems, passed_over)


def _salvage(files: list[str], error: Exception, has_endpoints: bool) -> Loaded:
    """Return what *files* say on top of the defaults, and why fedmsg did not load them but failed with *error*.

    Where *has_endpoints*, that none of them names any is no reason.
    """
    said = read_files(files)
    named = said.config.get("config_filename")
    if named and not said.problems:
        said = read_files([named])
    config, problems = _with_defaults(said.config), said.problems
    if not problems and "endpoints" in config:
        whole = isinstance(config["endpoints"], dict)
        problems.append(
            f"fedmsg cannot load its configuration: {error or repr(error)}"
            if whole else f"endpoints: it must be a dict; it is {config['endpoints']!r}"
        )
    elif "endpoints" not in config and not has_endpoints:
        problems += [
            *said.passed_over,
            f"endpoints: no configuration file sets it (looked in {places()}); declare yours in one, as README shows",
        ]
    return Loaded(config, files, problems)


def _with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    return {**copy.deepcopy(fedmsg.config.defaults), **config}


#: The largest port. libzmq takes a larger one modulo 65,536: it would silently connect to another.
_LARGEST_PORT = 65535


def require(config: Mapping[str, Any]) -> None:
    """Refuse values that cannot be used.

    Raises:
        ConfigurationError: for the first one; it names key and value.
    """
    for _, problem in wrong(config):
        raise ConfigurationError(problem)


def wrong(config: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """Return the way to each bad value, ``(key,)`` or ``("endpoints", name)``, and what is wrong.

    What is absent is in order here; so is None, where it means that there is none, or fedmsg's default.
    """
    found: list[tuple[tuple[str, ...], str]] = []
    for key, (fits, wanted) in _SHAPES.items():
        value = config.get(key)
        given = value is not None or (key in config and key in _NEVER_NONE)
        if given and not fits(value):
            found.append(((key,), f"{key} must be {wanted}; it is {value!r}"))
    endpoints = config.get("endpoints")
    ways: list[tuple[tuple[str, ...], Any]] = [(("relay_inbound",), config.get("relay_inbound"))]
    if isinstance(endpoints, Mapping):
        ways[:0] = [(("endpoints", name), value or None) for name, value in endpoints.items()]
    for way, value in ways:
        where = f"endpoints[{way[1]!r}]" if way[1:] else way[0]
        problem = _problem(value) if all(map(_is_text, way)) else " has a name that is no text"
        if problem:
            found.append((way, where + problem))
    return found


def _problem(value: Any) -> str:
    """Return what is wrong with *value* as endpoints, to be read after their key; empty if nothing is."""
    endpoints = [] if value is None else [value] if _is_text(value) else value
    if not isinstance(endpoints, (list, tuple)) or not all(map(_is_text, endpoints)):
        return f" must be an endpoint, or a list of them; it is {value!r}"
    bad = next((one for one in endpoints if one.startswith("tcp://") and not port(one)), None)
    if bad is None:
        return ""
    return f" holds {bad!r}; a tcp endpoint must end in a colon and a port, a number from 1 to {_LARGEST_PORT}"


def port(endpoint: str) -> int:
    """Return the port with which *endpoint* ends; 0 if that is none."""
    text = endpoint.rpartition(":")[2].strip()
    # The length: int() of thousands of digits is a ValueError.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    return number if number <= _LARGEST_PORT else 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_names(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, [*value, *value.values()]))


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= threading.TIMEOUT_MAX


def _is_whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and least <= value < 2**31  # libzmq takes a C int


#: Where None is no value, and there is no default to take instead.
_NEVER_NONE = frozenset(["topic_prefix", "environment", "zmq_linger", "zmq_reconnect_ivl", "zmq_reconnect_ivl_max"])

_TEXT = (_is_text, "text")
_SECONDS = (_is_seconds, "a number of seconds")
_MILLISECONDS = (_is_whole(-1), "a whole number of milliseconds")  # -1 is libzmq's "for ever", or "never"

_SHAPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "topic_prefix": _TEXT,
    "environment": _TEXT,
    "name": _TEXT,
    "endpoints": (lambda value: isinstance(value, Mapping), "a dict of name -> endpoints"),
    "certnames": (_is_names, "a dict of name -> name of a certificate"),
    "ssldir": (_is_text, "the path of a folder"),
    "io_threads": (_is_whole(1), "a positive number"),
    "high_water_mark": (_is_whole(-1), "a whole number, 0 for no limit"),
    "zmq_linger": _MILLISECONDS,
    "zmq_reconnect_ivl": _MILLISECONDS,
    "zmq_reconnect_ivl_max": _MILLISECONDS,
    "post_init_sleep": _SECONDS,
    "crl_cache_expiry": _SECONDS,
}
