"""Messages for the outbox: checked and finished as ``publish`` does it, and written within a transaction of the caller's."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Union

from sqlalchemy import Float, Integer, Text, bindparam, cast, extract, func, insert, select
from sqlalchemy.engine import Dialect

from .. import _protocol, _settings, _trust
from .._client import context as _context
from .._client import message as _message
from .._client import names as _names
from ..errors import ConfigurationError
from .schema import WAITING, Tables, turn_of
from .transactions import Joined, Statement, lacks_table

#: Arguments of publish that mean nothing where nobody waits, and what to do instead.
_NOT_HERE = {
    "pre_fire_hook": "the deliverer sends the message, maybe several times: change msg before it is put",
    "ack_timeout": "nobody waits here: gilmsg.outbox.ack_timeout sets how long the deliverer waits for each attempt",
    "fail_fast": "nobody waits here: the deliverer sends until all have confirmed",
}

#: A column of SQL has this many attempts at most.
_MOST = 2**31 - 1


class Attempts(NamedTuple):
    """So many attempts; made by :func:`attempts`."""

    most: int


def attempts(count: int) -> Attempts:
    """Return what ``expires`` of :meth:`Outbox.put` takes for: at most *count* sendings (a positive whole number).

    Raises:
        ConfigurationError: *count* is something else.
    """
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= _MOST:
        raise ConfigurationError(f"attempts() takes a positive whole number; it was given {count!r}")
    return Attempts(count)


#: Seconds, or attempts, after which a message fails; None: never.
Expires = Union[float, Attempts, None]


class Finished(NamedTuple):
    """A message as it is stored: its id, full topic, recipients, and its covered bytes as text."""

    msg_id: str
    topic: str
    recipients: tuple[str, ...]
    body: str


class Finisher:
    """Makes messages for the outbox *origin*. The configuration is checked when it is new, not each time."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._count = itertools.count(1)
        #: What fedmsg kept when a configuration was checked last, the keywords then, and what came of both.
        self._checked: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None = None

    def finish(
        self, topic: str | None, msg: Any, modname: str | None, recipients: Any, config: dict[str, Any]
    ) -> Finished:
        """Return the finished message of these arguments of ``put``, or raise ConfigurationError."""
        for name, instead in _NOT_HERE.items():
            if name in config:
                raise ConfigurationError(f"put() takes no {name}; {instead}")
        named = None if recipients is None else _settings.recipients(recipients)
        misspelt = {**_settings.misspelt(tuple(config), ("expires",)), **_settings.misspelt(tuple(config))}
        if misspelt:
            _context.require_keywords(misspelt, config)
        whole = self._whole(config)
        table = _settings.settings(whole, None, config).table
        full = _protocol.full_topic(topic, modname or _names.calling_module(), whole)
        entries = _settings.recipients_for(full, table) if named is None else named
        _require_storable(full, entries)
        _trust.require_x509(whole)
        body = _protocol.marked({} if msg is None else msg, entries)
        message = _message.composed(full, body, next(self._count), self._origin)
        if whole.get("sign_messages", False):
            message["crypto"] = "x509"  # the signature covers it
        return Finished(message["msg_id"], full, entries, _message.covered_by_signature(message).decode("utf-8"))

    def _whole(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration that holds: that of the thread's context, else the process's with *config* over it."""
        context = _context.current()
        if context is not None:
            return context.c  # type: ignore[no-any-return]
        kept = _settings.kept()
        if self._checked is not None and self._checked[0] is kept and self._checked[1] == config:
            # What fedmsg keeps may have been added to; what it does not keep would be read from the files each time.
            return {**kept, **config} if kept else self._checked[2]
        whole = {**_settings.current(config), **config}
        _settings.require(whole)
        self._checked = _settings.kept(), dict(config), whole
        return whole


def _require_storable(topic: str, entries: tuple[str, ...]) -> None:
    if not entries:
        raise ConfigurationError(
            f"the message on {topic} names nobody, so nobody could confirm it; name recipients, in the call or in "
            f"{_settings.RECIPIENTS}, or use publish"
        )
    for value in (topic, *entries):
        if "\0" in value or not value.isascii() and value != value.encode("utf-8", "replace").decode("utf-8"):
            raise ConfigurationError(f"a database cannot hold the name or topic {value!r}: it is no valid text")


def expiry(expires: Expires) -> dict[str, Any]:
    """Return the values of *expires* for the row: attempts, and seconds from now."""
    if isinstance(expires, Attempts):
        return {"most_attempts": expires.most, "seconds": None}
    number = isinstance(expires, (int, float)) and not isinstance(expires, bool)
    if expires is not None and not (number and 0 < expires <= threading.TIMEOUT_MAX):
        raise ConfigurationError(
            f"expires must be a positive, finite number of seconds, or gilmsg.outbox.attempts(n); it is {expires!r}"
        )
    return {"most_attempts": None, "seconds": None if expires is None else float(expires)}


class Inserts(NamedTuple):
    """The two statements that put a message."""

    message: Statement
    recipient: Statement


def inserts(tables: Tables, dialect: Dialect) -> Inserts:
    """Compile them. The first inserts nothing where the database has another origin; so no look beforehand is needed."""
    about, messages, recipients = tables.about, tables.messages, tables.recipients
    text = functools.partial(bindparam, type_=Text)
    clock = functools.partial(bindparam, "now", type_=Float)()
    now: Any = cast(extract("epoch", func.statement_timestamp()), Float) if dialect.name == "postgresql" else clock
    columns: dict[str, Any] = {
        "msg_id": text("msg_id"), "topic": text("topic"), "body": text("body"), "state": text("state"), "turn": text("turn"),
        "created": now, "due": now, "attempts": bindparam("attempts", type_=Integer),
        "most_attempts": bindparam("most_attempts", type_=Integer), "expires_at": now + bindparam("seconds", type_=Float),
    }  # fmt: skip
    here = (about.c.key == text("key")) & (about.c.value == text("origin"))
    message = insert(messages).from_select(list(columns), select(*columns.values()).select_from(about).where(here))
    entry = select(messages.c.id, text("entry"), bindparam("place", type_=Integer)).where(messages.c.msg_id == text("msg_id"))
    recipient = insert(recipients).from_select(["message", "entry", "place"], entry)
    return Inserts(Statement.of(message, dialect), Statement.of(recipient, dialect))


def write(where: Joined, statements: Inserts, message: Finished, expires: Mapping[str, Any], origin: str) -> None:
    """Insert *message* in the transaction *where*, or raise ConfigurationError if that is of another database."""
    values = {
        "msg_id": message.msg_id, "topic": message.topic, "body": message.body, "state": WAITING, "attempts": 0,
        "turn": turn_of(message.recipients), "now": time.time(), "key": "origin", "origin": origin, **expires,
    }  # fmt: skip
    entries = [
        {"msg_id": message.msg_id, "entry": entry, "place": place} for place, entry in enumerate(message.recipients)
    ]
    told = "the session or connection is not of this outbox's database; give put() one that is, or that database to the outbox"
    try:
        written = where.run(statements.message, values)
    except Exception as error:
        if not lacks_table(error):
            raise
        raise ConfigurationError(f"{told} (there are no tables of an outbox)") from error
    if written.rowcount != 1:
        raise ConfigurationError(told)
    where.run(statements.recipient, entries[0] if len(entries) == 1 else entries)
