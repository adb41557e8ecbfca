"""The inbox: a recipient's memory of the messages that it has handled, in the database in which it works."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete

from .. import _protocol
from ..errors import BadFrame, ConfigurationError
from .database import Database, Place, require_age
from .schema import storable
from .transactions import joined, tables_required

log = logging.getLogger("gilmsg.outbox")

_DAY = 86400.0

#: Inserts nothing where the database has another origin, or the message is known.
_NEW = """
    INSERT INTO gilmsg_inbox (name, msg_id, digest, at)
    SELECT CAST(:name AS TEXT), CAST(:msg_id AS TEXT), CAST(:digest AS TEXT), NOW()
    FROM gilmsg_outbox_about WHERE key = 'origin' AND value = :origin
    ON CONFLICT DO NOTHING"""

_OTHERS = "SELECT 1 FROM gilmsg_inbox WHERE name = :name AND msg_id = :msg_id AND digest <> :digest"

_HERE = "SELECT 1 FROM gilmsg_outbox_about WHERE key = 'origin' AND value = :origin"

_ELSEWHERE = (
    "the session or connection is not of this inbox's database; give first() one that is, or that database to the inbox"
)


class Inbox(Database):
    """What a recipient has handled, under a name: so a message that comes again is not handled again.

    ::

        with Session.begin() as session:
            if inbox.first(session, message):
                session.add(...)        # commits together with the note that the message was handled

    Args:
        where, create: as for :class:`Outbox`: the database in which the handler works.
        name (str): the handler. Two with different names each handle every message.

    Raises:
        ConfigurationError: as of :class:`Outbox`; or *name* is no text.
    """

    def __init__(self, where: Place, name: str, create: bool = True) -> None:
        if not isinstance(name, str) or not name or "\0" in name:
            raise ConfigurationError(f"an inbox needs a name, some text; it is {name!r}")
        super().__init__(where, create)
        self.name = name

    def first(self, where: Any, message: Mapping[str, Any]) -> bool:
        """Return True once for each message, in the transaction *where*; False if it was handled: then just return.

        While another transaction handles the same message this waits for the end of that: True if that is rolled back.
        (At the isolation level REPEATABLE READ or above PostgreSQL raises an error instead.) Another message that has
        the id of one that was handled is handled too, and logged as a WARNING: senders choose the ids.

        Args:
            where: a ``Session``, a ``Connection``, or a connection of sqlite3 or psycopg, as for :meth:`Outbox.put`.
            message (dict): the message, or the envelope in which a hub hands it over.

        Raises:
            ConfigurationError: *message* is none; *where* is in AUTOCOMMIT mode, or of another database.
        """
        msg_id, digest = _identity(message)
        found = joined(where, self.tables.inbox)
        values = {"name": self.name, "msg_id": msg_id, "digest": digest, "now": time.time(), "origin": self.origin}
        with tables_required(f"{_ELSEWHERE} (there are no tables of an inbox)"):
            new: bool = found.run(_NEW, values).rowcount == 1
        if not new and found.run(_HERE, values).fetchone() is None:
            raise ConfigurationError(_ELSEWHERE)
        if new and found.run(_OTHERS, values).fetchone() is not None:
            log.warning(
                "%s: another message with the id %s was handled before; this one is handled too: its sender, or somebody in "
                "its name, used the id twice", self.name, msg_id,
            )  # fmt: skip
        return new

    def purge(self, days: float) -> int:
        """Forget what was handled more than *days* days ago, under this name; return how many messages that were.

        Keep them longer than any outbox may send one again: a message that was forgotten is handled again.
        """
        require_age(days, "days")
        inbox = self.tables.inbox
        with self.transaction() as connection:
            old = (inbox.c.name == self.name) & (inbox.c.at <= self.now(connection) - days * _DAY)
            return connection.execute(delete(inbox).where(old)).rowcount


def _identity(message: Any) -> tuple[str, str]:
    """Return id and digest of *message*, or of the one in the hub's envelope."""
    inner = message.get("body") if isinstance(message, Mapping) and "msg_id" not in message else message
    msg_id: Any = inner.get("msg_id") if isinstance(inner, Mapping) else None
    if not isinstance(inner, Mapping) or not storable(msg_id):
        raise ConfigurationError(f"first() takes a message, or the hub's envelope of one; it was given {message!r:.80}")
    try:
        return msg_id, _protocol.digest_of(_protocol.canonical(inner))
    except (BadFrame, TypeError, ValueError) as error:
        raise ConfigurationError(f"first() takes a message as it came; this one cannot be encoded: {error}") from error
