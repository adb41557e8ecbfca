"""Deliver the messages of an outbox, and look after them.

The outbox is the one that --database names, or the environment variable
GILMSG_OUTBOX_DATABASE, or the key gilmsg.outbox.database in fedmsg.d; ps shows options to
everybody, so a URL with a password belongs into one of the others. Only run needs more than
the database: fedmsg.d, key and port of the service that publishes.

Exit status: 0 if all went well (of run: it was told to end), 1 if a message that was named is
not there or in another state, or the database fails, 2 for bad usage or configuration (130
after Ctrl-C).

Examples::

    $ gilmsg-outbox run --database /var/lib/app/outbox.sqlite --name bodhi.app01
    $ gilmsg-outbox list --database /var/lib/app/outbox.sqlite
    $ gilmsg-outbox list --failed --json | jq '.[].missing'
    $ gilmsg-outbox retry --all-failed
    $ gilmsg-outbox purge --older 30
"""

from __future__ import annotations  # noqa: I001  those of the face are sorted, but packed

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Callable

import gilmsg

from . import (
    METRICS_PORT, NOT_PROVEN, SUCCESS, Failed, Format, Parser, add_options, command_parser, complain,
    configuration, log_to_stderr, number, opened_outbox, option, outbox_place, printable, printable_line, running, script,
    serve_metrics, tell,
)  # fmt: skip

if TYPE_CHECKING:
    from gilmsg.outbox import Outbox, OutboxMessage

PROG = "gilmsg-outbox"

DATABASE = "The path of an SQLite file, or a database URL."

RUN = """Deliver what is in the outbox until Ctrl-C or SIGTERM, as the service of that --name: with its port,
certificate and key. Any number of these may run, each on a port of its own."""

#: On top of those of all commands of fedmsg's.
RUN_OPTIONS = [
    option("--database", metavar="PATH_OR_URL", help=DATABASE + " It is made if it is not there."),
    option("--name", dest="name", default=None, help="Publish under this name of endpoints."),
    METRICS_PORT,
]

#: Seconds of a unit, and its name, largest first; an age is told in whole ones.
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))

_DAY = 86400.0


@script(PROG)
def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if given.command == "run":
        return _run(vars(given))
    with opened_outbox(outbox_place(given.database), create=False) as box:
        status: int = given.action(box, given)
    return status


def _parser() -> Parser:
    parser = command_parser(PROG, __doc__, allow_abbrev=False)
    parser.add_argument("--database", metavar="PATH_OR_URL", help=DATABASE)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    usage = f"{PROG} run [OPTION ...]"
    told = "Deliver until Ctrl-C or SIGTERM."
    run = commands.add_parser(
        "run", help=told, description=RUN, usage=usage, formatter_class=Format, allow_abbrev=False
    )
    add_options(run, RUN_OPTIONS)

    def add(name: str, action: Callable[[Outbox, argparse.Namespace], int], told: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, description=told, help=told, allow_abbrev=False)
        one.add_argument("--database", metavar="PATH_OR_URL", default=argparse.SUPPRESS, help=DATABASE)
        one.add_argument("--json", action="store_true", help="Print the answer as JSON.")
        one.set_defaults(action=action)
        return one

    listing = add("list", _list, "Show what waits or is under way, oldest first; with --json one array.")
    listing.add_argument("--failed", action="store_true", help="Show what has failed instead.")
    listing.add_argument("--delivered", action="store_true", help="Show what was delivered instead.")
    add("show", _show, "Show all that is known of a message, and its body.").add_argument("msg_id", metavar="MSG_ID")
    again = add("retry", _retry, "Let failed messages wait again: due at once, attempts counted anew, no expiry.")
    again.add_argument("msg_ids", metavar="MSG_ID", nargs="*")
    again.add_argument("--all-failed", action="store_true", help="All that have failed.")
    dropping = add("drop", _drop, "Give up waiting messages: they count as failed. One under way may still arrive.")
    dropping.add_argument("msg_ids", metavar="MSG_ID", nargs="+")
    purging = add("purge", _purge, "Remove failed messages for good.")
    days = number("number of days", lambda days: days >= 0)
    older = "Only those that failed more than so many days ago. Default: 0, all of them."
    purging.add_argument("--older", metavar="DAYS", type=days, default=0.0, help=older)
    return parser


def _run(given: dict[str, Any]) -> int:
    config = configuration(given)
    del config["command"]
    where = outbox_place(config.pop("database"), config)
    if not config.get("name") and not config.get("active"):
        raise gilmsg.ConfigurationError("there is no name to publish under; give --name, or set name in fedmsg.d")
    log_to_stderr(PROG, logging.INFO)
    serve_metrics(config.pop("metrics_port"))
    with running() as signals:
        with opened_outbox(where, create=True) as box, signals.raised():
            box.run(**config)
        raise Failed("the deliverer ended by itself; what it logged says why")
    return SUCCESS


def _list(box: Outbox, given: argparse.Namespace) -> int:
    found = box.list(*(state for state in ("failed", "delivered") if getattr(given, state)))
    if given.json:
        _tell_array(map(_document, found))
        return SUCCESS
    now, gap = _now(box), ""
    for message in found:
        if not gap:
            tell(_ROW.format("AGE", "ATTEMPTS", "STATE", "MESSAGE", "TOPIC"))
            gap = "\n"
        for line in _lines(message, now):
            tell(printable_line(line))
    tell(gap + ", ".join(f"{state}: {count}" for state, count in box.counts().items()))
    return SUCCESS


#: Age, attempts, state, id and topic.
_ROW = "{:>7}  {:>8}  {:18}  {:41}  {}"


def _lines(message: OutboxMessage, now: float) -> Iterator[str]:
    """Yield a row of the table, and below it who is missing and why, or who has confirmed."""
    yield _ROW.format(_span(now - message.created), message.attempts, _state(message, now), message.msg_id, message.topic)
    if message.reason is not None:
        yield f"{'':9}{message.reason}"
    for name, reason in message.missing.items():
        yield f"{'':9}{name}: {reason}"
    if message.state == "delivered":
        yield f"{'':9}confirmed by {', '.join(message.acks)}"


def _state(message: OutboxMessage, now: float) -> str:
    if message.ended is not None:
        return f"{message.state} {_span(now - message.ended)} ago"
    if message.under_way:
        return "under way"
    wait = (message.next_attempt or now) - now
    return f"next in {_span(wait)}" if wait >= 1.0 else "next now"


def _show(box: Outbox, given: argparse.Namespace) -> int:
    message = box.get(given.msg_id)
    if message is None:
        raise Failed(_absent(given.msg_id))
    if given.json:
        tell(json.dumps(_document(message), indent=2))
        return SUCCESS
    for name, value in _facts(message, _now(box)):
        tell(printable_line(f"{name:12} {value}"))
    body = _decoded(message.body)
    tell("\n" + printable(body if isinstance(body, str) else json.dumps(body, indent=2)))
    return SUCCESS


def _facts(message: OutboxMessage, now: float) -> Iterator[tuple[str, object]]:
    """Yield what is known of *message* but for its body: name and value of a line each."""
    yield "message", message.msg_id
    yield "topic", message.topic
    yield "state", _state(message, now) if message.ended else f"{message.state}, {_state(message, now)}"
    if message.reason is not None:
        yield "reason", message.reason
    yield "put", f"{_date(message.created)} ({_span(now - message.created)} ago)"
    if message.ended is not None:
        yield "ended", _date(message.ended)
    yield "attempts", message.attempts
    if message.next_attempt is not None:
        yield "next attempt", _date(message.next_attempt)
    if message.most_attempts is not None:
        yield "expires", f"after {message.most_attempts} attempts"
    if message.expires_at is not None:
        yield "expires", _date(message.expires_at)
    yield "recipients", " ".join(message.recipients)
    for name, when in message.acks.items():
        yield "confirmed", f"{name} {_date(when)}"
    for name, reason in message.missing.items():
        yield "missing", f"{name}: {reason}"


def _retry(box: Outbox, given: argparse.Namespace) -> int:
    if given.all_failed == bool(given.msg_ids):
        raise gilmsg.ConfigurationError(f"retry takes either ids of messages or --all-failed (see {PROG} retry --help)")
    ids = [message.msg_id for message in box.list("failed")] if given.all_failed else given.msg_ids
    return _tell_changed(box, given, box.retry(ids), "waits again")


def _drop(box: Outbox, given: argparse.Namespace) -> int:
    return _tell_changed(box, given, box.drop(given.msg_ids), "is given up")


def _tell_changed(box: Outbox, given: argparse.Namespace, changed: Sequence[str], told: str) -> int:
    """Tell which messages were *changed*, and why others that were named are not."""
    if given.json:
        tell(json.dumps(changed))
    else:
        for msg_id in changed:
            tell(f"{msg_id} {told}")
    others = [msg_id for msg_id in dict.fromkeys(given.msg_ids) if msg_id not in set(changed)]
    for msg_id in others:
        found = box.get(msg_id)
        complain(PROG, _absent(msg_id) if found is None else f"{msg_id} is unchanged: its state is {found.state!r}")
    return NOT_PROVEN if others else SUCCESS


def _absent(msg_id: str) -> str:
    return f"there is no message {msg_id!r} in this outbox"


def _purge(box: Outbox, given: argparse.Namespace) -> int:
    removed = box.purge(older=given.older * _DAY)
    tell(json.dumps({"removed": removed}) if given.json else f"{removed} failed messages are removed")
    return SUCCESS


def _now(box: Outbox) -> float:
    """Return the time by the clock by which the times of messages are."""
    with box.transaction(reads=True) as connection:
        return box.now(connection)


def _document(message: OutboxMessage) -> dict[str, Any]:
    """Return *message* as plain data; the body, if it was read, is decoded."""
    missing = {name: reason.as_dict() for name, reason in message.missing.items()}
    document = {**message._asdict(), "missing": missing, "body": _decoded(message.body)}
    if message.body is None:
        del document["body"]
    return document


def _decoded(body: Any) -> Any:
    """Return what the JSON in *body* says; of a row that somebody has damaged the text as it is."""
    try:
        return None if body is None else json.loads(body)
    except ValueError:
        return body if isinstance(body, str) else repr(body)


def _tell_array(items: Iterable[Any]) -> None:
    """Print *items* as one JSON array, each in a line as it comes."""
    before = ""
    for item in items:
        tell((before or "[") + json.dumps(item))
        before = ","
    tell("]" if before else "[]")


def _span(seconds: float) -> str:
    """Return *seconds* in whole units of the largest that fits."""
    size, unit = next((one for one in _UNITS if seconds >= one[0]), _UNITS[-1])
    return f"{max(0, int(seconds // size))} {unit}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


if __name__ == "__main__":
    sys.exit(main())
