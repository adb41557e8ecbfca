"""Messages for the outbox: checked and finished as ``publish`` does it, and written within a transaction of the caller's."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any, NamedTuple, Union

from .. import _protocol, _settings, _trust
from .._client import context as _context
from .._client import message as _message
from .._client import names as _names
from ..errors import ConfigurationError
from .schema import LONGEST_ENTRY, storable, turn_of
from .transactions import Joined, Values, tables_required

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


class Finisher:
    """Makes messages for the outbox *origin*. The configuration is checked when it is new, not each time."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._count = itertools.count(1)
        #: What fedmsg kept when a configuration was checked last, the keywords then, and what came of both.
        self._checked: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None = None

    def finish(
        self, topic: str | None, msg: Any, modname: str | None, recipients: Any, expires: Expires, config: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the values of the row that these arguments of ``put`` make, for `write`; or raise ConfigurationError."""
        for name, instead in _NOT_HERE.items():
            if name in config:
                raise ConfigurationError(f"put() takes no {name}; {instead}")
        named = None if recipients is None else _settings.recipients(recipients)
        _context.require_keywords(config, ("expires", *_settings.KEYWORDS))
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
        return {
            "msg_id": message["msg_id"], "topic": full, "recipients": entries, "turn": turn_of(entries),
            "body": _message.covered_by_signature(message).decode("utf-8"), "origin": self._origin, **_expiry(expires),
        }  # fmt: skip

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
        if not storable(value):
            raise ConfigurationError(f"a database cannot hold the name or topic {value!r}: it is no valid text")
    for entry in entries:
        if len(entry.encode("utf-8")) > LONGEST_ENTRY:
            raise ConfigurationError(f"the group {entry!r:.80} is too long for an outbox: {LONGEST_ENTRY} bytes at most")


def _expiry(expires: Expires) -> dict[str, Any]:
    """Return the values of *expires*: attempts, and seconds from now."""
    if isinstance(expires, Attempts):
        return {"most_attempts": expires.most, "seconds": None}
    number = isinstance(expires, (int, float)) and not isinstance(expires, bool)
    if expires is not None and not (number and 0 < expires <= threading.TIMEOUT_MAX):
        raise ConfigurationError(
            f"expires must be a positive, finite number of seconds, or gilmsg.outbox.attempts(n); it is {expires!r}"
        )
    return {"most_attempts": None, "seconds": None if expires is None else float(expires)}


#: Inserts nothing where the database has another origin; so no look beforehand is needed.
_MESSAGE = """
    INSERT INTO gilmsg_outbox (msg_id, topic, body, state, turn, created, due, attempts, most_attempts, expires_at)
    SELECT CAST(:msg_id AS TEXT), CAST(:topic AS TEXT), CAST(:body AS TEXT), 'waiting', CAST(:turn AS TEXT), NOW(), NOW(), 0,
        CAST(:most_attempts AS INTEGER), NOW() + CAST(:seconds AS FLOAT)
    FROM gilmsg_outbox_about WHERE key = 'origin' AND value = :origin"""

_RECIPIENT = """
    INSERT INTO gilmsg_outbox_recipients (message, entry, place)
    SELECT id, CAST(:entry AS TEXT), CAST(:place AS INTEGER) FROM gilmsg_outbox WHERE msg_id = :msg_id"""

_ELSEWHERE = (
    "the session or connection is not of this outbox's database; give put() one that is, or that database to the outbox"
)


def write(where: Joined, row: Values) -> None:
    """Insert what `finish` has made in the transaction *where*, or raise ConfigurationError if that is of another database."""
    with tables_required(f"{_ELSEWHERE} (there are no tables of an outbox)"):
        written = where.run(_MESSAGE, {**row, "now": time.time()}).rowcount
    if written != 1:
        raise ConfigurationError(_ELSEWHERE)
    entries: list[Values] = [
        {"msg_id": row["msg_id"], "entry": entry, "place": place} for place, entry in enumerate(row["recipients"])
    ]
    where.run(_RECIPIENT, entries[0] if len(entries) == 1 else entries)  # to execute one as many takes 5 us more
