"""The reference of the commands, made of their parsers as the pages are built, so that it is always that of ``--help``.

The page ``reference/commands`` holds the line `PLACE`; Sphinx reads the text of `as_rst` there.
"""

import argparse
import contextlib
import importlib
import re
import textwrap
from unittest import mock

from gilmsg.__main__ import COMMANDS

PLACE = ".. The commands stand here, see docs/ext/commands.py."

#: The last group of options is the same for all commands that have it: it is shown once.
COMMON = "options of all commands of fedmsg"

#: Of each command: the page says once what they do.
EVERYWHERE = ("help", "version", "print_completion")


class _Built(BaseException):
    """Carries a parser out of the command that has just built it."""


def parser_of(name):
    """Return the parser of the command *name* (``tail`` of ``gilmsg-tail``)."""

    def stop(parser, *_, **__):
        raise _Built(parser)

    methods = ("parse_args", "parse_known_args", "parse_intermixed_args")
    with contextlib.ExitStack() as stack:
        for method in methods:
            stack.enter_context(mock.patch.object(argparse.ArgumentParser, method, stop))
        try:
            importlib.import_module(f"gilmsg.commands.{name}").main([])
        except _Built as built:
            return built.args[0]
    raise LookupError(f"gilmsg-{name} builds no parser")


def parsers():
    """Return all parsers: what is typed -> the parser, subcommands after their command."""
    found = {}
    for name in COMMANDS:
        parser = parser_of(name)
        found[parser.prog] = parser
        for sub, one in subcommands(parser).items():
            found[f"{parser.prog} {sub}"] = one
    return found


def subcommands(parser):
    """Return the subcommands of *parser*: name -> parser."""
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(actions[0].choices) if actions else {}


def as_rst():
    """Return the text of the page from `PLACE` on: a section for each command, and what they have in common."""
    lines, common = [], None
    for typed, parser in parsers().items():
        lines += heading(typed, "-" if " " not in typed else "~")
        lines += [f".. program:: {typed}", "", ".. code-block:: text", ""]
        lines += [f"   {line}" for line in usage(parser).splitlines()] + [""]
        lines += described(parser.description or "")
        for group in parser._action_groups:
            actions = [action for action in group._group_actions if shown(action)]
            if group.title == COMMON:
                common = actions
                lines += [f"It has the `{COMMON}`_ too.", ""]
            elif actions:
                lines += [f"*{group.title.capitalize()}*", ""] if group.title.startswith("options of") else []
                lines += [line for action in actions for line in entry(parser, action)]
    lines += heading(COMMON.capitalize(), "-") + [".. program:: fedmsg", ""]
    lines += [line for action in common for line in entry(parser, action)]
    return "\n".join(lines)


def heading(text, rule):
    return [text, rule * len(text), ""]


def usage(parser):
    """Return the usage line, whatever the width of the terminal is."""
    with mock.patch.dict("os.environ", COLUMNS="100"):
        return parser.format_usage().partition("usage: ")[2].strip()


def shown(action):
    """Tell if *action* is worth a line: not what each command has, nor the list of subcommands, which have sections."""
    return action.dest not in EVERYWHERE and not isinstance(action, argparse._SubParsersAction)


def entry(parser, action):
    """Return the lines that describe an option or an argument."""
    value = parser._get_formatter()._format_args(action, action.dest.upper()) if action.nargs != 0 else ""
    if action.option_strings:
        head = ", ".join(f"{flag} {value}".strip() for flag in action.option_strings)
    else:
        head = value
    return [f".. option:: {head}", "", *textwrap.indent(plain(action.help or ""), "   ").splitlines(), ""]


def described(text):
    """Return the lines of a command's description: its paragraphs, and the blocks that are indented, as they are."""
    lines = []
    for paragraph in re.split(r"\n\s*\n", textwrap.dedent(text).strip()):
        if paragraph.startswith("    "):
            language = "console" if paragraph.lstrip().startswith("$ ") else "text"
            lines += [f".. code-block:: {language}", "", textwrap.indent(textwrap.dedent(paragraph), "   "), ""]
        else:
            lines += [plain(paragraph.replace("::", ":")), ""]
    return lines


def plain(text):
    """Return *text* such that reStructuredText takes it as it is; options become literal."""
    escaped = re.sub(r"([\\*`|_])", r"\\\1", text)
    return re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", r"``\1``", escaped)


def _fill(_app, _name, source):
    if PLACE in source[0]:
        source[0] = source[0].replace(PLACE, as_rst())


def setup(app):
    """Have Sphinx fill the page."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}
