"""The tables of an outbox and of inboxes. Times are seconds since the epoch, by the clock that `database` takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

#: The number of this layout, kept in the table ``gilmsg_outbox_about``; another one is refused.
VERSION = 1

#: The states of a message. One that waits may be leased, that is under way.
WAITING, DELIVERED, FAILED = "waiting", "delivered", "failed"

#: Columns that an operator might set by hand, to a date in words for example.
_NUMBERS = ("created", "due", "attempts", "leased_until", "most_attempts", "expires_at", "ended")

#: Between the entries in a turn.
_BETWEEN = "\n"

#: Characters of a turn, bytes of an entry: PostgreSQL's indexes take no long texts. Longer turns are cut to the names that fit.
_LONGEST_TURN, LONGEST_ENTRY = 500, 2000


class Tables(NamedTuple):
    """The tables, as they stand in one MetaData."""

    about: Table
    messages: Table
    recipients: Table
    acks: Table
    inbox: Table


def tables(metadata: MetaData) -> Tables:
    """Put the tables of outbox and inbox into *metadata*, the application's, and return them.

    With this the application's own migrations know them (``alembic --autogenerate`` would drop them).

    Raises:
        ConfigurationError: *metadata* has a schema: an outbox finds its tables in the connection's own.
    """
    if metadata.schema is not None:
        raise ConfigurationError(
            f"the MetaData has the schema {metadata.schema!r}, and an outbox finds its tables in the schema of the connection; "
            "put them into a MetaData without one"
        )
    key = BigInteger().with_variant(Integer, "sqlite")  # there only INTEGER numbers itself
    about = Table("gilmsg_outbox_about", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))
    messages = _messages(metadata, key)
    recipients = Table(
        "gilmsg_outbox_recipients", metadata,
        Column("message", key, ForeignKey("gilmsg_outbox.id", ondelete="CASCADE"), nullable=False),
        # A common name, or a group, as in the marker; and its place there.
        Column("entry", Text, nullable=False), Column("place", Integer, nullable=False),
        # When it was met; until then, code and sentence of what was seen last.
        Column("met", Float), Column("code", Text), Column("reason", Text),
        PrimaryKeyConstraint("message", "entry"),
    )  # fmt: skip
    # Whom a recipient that appears concerns; and who is waited for at all.
    _index("gilmsg_outbox_unmet", "met IS NULL", recipients.c.entry, recipients.c.message)
    acks = Table(
        "gilmsg_outbox_acks", metadata,
        Column("msg_id", Text, nullable=False), Column("signer", Text, nullable=False), Column("at", Float, nullable=False),
        PrimaryKeyConstraint("msg_id", "signer"),
    )  # fmt: skip
    inbox = Table(
        "gilmsg_inbox", metadata,
        Column("name", Text, nullable=False), Column("msg_id", Text, nullable=False), Column("digest", Text, nullable=False),
        Column("at", Float, nullable=False),
        PrimaryKeyConstraint("name", "msg_id", "digest"),
    )  # fmt: skip
    return Tables(about, messages, recipients, acks, inbox)


def storable(value: object) -> bool:
    """Return whether *value* is text that both databases can hold: no NUL, and no half of a surrogate pair."""
    return isinstance(value, str) and "\0" not in value and value == value.encode("utf-8", "replace").decode("utf-8")


def turn_of(entries: Iterable[str]) -> str:
    """Return what messages of which just *entries* have not confirmed take turns by: one of these may hold up only its own."""
    first, *others = sorted(entries)
    for entry in others:
        if len(first) + len(entry) >= _LONGEST_TURN:
            break
        first += _BETWEEN + entry
    return first


def in_turn(turn: str) -> list[str]:
    """Return the entries in *turn*; nearly always all that its messages wait for."""
    return turn.split(_BETWEEN)


def _messages(metadata: MetaData, key: TypeEngine[int]) -> Table:
    messages = Table(
        "gilmsg_outbox", metadata,
        Column("id", key, primary_key=True),
        Column("msg_id", Text, nullable=False),
        Column("topic", Text, nullable=False),
        # The covered bytes of the message, as text: finished, marked, unsigned. Never changed.
        Column("body", Text, nullable=False),
        Column("state", Text, nullable=False),
        # Which of its recipients had not confirmed when its last attempt ended, see `turn_of`: claims take turns among these sets.
        Column("turn", Text, nullable=False),
        Column("created", Float, nullable=False),
        Column("due", Float, nullable=False),
        Column("attempts", Integer, nullable=False, server_default="0"),
        # Whose attempt is under way, and until when that is believed.
        Column("lease", Text), Column("leased_until", Float),
        # When it fails: after so many attempts, or at this time.
        Column("most_attempts", Integer), Column("expires_at", Float),
        # When and why it ended.
        Column("ended", Float), Column("reason", Text),
        UniqueConstraint("msg_id", name="gilmsg_outbox_msg_id"),  # by this name, whatever *metadata* would call it
        # SQLite takes text for any column, and for greater than any number: one row with such a due would stop all.
        CheckConstraint(" AND ".join(f"{one} < 1e15" for one in _NUMBERS), name="gilmsg_outbox_numbers"),
    )  # fmt: skip
    _index("gilmsg_outbox_due", "state = 'waiting'", messages.c.turn, messages.c.due)
    _index("gilmsg_outbox_expires", "state = 'waiting' AND expires_at IS NOT NULL", messages.c.expires_at)
    # Of those only that have ended: SQLite would look by it for what waits, too, and read all of that.
    _index("gilmsg_outbox_ended", "ended IS NOT NULL", messages.c.state, messages.c.ended)
    return messages


def _index(name: str, condition: str, *columns: Column[Any]) -> None:
    """Have an index of the rows that meet *condition*; statements that are to use it have that word for word."""
    Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))
