"""fedmsg's configuration: what is in force, which files it comes from, and what they say.

The only module that reads files of configuration, and that touches what fedmsg keeps of them.
Relied on, of fedmsg.config:

- where ``_process_config_file`` looks and in which order, that it runs each file by ``execfile``
  and merges them by ``_recursive_update``, and that an OSError of a file is a warning there.
- ``__cache``, unless empty, is what ``load_config`` returns; ``fedmsg.init`` writes into it.
- ``load_config`` raises if no file names any endpoint; it reads only the ``config_filename`` that a
  file names.
"""

import copy
import os
import warnings
from typing import Any, Dict, List, Mapping, NamedTuple

import fedmsg.config  # type: ignore[import-untyped]

from .errors import ConfigurationError

_SINGLE = ["/etc/fedmsg-config.py", "~/.fedmsg-config.py", "fedmsg-config.py"]
_FOLDERS = ["/etc/fedmsg.d", "~/.fedmsg.d", "fedmsg.d"]


class Loaded(NamedTuple):
    """The configuration, the files that it was read from, and what is wrong with which."""

    config: Dict[str, Any]
    files: List[str]
    problems: List[str]


class Contents(NamedTuple):
    """What files say, without fedmsg's defaults; what is wrong with which; which fedmsg passes over."""

    config: Dict[str, Any]
    problems: List[str]
    passed_over: List[str]


def kept() -> Dict[str, Any]:
    """Return the very dict that fedmsg keeps as the process's configuration, empty before it is loaded."""
    found: Dict[str, Any] = getattr(fedmsg.config, "__cache")
    return found


def keep(config: Dict[str, Any]) -> None:
    """Have fedmsg keep this very dict. It is replaced, never emptied: contexts may hold the former."""
    setattr(fedmsg.config, "__cache", config)


def replace(config: Mapping[str, Any]) -> None:
    """Make *config*, on top of fedmsg's defaults, the process's configuration; no file is read."""
    keep(_with_defaults(copy.deepcopy(dict(config))))


def current(overrides: Mapping[str, Any]) -> Dict[str, Any]:
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
        raise ConfigurationError("endpoints must be a dict; it is %r" % (overrides["endpoints"],))
    if chosen and not os.path.isfile(chosen):
        raise ConfigurationError("config_filename: %r is not a file" % (chosen,))
    files = [chosen] if chosen else found_in()
    if kept() and not chosen:
        found = Loaded(dict(kept()), files, [])
    else:
        found = _look(files, "endpoints" in overrides)
    found.config.update(overrides)
    return found


def in_force(config: Dict[str, Any]) -> Loaded:
    """Return the same of a context's *config*: what the files say by now does not matter to it."""
    chosen = config.get("config_filename")
    return Loaded(config, [chosen] if chosen else found_in(), [])


def places() -> str:
    """Return where fedmsg looks for configuration, for people."""
    return ", ".join(_folders(""))


def found_in(directory: str = "") -> List[str]:
    """Return the files that fedmsg reads for a program started in *directory*, as absolute paths.

    They are in fedmsg's order: what comes later wins. By default it is the working directory.
    """
    found = []
    for folder in _folders(directory):
        if os.path.isdir(folder) and os.access(folder, os.R_OK):
            found += sorted(os.path.join(folder, n) for n in os.listdir(folder) if n.endswith(".py"))
    found += [_absolute(directory, single) for single in _SINGLE]
    return [path for path in found if os.path.isfile(path)]


def _folders(directory: str) -> List[str]:
    folders = [_absolute(directory, folder) for folder in _FOLDERS]
    if "VIRTUAL_ENV" in os.environ:
        folders.append(os.path.join(os.environ["VIRTUAL_ENV"], "etc/fedmsg.d"))
    return folders


def _absolute(directory: str, path: str) -> str:
    return os.path.abspath(os.path.join(directory, os.path.expanduser(path)))


def read(files: List[str]) -> Contents:
    """Return what *files* say, merged as fedmsg does; it is the readable part where one cannot be used."""
    found = Contents({}, [], [])
    for path in files:
        variables: Dict[str, Any] = {}
        try:
            fedmsg.config.execfile(path, variables)
            if "config" in variables:
                fedmsg.config._recursive_update(found.config, variables["config"])
            else:
                found.problems.append("%s: it defines no 'config'" % path)
        except Exception as error:  # see above
            passed_over = isinstance(error, OSError) and os.path.isfile(path)
            what = "%s: it cannot be read: %s: %s" % (path, type(error).__name__, error)
            (found.passed_over if passed_over else found.problems).append(what)
    return found


def _look(files: List[str], has_endpoints: bool) -> Loaded:
    """Read *files* as fedmsg does, and forget them again: a later look sees them as they are then."""
    former = kept()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = fedmsg.config.load_config([], None, filenames=files, invalidate_cache=True)
        return Loaded(dict(config), files, [])
    except Exception as error:  # see above
        found = _salvage(files, error, has_endpoints)
        if not isinstance(found.config.get("endpoints"), dict):
            found.config["endpoints"] = {}
        return found
    finally:
        keep(former)


def _salvage(files: List[str], error: Exception, has_endpoints: bool) -> Loaded:
    """Return what *files* say on top of the defaults, and why fedmsg did not load them but failed with *error*.

    Where *has_endpoints*, that none of them names any is no reason.
    """
    said = read(files)
    named = said.config.get("config_filename")
    if named and not said.problems:
        said = read([named])
    config, problems = _with_defaults(said.config), said.problems
    if not problems and "endpoints" in config:
        problems.append(_whole_problem(config["endpoints"], error))
    elif "endpoints" not in config and not has_endpoints:
        problems += said.passed_over
        problems.append(
            "endpoints: no configuration file sets it (looked in %s); declare yours in one, as README shows" % places()
        )
    return Loaded(config, files, problems)


def _whole_problem(endpoints: Any, error: Exception) -> str:
    """Return what is wrong with a configuration, though with none of its files."""
    if not isinstance(endpoints, dict):
        return "endpoints: it must be a dict; it is %r" % (endpoints,)
    return "fedmsg cannot load its configuration: %s" % (error or repr(error))


def _with_defaults(config: Dict[str, Any]) -> Dict[str, Any]:
    whole: Dict[str, Any] = copy.deepcopy(fedmsg.config.defaults)
    whole.update(config)
    return whole
