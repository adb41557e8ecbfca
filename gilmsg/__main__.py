"""``python -m gilmsg COMMAND ...``: the same as ``gilmsg-COMMAND ...``, for a Python whose scripts are on no PATH."""

from __future__ import annotations

import importlib
import sys

from ._version import __version__
from .commands import SUCCESS, Format, Parser, script

#: The commands, each a module of ``gilmsg.commands``.
COMMANDS = ("check", "demo", "logger", "outbox", "pki", "sandbox", "tail")

DESCRIPTION = """Run a command of gilmsg.

    check     tell whether a message would be confirmed, without publishing one
    demo      show on a small bus what gilmsg does
    logger    publish the lines of standard input
    outbox    deliver the messages of an outbox, and look after them
    pki       make and look after the keys of a bus
    sandbox   run a small bus on this machine
    tail      watch the bus, and acknowledge what names us

The exit status is the command's own, 2 for bad usage. Example::

    $ python -m gilmsg check --help
"""


@script("gilmsg")
def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names; return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in COMMANDS:
        status: int = importlib.import_module(f".commands.{words[0]}", __package__).main(words[1:])
        return status
    # Without --print-completion: a shell would take its script for that of every python.
    parser = Parser(prog="python -m gilmsg", description=DESCRIPTION, usage="%(prog)s COMMAND ...", formatter_class=Format)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}", help="Print the version.")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help=f"one of {', '.join(COMMANDS)}")
    parser.parse_args(words)
    return SUCCESS  # pragma: no cover  # it ends above: without a COMMAND it has printed something, or refuses


if __name__ == "__main__":
    sys.exit(main())
