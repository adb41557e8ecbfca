"""``gilmsg-logger``: publish from the shell, through the relay, and know that it arrived."""

import logging
import os
import sys
from typing import Any, Dict, Iterable, List, Optional

from fedmsg.commands.logger import LoggerCommand  # type: ignore[import-untyped]
from tqdm import tqdm

import gilmsg

from ..errors import PayloadError
from . import _common
from ._common import NOT_PROVEN, SUCCESS, UNUSABLE
from ._inputs import Input, inputs
from ._streams import complain, tell

PROG = "gilmsg-logger"

DESCRIPTION = """
Publish messages through the fedmsg-relay, and wait until every recipient has confirmed.

The messages are the lines of standard input, or --message. With --json-input they are JSON
documents: one a line, or one in all. Input that cannot be published is told with the number
of its line; all the other lines are published. Exit status: 0 if every message was confirmed,
1 if one was not, 2 if there was bad input, usage or configuration (130 after Ctrl-C).

Examples::

    $ echo testing | gilmsg-logger --recipients shell-value01.example.com --ack-timeout 3
    $ echo '{"a": 1}' | gilmsg-logger --json-input --recipients backend01,backend02
    $ gilmsg-logger --message "Hello." --modname git --topic repo.update --recipients backend01
"""

#: On top of all of fedmsg-logger's.
OPTIONS: List[Any] = [
    (
        ["--recipients"],
        {
            "dest": "recipients",
            "metavar": "CN",
            "nargs": "+",
            "help": "Common names that must confirm; CN,CN is a group, one of which will do.",
        },
    ),
    (
        ["--ack-timeout"],
        {
            "dest": "ack_timeout",
            "metavar": "SECONDS",
            "type": float,
            "help": "Seconds to wait for the confirmations of each message; by default gilmsg.ack_timeout, "
            "else 0.25.",
        },
    ),
    (
        ["--verbose"],
        {"dest": "verbose", "action": "store_true", "help": "Print a line per message."},
    ),
]


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command; return the exit status."""
    return _common.run(PROG, lambda: _Logger(_configuration(arguments)).run())


class _Logger:
    """One run: each input is published by itself, and one that fails does not stop the next."""

    def __init__(self, config: Dict[str, Any]) -> None:
        self._config = config
        self._options = {key: config.pop(key, None) for key in ("recipients", "ack_timeout")}
        # As fedmsg-logger: through the relay, under the certificate of --cert-prefix.
        config.update(active=True, name="relay_inbound", mute=False)
        self._warned = False

    def run(self) -> int:
        gilmsg.init(**self._config)
        statuses = {self._take(one) for one in _progress(inputs(self._config, sys.stdin))}
        return max(statuses, default=SUCCESS)

    def _take(self, one: Input) -> int:
        """Publish one input; what is wrong with it, and only with it, is told and stops no other."""
        if one.problem is not None:
            _complain(one.where + one.problem)
            return UNUSABLE
        try:
            return self._publish(one.body)
        except PayloadError as error:
            _complain("%s%s" % (one.where, error))
            return UNUSABLE

    def _publish(self, body: Any) -> int:
        try:
            receipt = gilmsg.publish(
                topic=self._config["topic"],
                msg=body,
                modname=self._config["modname"],
                **self._options,
            )
        except (gilmsg.Timeout, gilmsg.ListenerError) as failure:
            _complain(failure)
            return NOT_PROVEN
        if receipt is None:
            self._warn()
        elif self._config["verbose"]:
            acks = ", ".join("%s (%.1f ms)" % (cn, s * 1000) for cn, s in sorted(receipt.acks.items()))
            with tqdm.external_write_mode(file=sys.stdout):
                tell("%s %s confirmed by %s" % (receipt.topic, receipt.msg_id, acks))
        return SUCCESS

    def _warn(self) -> None:
        if not self._warned:
            _complain("no recipients: the messages are published, nobody confirms them")
        self._warned = True


def _progress(given: Iterable[Input]) -> Iterable[Input]:
    """Show how many of *given* are done, on a terminal only, once it takes longer than a second.

    Not while the lines are typed at that terminal.
    """
    silent = True if sys.stdin.isatty() else None  # None: unless stderr is a terminal
    return tqdm(
        given, PROG, unit=" messages", file=sys.stderr, disable=silent, leave=False, delay=1.0,
        **_size(),
    )


def _size() -> Dict[str, Any]:
    """Return a size for a terminal that does not know its own (a serial line), else none: tqdm asks."""
    try:
        known = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        known = 0
    return {} if known else {"ncols": 80, "nrows": 24}


def _complain(what: object) -> None:
    with tqdm.external_write_mode(file=sys.stderr):
        complain(PROG, what)


def _configuration(arguments: Optional[List[str]]) -> Dict[str, Any]:
    options = LoggerCommand.extra_args + OPTIONS
    config = _common.configuration(PROG, options, DESCRIPTION, arguments)
    # What goes wrong is told in lines of our own; logging configured for us stays in force.
    logging.getLogger("gilmsg").addHandler(logging.NullHandler())
    _log_nothing_twice()
    return config


#: Of what these warn, we tell the same in our own words.
_TOLD = ("gilmsg._pending", "gilmsg._publish")


def _log_nothing_twice() -> None:
    """Keep from handlers that write where our stderr goes what we tell there ourselves."""
    logger: Optional[logging.Logger] = logging.getLogger("gilmsg")
    while logger is not None:
        for handler in logger.handlers:
            if _is_our_stderr(getattr(handler, "stream", None)):
                handler.addFilter(lambda one: one.name not in _TOLD or one.levelno < logging.WARNING)
        logger = logger.parent if logger.propagate else None


def _is_our_stderr(stream: Any) -> bool:
    try:
        return os.path.sameopenfile(stream.fileno(), sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return False  # no file at all


if __name__ == "__main__":
    sys.exit(main())
