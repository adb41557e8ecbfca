"""Publish messages through the fedmsg-relay, and wait until every recipient has confirmed.

The messages are the lines of standard input, or --message. With --json-input they are JSON
documents: one a line, or one in all. Input that cannot be published is told with the number
of its line; all the other lines are published. Exit status: 0 if every message was confirmed,
1 if one was not, 2 if there was bad input, usage or configuration (130 after Ctrl-C).

With --outbox nobody is waited for: the messages are put into an outbox, from which gilmsg-outbox
run delivers them under its own name. That needs recipients, and neither relay, port nor key.
Exit status 0 means then that all of them are in it, 1 that its database failed.

Examples::

    $ echo testing | gilmsg-logger --recipients shell-value01.example.com --ack-timeout 3
    $ echo '{"a": 1}' | gilmsg-logger --json-input --recipients backend01,backend02
    $ gilmsg-logger --message "Hello." --modname git --topic repo.update --recipients backend01
    $ echo testing | gilmsg-logger --outbox /var/lib/app/outbox.sqlite --recipients backend01
"""

from __future__ import annotations  # noqa: I001  those of the face are sorted, but packed

import contextlib
import itertools
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, TextIO

import fedmsg.encoding
from fedmsg.commands.logger import LoggerCommand
from tqdm import tqdm

import gilmsg
from gilmsg.errors import PayloadError

from .. import _settings
from . import (
    NOT_PROVEN, OUTBOX_VARIABLE, SUCCESS, UNUSABLE, Failed, complain, configuration, opened_outbox, option,
    outbox_place, parsed, script, tell,
)  # fmt: skip

PROG = "gilmsg-logger"

RECIPIENTS = "Common names that must confirm; CN,CN is a group, one of which will do."

SECONDS = "Seconds to wait for the confirmations of each message; by default gilmsg.ack_timeout, else 0.25."

OUTBOX = f"""Put the messages into this outbox, which is made if it is not there. Without a value the one that
{OUTBOX_VARIABLE} or {_settings.DATABASE} names."""

#: On top of all of fedmsg-logger's.
OPTIONS = [
    option("--recipients", metavar="CN", nargs="+", help=RECIPIENTS),
    option("--ack-timeout", metavar="SECONDS", type=float, help=SECONDS),
    option("--outbox", metavar="PATH_OR_URL", nargs="?", const="", help=OUTBOX),
    option("--verbose", action="store_true", help="Print a line per message."),
]

#: Characters of bad input that are shown.
_SHOWN = 80


@script(PROG)
def main(arguments: list[str] | None = None) -> int:
    config = configuration(parsed(PROG, OPTIONS, __doc__, arguments, LoggerCommand.extra_args))
    # What goes wrong is told in lines of our own; logging configured for us stays in force.
    logging.getLogger("gilmsg").addHandler(logging.NullHandler())
    _log_nothing_twice()
    options = {key: config.pop(key, None) for key in ("recipients", "ack_timeout")}
    options.update(topic=config["topic"], modname=config["modname"])
    return _publish_all(config, options) if config["outbox"] is None else _put_all(config, options)


def _publish_all(config: dict[str, Any], options: dict[str, Any]) -> int:
    # As fedmsg-logger: through the relay, under the certificate of --cert-prefix.
    config.update(active=True, name="relay_inbound", mute=False)
    gilmsg.init(**config)

    def publish(body: Any) -> str | None:
        receipt = gilmsg.publish(msg=body, **options)
        if receipt is None:
            return None
        acks = ", ".join(f"{cn} ({seconds * 1000:.1f} ms)" for cn, seconds in sorted(receipt.acks.items()))
        return f"{receipt.topic} {receipt.msg_id} confirmed by {acks}"

    return _send_all(config, publish)


def _put_all(config: dict[str, Any], options: dict[str, Any]) -> int:
    if options.pop("ack_timeout") is not None:
        raise gilmsg.ConfigurationError("--ack-timeout: with --outbox nobody waits; gilmsg.outbox.ack_timeout is the deliverer's")
    where = outbox_place(config.pop("outbox") or None, config)
    settings = {key: value for key, value in config.items() if key not in options}
    count = 0

    def put(body: Any) -> str:
        nonlocal count
        msg_id = box.put(msg=body, **options, **settings)
        count += 1
        return f"{msg_id} is in the outbox"

    try:
        with opened_outbox(where, create=True) as box:
            return _send_all(config, put)
    except Failed as error:
        raise Failed(f"{error}; of this input {count} messages were put, and nothing after them") from error


def _send_all(config: dict[str, Any], send: Callable[[Any], str | None]) -> int:
    """Send each input; *send* returns what to tell of it, None if nobody was to confirm it."""
    # Progress is shown where stderr is a terminal (None), but not while the lines are typed at one.
    silent = True if sys.stdin.isatty() else None
    given = inputs(config, sys.stdin)
    statuses = set()
    for one in tqdm(given, PROG, unit=" messages", file=sys.stderr, disable=silent, leave=False, delay=1.0):
        status, told = _send(one, send)
        if told is not None and config["verbose"]:
            with tqdm.external_write_mode(file=sys.stdout):
                tell(told)
        if status == SUCCESS and told is None and SUCCESS not in statuses:
            _complain("no recipients: the messages are published, nobody confirms them")
        statuses.add(status)
    return max(statuses, default=SUCCESS)


class Input(NamedTuple):
    """One thing to publish, from *where* ("line 3: "), or the problem with it."""

    where: str
    body: Any = None
    problem: str | None = None


def _send(one: Input, send: Callable[[Any], str | None]) -> tuple[int, str | None]:
    """Send one input: what is wrong with it, and only with it, is told and stops no other."""
    try:
        if one.problem is not None:
            raise PayloadError(one.problem)
        return SUCCESS, send(one.body)
    except PayloadError as error:
        _complain(f"{one.where}{error}")
        return UNUSABLE, None
    except (gilmsg.Timeout, gilmsg.ListenerError) as failure:
        _complain(failure)
        return NOT_PROVEN, None


def _complain(what: object) -> None:
    with tqdm.external_write_mode(file=sys.stderr):
        complain(PROG, what)


def _log_nothing_twice() -> None:
    """Keep from handlers that write where our stderr goes what we tell there ourselves."""
    for logger in ("gilmsg.publish", "gilmsg", None):
        for handler in logging.getLogger(logger).handlers:
            stream: Any = getattr(handler, "stream", None)
            with contextlib.suppress(AttributeError, OSError, ValueError):  # it is no file
                if os.path.sameopenfile(stream.fileno(), sys.stderr.fileno()):
                    handler.addFilter(lambda one: one.name != "gilmsg.publish" or one.levelno < logging.WARNING)


def inputs(config: dict[str, Any], stdin: TextIO) -> Iterator[Input]:
    """Yield what *config* (``--message``, ``--json-input``) asks for, each as soon as it comes.

    JSON is one document a line; but where the first line is none by itself, all lines together may be one.
    """
    as_json = config["json_input"]
    if config.get("logger_message"):
        yield _input(config["logger_message"], as_json)
        return
    # What is no text must not end us: it is recognized, and told, line by line.
    stdin.reconfigure(errors="surrogateescape")  # type: ignore[attr-defined]
    lines: Iterator[tuple[int, str]] = enumerate(stdin, 1)
    if as_json:
        lines = (line for line in lines if line[1].strip())
        number, head = next(lines, (0, ""))
        if not head:
            raise gilmsg.ConfigurationError("--json-input: standard input is empty")
        if _input(head, True).problem is not None:
            rest = list(stdin)
            whole = _input("".join([head, *rest]), True, number)
            # A lone bracket is how a document over several lines begins: a fragment of it is none.
            if whole.problem is None or head.strip() in ("{", "["):
                yield whole
                return
            lines = (line for line in enumerate(rest, number + 1) if line[1].strip())
        lines = itertools.chain([(number, head)], lines)
    for number, text in lines:
        yield _input(text, as_json, number)


def _input(text: str, as_json: bool, begin: int = 0) -> Input:
    """Return what *text* is; it begins in line *begin* of stdin, if it comes from there."""
    text, number = text.strip(), 0
    lines = text.split("\n")
    try:
        text.encode("utf-8")
        return Input(f"line {begin}: " if begin else "", fedmsg.encoding.loads(text) if as_json else {"log": text})
    except UnicodeEncodeError as error:
        number = text.count("\n", 0, error.start)
        shown = _short(lines[number]).encode("utf-8", "surrogateescape")
        problem = f"{shown!r} is not text in this locale's encoding"
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        if isinstance(error, json.JSONDecodeError):  # its own text tells of "line 1", which is not the input's
            number, reason = error.lineno - 1, f"{error.msg} at column {error.colno}"
        begins = f": the document that begins in line {begin}" if begin and len(lines) > 1 else ""
        problem = f"{_short(lines[number])!r}{begins} is not JSON: {reason}"
    return Input(f"line {begin + number}: " if begin else "", problem=problem)


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


if __name__ == "__main__":
    sys.exit(main())
