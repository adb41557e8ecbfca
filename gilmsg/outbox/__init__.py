"""The outbox: messages that are delivered if, and only if, the caller's transaction commits.

::

    box = gilmsg.outbox.Outbox("/var/lib/app/outbox.sqlite")    # a path, an URL, or the application's SQLAlchemy engine
    with Session.begin() as session:
        session.add(update)
        box.put(session, topic="update.request", msg={...}, recipients=[...])

*What it promises.* What was committed is sent until every named recipient has proven receipt, whatever dies meanwhile:
publisher, deliverer, recipient, machine. What was rolled back is never sent. At least once, not exactly once; oldest
first, but in no promised order.

*How.* ``put`` finishes the message (topic, recipients, time, id) and inserts it into a table, unsigned: a row in the
caller's own transaction. A *deliverer* (``gilmsg-outbox run``, or ``box.start()`` on a thread of a service) finds the row
after the commit, signs it, sends it, and waits for the ACKs as ``publish`` does; whoever confirms is noted, the others are
sent to again. The row keeps the covered bytes of the message, and each attempt sends these: so an ACK of any attempt
proves receipt of this very message. Deliverers share the work by leases, so any number may run, and any may die.

*The recipient* may get a message twice. An :class:`Inbox`, in its own database, tells it: ``first`` is True once for each
message, in the transaction in which the handler works.

*Where.* SQLite, a file of its own on a local disk, or PostgreSQL; or an engine of the application's on one of these. Tables
are made by ``Outbox(...)``, or by the application's migrations (:func:`tables`). On the application's own pysqlite engine
SQLAlchemy's recipe for real transactions ("Serializable isolation / Savepoints / Transactional DDL" in its documentation)
is needed: without it the release of a savepoint may commit, and the message leaves though the rest is rolled back.

Inside: ``database`` (engine, making of tables, clock), ``schema`` (the tables), ``transactions`` (whatever stands for the
caller's), ``putting``, ``queue`` (what operators see), ``inbox``; ``box`` has the :class:`Outbox`. The deliverer's thread
is in ``delivery``; ``rows`` has its statements, and the rows that it has in hand; ``claims`` says whose turn it is, and how many
may be under way to each recipient; ``attempts`` has what leaves, and what came of it until that is stored.
"""

from __future__ import annotations

try:
    import sqlalchemy as sqlalchemy
except ImportError as error:
    raise ImportError("gilmsg.outbox needs SQLAlchemy: pip install 'gilmsg[outbox]'") from error

from .box import Outbox
from .inbox import Inbox
from .putting import attempts
from .queue import OutboxMessage
from .schema import tables

__all__ = ["Inbox", "Outbox", "OutboxMessage", "attempts", "tables"]
