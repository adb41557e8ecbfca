"""``gilmsg-sandbox``: a signed bus on the laptop, with recipients that do as they are told."""

import argparse
import re
import sys
from typing import Any, Dict, List, Optional

from gilmsg.commands import _common, _family
from gilmsg.commands._common import SUCCESS
from gilmsg.commands._console import Console, Ended, is_terminal
from gilmsg.commands._display import LINES, Display, guide, heading
from gilmsg.commands._streams import complain
from gilmsg.commands._usage import Parser, Unusable
from gilmsg.errors import ConfigurationError
from gilmsg.sandbox import Sandbox

PROG = "gilmsg-sandbox"

#: Exit statuses beyond those that all commands share.
DID_NOT_COME_UP, CANNOT_RUN, NOT_FOUND = 1, 126, 127

#: Seconds that COMMAND has to end after Ctrl-C.
PATIENCE = 1.0

USAGE = (
    "%(prog)s [DIR] [--recipients CN [CN ...]] [--relay] [--topic-prefix P] [-- COMMAND ...]\n"
    "       (DIR first, or last after an option other than --recipients)"
)

DESCRIPTION = """
Run a small, signed bus with stand-in recipients on this machine until Ctrl-C.

DIR gets a fedmsg.d and throw-away keys: a program started there publishes on this bus. Each
message and ACK is shown as it happens. Type at it:

    silent CN         CN receives, and acknowledges nothing
    slow CN SECONDS   CN waits before each ACK; what comes meanwhile waits its turn
    dead CN           CN's process is killed
    well CN           CN acknowledges at once, started anew if it is dead

With COMMAND, stdin and stdout are COMMAND's, and what is shown goes to stderr. Exit status:
COMMAND's own (128 + n if signal n ended it, 127 if it is not found, 126 if it cannot be run);
without one 0 after Ctrl-C; 1 if the bus did not come up; 2 for bad usage.

Examples::

    $ gilmsg-sandbox
    $ gilmsg-sandbox ~/bus --recipients backend01 backend02 --relay
    $ gilmsg-sandbox --recipients backend01 -- python3 /path/to/my_producer.py
"""


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command; return the exit status."""
    return _common.run(PROG, lambda: _main(sys.argv[1:] if arguments is None else arguments))


def _main(arguments: List[str]) -> int:
    with Console() as console:
        try:
            return _Run(_parse(arguments), console).run()
        except TimeoutError as error:
            complain(PROG, error)
            return DID_NOT_COME_UP


class _Run:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self._options = options
        self._console = console
        self._show = Display(sys.stderr if options.command else sys.stdout)

    def run(self) -> int:
        try:
            with self._sandbox() as sandbox:
                self._show.text(heading(sandbox))
                if self._options.command:
                    return self._run_command(sandbox)
                self._show.text(guide(sandbox, self._options.relay))
                for line in self._console.lines():  # pragma: no branch  only Ended ends them
                    self._show.text(obey(sandbox, line))
        except Ended as end:
            if self._options.command:
                return 128 + end.number
        # Ctrl-C is how a sandbox without a command is meant to end.
        return SUCCESS

    def _sandbox(self) -> Sandbox:
        # What was dead and is well again is found within a moment by programs that run meanwhile.
        more: Dict[str, Any] = {"zmq_reconnect_ivl_max": 200}
        if self._options.recipients:
            more["recipients"] = self._options.recipients
        if self._options.topic_prefix:
            more["topic_prefix"] = self._options.topic_prefix
        return Sandbox(
            directory=self._options.directory,
            relay=self._options.relay,
            on_event=self._show.event,
            on_wait=self._console.check,
            **more,
        )

    def _run_command(self, sandbox: Sandbox) -> int:
        words = self._options.command
        try:
            command = _family.Command(words, sandbox.directory, is_terminal(), self._console.wake)
        except OSError as error:
            complain(PROG, "cannot run %s in %s: %s" % (words[0], sandbox.directory, error.strerror))
            return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
        try:
            while command.status is None:
                self._console.sleep()
            return command.status
        except Ended as end:
            status = command.end(end.number, PATIENCE)
            return 128 + end.number if status is None else status
        finally:
            command.clear_away()


def obey(sandbox: Sandbox, line: str) -> str:
    """Do what a typed *line* says; return the answer."""
    try:
        return _done(sandbox, *line.strip().partition(" ")[::2])
    except (ConfigurationError, TimeoutError, ValueError) as error:
        names = ", ".join(sandbox.recipients)
        return "%s. Type one of: %s (CN is one of: %s)" % (error, LINES, names)


def _done(sandbox: Sandbox, verb: str, rest: str) -> str:
    """Do it; return what was done."""
    name, rest = rest.strip(), rest.strip()
    if verb == "slow":
        name, _, rest = (part.strip() for part in rest.rpartition(" "))
        sandbox.slow(name, _seconds(rest))
        return "%s waits %g s now before each ACK" % (name, _seconds(rest))
    if verb == "silent":
        sandbox.silent(name)
        return "%s receives now, and acknowledges nothing" % name
    if verb == "dead":
        sandbox.dead(name)
        return "%s is dead" % name
    if verb == "well":
        sandbox.well(name)
        return "%s is well" % name
    raise ValueError("%r is not understood" % verb)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("%r is no number of seconds" % text) from None


def _parse(arguments: List[str]) -> argparse.Namespace:
    """Return the options; everything after the first ``--`` is the command."""
    ours, command = arguments, None
    if "--" in arguments:
        ours, command = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    # Intermixed, or an older argparse fails to see DIR after an option.
    options = _parser().parse_intermixed_args(ours)
    if command == []:
        raise Unusable("there is no COMMAND after --")
    options.command = command
    return options


def _parser() -> Parser:
    parser = Parser(
        prog=PROG,
        usage=USAGE,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=_not_empty,
        help="where fedmsg.d and the keys go, and stay; a temporary folder by default",
    )
    parser.add_argument(
        "--recipients", metavar="CN", nargs="+", help="common names of the stand-ins; two by default"
    )
    parser.add_argument("--relay", action="store_true", help="run a fedmsg-relay too, for gilmsg-logger")
    parser.add_argument(
        "--topic-prefix", metavar="P", type=_topic_prefix, help="of the bus; org.example by default"
    )
    return parser


def _not_empty(value: str) -> str:
    if not value:
        raise argparse.ArgumentTypeError("it is empty")
    return value


def _topic_prefix(value: str) -> str:
    if not re.match(r"[\w-]+(\.[\w-]+)*\Z", value):
        raise argparse.ArgumentTypeError("%r is not words joined by dots" % value)
    return value


if __name__ == "__main__":
    sys.exit(main())
