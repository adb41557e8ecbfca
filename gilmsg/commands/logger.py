"""Publish messages through the fedmsg-relay, and wait until every recipient has confirmed.

The messages are the lines of standard input, or --message. With --json-input they are JSON
documents: one a line, or one in all. Input that cannot be published is told with the number
of its line; all the other lines are published. Exit status: 0 if every message was confirmed,
1 if one was not, 2 if there was bad input, usage or configuration (130 after Ctrl-C).

Examples::

    $ echo testing | gilmsg-logger --recipients shell-value01.example.com --ack-timeout 3
    $ echo '{"a": 1}' | gilmsg-logger --json-input --recipients backend01,backend02
    $ gilmsg-logger --message "Hello." --modname git --topic repo.update --recipients backend01
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, TextIO

import fedmsg.encoding
from fedmsg.commands.logger import LoggerCommand
from tqdm import tqdm

import gilmsg
from gilmsg.errors import PayloadError

from . import _common
from ._common import NOT_PROVEN, SUCCESS, UNUSABLE, Unusable, option

PROG = "gilmsg-logger"

RECIPIENTS = "Common names that must confirm; CN,CN is a group, one of which will do."

SECONDS = "Seconds to wait for the confirmations of each message; by default gilmsg.ack_timeout, else 0.25."

#: On top of all of fedmsg-logger's.
OPTIONS = [
    option("--recipients", metavar="CN", nargs="+", help=RECIPIENTS),
    option("--ack-timeout", metavar="SECONDS", type=float, help=SECONDS),
    option("--verbose", action="store_true", help="Print a line per message."),
]

#: Characters of bad input that are shown.
_SHOWN = 80

#: Where a line comes from, for people ("line 3: "), and its text.
_Line = tuple[str, str]

#: Of what these warn, we tell the same in our own words.
_TOLD = ("gilmsg.publish", "gilmsg._pending", "gilmsg._publish")


@_common.script(PROG)
def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    config = _common.configuration(PROG, LoggerCommand.extra_args + OPTIONS, __doc__ or "", arguments)
    # What goes wrong is told in lines of our own; logging configured for us stays in force.
    logging.getLogger("gilmsg").addHandler(logging.NullHandler())
    _log_nothing_twice()
    options = {key: config.pop(key, None) for key in ("recipients", "ack_timeout")}
    options.update(topic=config["topic"], modname=config["modname"])
    # As fedmsg-logger: through the relay, under the certificate of --cert-prefix.
    config.update(active=True, name="relay_inbound", mute=False)
    gilmsg.init(**config)
    # Progress is shown where stderr is a terminal (None), but not while the lines are typed at one.
    silent = True if sys.stdin.isatty() else None
    given = inputs(config, sys.stdin)
    statuses = set()
    for one in tqdm(given, PROG, unit=" messages", file=sys.stderr, disable=silent, leave=False, delay=1.0):
        status, receipt = _publish(one, options)
        if receipt is not None and config["verbose"]:
            acks = ", ".join(f"{cn} ({seconds * 1000:.1f} ms)" for cn, seconds in sorted(receipt.acks.items()))
            with tqdm.external_write_mode(file=sys.stdout):
                _common.tell(f"{receipt.topic} {receipt.msg_id} confirmed by {acks}")
        if status == SUCCESS and receipt is None and SUCCESS not in statuses:
            _complain("no recipients: the messages are published, nobody confirms them")
        statuses.add(status)
    return max(statuses, default=SUCCESS)


def _publish(one: Input, options: dict[str, Any]) -> tuple[int, gilmsg.Receipt | None]:
    """Publish one input: what is wrong with it, and only with it, is told and stops no other."""
    try:
        if one.problem is not None:
            raise PayloadError(one.problem)
        return SUCCESS, gilmsg.publish(msg=one.body, **options)
    except PayloadError as error:
        _complain(f"{one.where}{error}")
        return UNUSABLE, None
    except (gilmsg.Timeout, gilmsg.ListenerError) as failure:
        _complain(failure)
        return NOT_PROVEN, None


def _complain(what: object) -> None:
    with tqdm.external_write_mode(file=sys.stderr):
        _common.complain(PROG, what)


def _log_nothing_twice() -> None:
    """Keep from handlers that write where our stderr goes what we tell there ourselves."""
    logger: logging.Logger | None = logging.getLogger("gilmsg")
    while logger is not None:
        for handler in logger.handlers:
            stream: Any = getattr(handler, "stream", None)
            with contextlib.suppress(AttributeError, OSError, ValueError):  # it is no file
                if os.path.sameopenfile(stream.fileno(), sys.stderr.fileno()):
                    handler.addFilter(lambda one: one.name not in _TOLD or one.levelno < logging.WARNING)
        logger = logger.parent if logger.propagate else None


class Input(NamedTuple):
    """One thing to publish, from *where* ("line 3: "), or the problem with it."""

    where: str
    body: Any = None
    problem: str | None = None


def inputs(config: dict[str, Any], stdin: TextIO) -> Iterator[Input]:
    """Yield what *config* (``--message``, ``--json-input``) asks for, each as soon as it comes."""
    message = config.get("logger_message")
    if message:
        yield (_json if config["json_input"] else _text)([("", message)])
        return
    # What is no text must not end us: it is recognized, and told, line by line.
    stdin.reconfigure(errors="surrogateescape")  # type: ignore[attr-defined]
    lines = ((f"line {number}: ", text) for number, text in enumerate(stdin, 1))
    if config["json_input"]:
        yield from _documents(line for line in lines if line[1].strip())
    else:
        yield from (_text([line]) for line in lines)


def _documents(lines: Iterator[_Line]) -> Iterator[Input]:
    """Yield one document over all *lines*, or one a line: is the first by itself a document, then every line is one."""
    head = next(lines, None)
    if head is None:
        raise Unusable("--json-input: standard input is empty")
    first = _json([head])
    if first.problem is not None:
        rest = list(lines)
        whole = _json([head, *rest], whole=True)
        # A lone bracket is how a document over several lines begins: a fragment of it is none.
        if whole.problem is None or head[1].strip() in ("{", "["):
            yield whole
            return
        lines = iter(rest)
    yield first
    yield from (_json([line]) for line in lines)


def _text(lines: list[_Line]) -> Input:
    """Return the first of *lines* that comes of bytes that are no text, or the one line that there is."""
    for where, text in lines:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            shown = _short(text).encode("utf-8", "surrogateescape")
            return Input(where, problem=f"{shown!r} is not text in this locale's encoding")
    return Input(lines[0][0], {"log": lines[0][1].strip()})


def _json(lines: list[_Line], whole: bool = False) -> Input:
    """Return *lines* as one JSON document; *whole* is all that there are."""
    text = _text(lines)
    if text.problem is not None:
        return text
    document = "".join(line for _, line in lines)
    try:
        return Input("" if whole else text.where, fedmsg.encoding.loads(document if whole else document.strip()))
    except RecursionError:
        number, reason = 1, "it is nested too deeply"
    except json.JSONDecodeError as error:
        # Its own text tells of "line 1", which is not the input's.
        number, reason = error.lineno, f"{error.msg} at column {error.colno}"
    # The end of the document may be missed after its last line.
    where, line = lines[min(number, len(lines)) - 1]
    begins = f": the document that begins in {lines[0][0][:-2]}" if whole else ""
    return Input(where, problem=f"{_short(line)!r}{begins} is not JSON: {reason}")


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


if __name__ == "__main__":
    sys.exit(main())
