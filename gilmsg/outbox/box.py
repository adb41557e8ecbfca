"""The outbox: where messages are put."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, event

from ..errors import ConfigurationError, ListenerError
from . import putting
from .database import Place
from .delivery import Deliverer
from .putting import Expires, Finisher
from .queue import Queue
from .transactions import joined

#: Stands for the transaction of a put that commits by itself. (None may be a transaction that somebody forgot to begin.)
_ALONE: Any = object()

_NONE = (
    "put() was given None for the transaction (Django: connection.connection is None until a query has connected; put within "
    "transaction.atomic()); to commit by itself leave that argument out"
)

#: In ``Connection.info``: the set of outboxes into which its transaction has put something.
_PUT = "gilmsg outboxes"

#: Seconds between two looks of :meth:`Outbox.run` whether it was stopped.
_LOOK_AGAIN = 0.2

_WHERE = (
    "on the application's engine put() needs the session or connection whose transaction the message is to share: "
    "put(session, ...)"
)


class Outbox(Queue):
    """An outbox: what is committed there is sent until every recipient has proven receipt.

    Safe in any thread, and in a forked child; on SQLite only in one that was forked while no thread of its parent was within
    a transaction. One for each database and process will do.

    Args:
        where: the path of an SQLite file on a local disk, made if it is not there, with mode 0600; the URL of a database,
            ``sqlite:///...`` or ``postgresql+psycopg://...``, with a synchronous driver; or the application's own
            synchronous ``sqlalchemy.Engine``, which is used as it is. On SQLite an own engine writes ahead (WAL), waits 10 s
            for another writer, and what it says is committed is on the disk (``synchronous=FULL``).
        create (bool): make the tables that are missing. False for those whose migrations do that: see
            :func:`gilmsg.outbox.tables`.

    Raises:
        ConfigurationError: no database can be used there: another kind, an async driver, memory; tables are missing
            and *create* is False; or they have the layout of another version of gilmsg.
        sqlalchemy.exc.SQLAlchemyError: the database does not answer, or refuses.
    """

    def __init__(self, where: Place, create: bool = True) -> None:
        super().__init__(where, create)
        self._finisher = Finisher(self.origin)
        self._deliverer: Deliverer | None = None

    def put(
        self,
        where: Any = _ALONE,
        /,
        topic: str | None = None,
        msg: Any = None,
        modname: str | None = None,
        recipients: str | Iterable[str] | None = None,
        expires: Expires = None,
        **config: Any,
    ) -> str:
        """Put a message; it is sent once the transaction *where* has committed, and never if that is rolled back.

        Nothing is sent here: a deliverer does that, and signs. Topic, user name and time are those of this call.

        Args:
            where: the transaction that the message becomes part of: an SQLAlchemy ``Session`` or ``Connection`` (of an
                ``AsyncSession``: ``await session.run_sync(lambda session: box.put(session, ...))``), or a connection of
                sqlite3 or psycopg (Django: ``connection.connection`` within ``transaction.atomic()``). It is neither
                begun, committed nor rolled back. Without it an outbox of its own path or URL commits by itself.
            topic, msg, modname, recipients: as for :func:`gilmsg.publish`; but somebody must be named.
            expires: seconds (a number) after which it fails, or :func:`gilmsg.outbox.attempts`; by default never.
            **config: fedmsg configuration, used if this thread has no context; the ``gilmsg.*`` keys always count.

        Returns:
            str: the ``msg_id``, for :meth:`get` and the log. The message has the same on the wire.

        Raises:
            ConfigurationError: an argument, setting or file is not usable; *where* is of another database, in AUTOCOMMIT
                mode, or missing on an application's engine. Nothing was put.
            SQLAlchemyError, or the error of a raw connection's driver: the database refused. Roll back.
        """
        if where is None or (where is _ALONE and not self.own):
            raise ConfigurationError(_WHERE if where is _ALONE else _NONE)
        row = self._finisher.finish(topic, msg, modname, recipients, expires, config)
        if where is _ALONE:
            with self.brief_transaction() as own:
                putting.write(own, row)
            self._on_commit()
        else:
            found = joined(where, self.tables.messages)
            putting.write(found, row)
            if found.connection is not None:
                self._await_commit(found.connection)
        return str(row["msg_id"])

    def start(self, **config: Any) -> None:
        """Deliver on a thread of its own; returns at once. A forked child has no such thread: start it after the fork.

        At the interpreter's exit it ends as by :meth:`stop`. All deliverers of one outbox need the same settings: one with a
        shorter ``gilmsg.outbox.ack_timeout`` takes leases of another's for too long to be true, and sends again.

        Args:
            **config: fedmsg configuration, used if this thread has no context; the ``gilmsg.*`` keys always count. The
                deliverer signs and sends under the name that holds for this thread, as ``publish`` does.

        Raises:
            ConfigurationError: a setting, key or port is not usable, or it runs already.
            ListenerError: the engine cannot start.
        """
        if self._deliverer is not None and self._deliverer.alive:
            raise ConfigurationError("this outbox delivers already; stop() it first")
        self._deliverer = deliverer = Deliverer(self, config)
        deliverer.start()

    def stop(self) -> None:
        """Deliver no more: what has not left is given back, what has is waited for. Idempotent.

        Returns within ``gilmsg.outbox.ack_timeout`` and 1 s, also if results cannot be written.
        """
        deliverer, self._deliverer = self._deliverer, None
        if deliverer is not None:
            deliverer.stop()

    def run(self, **config: Any) -> None:
        """Deliver until SIGTERM, KeyboardInterrupt or a :meth:`stop` in another thread; takes and raises what :meth:`start` does.

        SIGTERM is heard if this is the main thread and nobody else handles it.

        Raises:
            ListenerError: also if the deliverer ended by itself, by a defect of gilmsg's.
        """
        with _ended_by_sigterm() as ended:
            self.start(**config)
            try:
                while (deliverer := self._deliverer) is not None and deliverer.alive and not ended:
                    time.sleep(_LOOK_AGAIN)
            finally:
                self.stop()
            if deliverer is not None and deliverer.failed is not None:
                raise ListenerError("the deliverer of the outbox has ended by itself") from deliverer.failed

    def _await_commit(self, connection: Connection) -> None:
        boxes = connection.info.setdefault(_PUT, set())
        if self not in boxes:
            boxes.add(self)
            if not event.contains(connection.engine, "commit", _committing):
                event.listen(connection.engine, "commit", _committing)

    def _on_commit(self) -> None:
        """Have the deliverer look: what was put here commits now (by a raw connection that is not seen), or has committed."""
        deliverer = self._deliverer
        if deliverer is not None:
            deliverer.look()


def _committing(connection: Connection) -> None:
    """Tell the outboxes; after a transaction that was rolled back one of them is told of the next, and looks in vain."""
    for box in connection.info.pop(_PUT, ()):
        box._on_commit()


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[list[int]]:
    """Give a list that SIGTERM fills, where this is the main thread and SIGTERM would end the process."""
    ended: list[int] = []
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    try:
        yield ended
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
