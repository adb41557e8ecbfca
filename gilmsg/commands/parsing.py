"""The command line of all commands: their options, and the two that each has, --version and --print-completion.

A command that takes fedmsg's options shows its own first in --help. None has a default as long as the command line is
parsed: what is not typed comes from the configuration, which is loaded afterwards.
"""

from __future__ import annotations

import argparse
import copy
import functools
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Callable, NoReturn

import fedmsg.config
from fedmsg.encoding import pretty_dumps

from .. import _settings
from .._version import __version__
from ..errors import ConfigurationError

#: As in ``extra_args`` of fedmsg's commands: flags, and the keywords of ``add_argument``.
Option = tuple[list[str], dict[str, Any]]

#: Those of shtab that are a terminal's; a test looks that shtab has them.
SHELLS = ("bash", "zsh", "tcsh", "fish")

#: Arguments, by their ``dest``, that are files and folders: a shell completes their names.
_FILES, _FOLDERS = ("config_filename", "database", "outbox"), ("directory",)


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigurationError on bad usage, instead of printing its whole usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message} (see {self.prog} --help)")


def command_parser(prog: str, description: str | None, **more: Any) -> Parser:
    """Return a parser for the command *prog*, which has --version and --print-completion already."""
    parser = Parser(prog=prog, description=description, formatter_class=Format, **more)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}", help="Print the version.")
    told = f"Print a completion script for one of {', '.join(SHELLS)}."
    parser.add_argument("--print-completion", action=_PrintCompletion, choices=SHELLS, metavar="SHELL", help=told)
    return parser


#: A format of --help in which most options have a line each.
Format = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=36)


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: Any, __: object = None) -> NoReturn:
        import shtab

        for action in _every_action(parser):
            if action.dest in _FILES + _FOLDERS:
                action.complete = shtab.FILE if action.dest in _FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
        print(shtab.complete(parser, shell))
        parser.exit()


def _every_action(parser: argparse.ArgumentParser) -> Iterable[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from _every_action(one)


def number(name: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a ``type`` of options: a number that *fits*, called *name* in argparse's errors."""

    def convert(text: str) -> float:
        found = float(text)
        if not fits(found):
            raise ValueError(text)
        return found

    convert.__name__ = name
    return convert


def option(name: str, **keywords: Any) -> Option:
    """Return an option in the form of ``extra_args`` of fedmsg's commands; *keywords* are ``add_argument``'s."""
    return [name], keywords


def add_options(parser: argparse.ArgumentParser, own: list[Option], inherited: Sequence[Option] = ()) -> None:
    """Add *own* options, those *inherited* from fedmsg's command of the same name, and those that all of these have.

    What is parsed is for ``completed``.
    """
    defaults: dict[str, tuple[bool, Any]] = {}

    def add(group: argparse._ActionsContainer, flags: list[str], keywords: dict[str, Any]) -> None:
        # The rule of fedmsg.config.build_parser: with both of these it is a key of the configuration.
        is_key = "dest" in keywords and "default" in keywords
        action = group.add_argument(*flags, **keywords)
        defaults[action.dest] = is_key, action.default
        action.default = argparse.SUPPRESS

    for flags, keywords in own:
        add(parser, flags, keywords)
    if inherited:
        group = parser.add_argument_group(f"options of {parser.prog.replace('gilmsg', 'fedmsg')}")
        for flags, keywords in inherited:
            add(group, flags, keywords)
    group = parser.add_argument_group("options of all commands of fedmsg")
    for action in fedmsg.config.build_parser([], "", None, prog="")._actions:
        if not isinstance(action, argparse._HelpAction):
            defaults[action.dest] = True, action.default
            action.default = argparse.SUPPRESS
            group._add_action(action)
    parser.set_defaults(defaults=defaults)


def parsed(
    prog: str, options: list[Option], description: str | None, arguments: list[str] | None, inherited: Sequence[Option] = ()
) -> dict[str, Any]:
    """Parse the command line of a command that has fedmsg's options, for ``completed``."""
    parser = command_parser(prog, description, usage="%(prog)s [OPTION ...]")
    add_options(parser, options, inherited)
    return vars(parser.parse_args(arguments))


def completed(typed: dict[str, Any]) -> tuple[dict[str, Any], _settings.Loaded]:
    """Return what is *typed* on top of what the configuration, else the options' own default, says; and the configuration.

    That is the whole of what ``--config-filename`` says, where it is given.
    """
    defaults, chosen = typed.pop("defaults"), typed.get("config_filename")
    found = _settings.load({"config_filename": chosen} if chosen else {})
    values = {dest: found.config.get(dest, default) if is_key else default for dest, (is_key, default) in defaults.items()}
    return {**copy.deepcopy(values), **typed}, found


def print_config(config: dict[str, Any]) -> NoReturn:
    """Print *config*, and end the command."""
    print(pretty_dumps(config))
    sys.exit(0)
