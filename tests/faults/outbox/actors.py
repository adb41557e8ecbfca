"""The processes of a run of the outbox: publishers that put, deliverers, recipients with and without an inbox.

``python -m tests.faults.outbox.actors``; the first line on stdin is the task, whose "part" says which of them it is.
"""

import contextlib
import json
import logging
import os
import random
import sqlite3
import sys
import time

import psycopg
from sqlalchemy import Column, MetaData, Table, Text, event, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

import gilmsg
import gilmsg.outbox

from ... import databases
from ...helpers import digest
from ...processes import wait_for
from .. import actors
from ..talker import say
from .history import COMMITTED, OPEN, ROLLED_BACK

#: What a database may answer while somebody harms it.
TROUBLE = (SQLAlchemyError, sqlite3.Error, psycopg.Error)

_metadata = MetaData()

#: How messages end that do not wait for ever: after so many seconds, or attempts.
EXPIRES = (lambda chance: chance.uniform(0.2, 20.0), lambda chance: gilmsg.outbox.attempts(chance.randint(1, 3)))

#: The application's own rows, beside those of the outbox; and those of handlers. Without a constraint, so that the checker
#: sees what is there twice.
WORK = Table("work", _metadata, Column("key", Text))
DONE = Table("done", _metadata, Column("msg_id", Text))


def when_it_answers(make):
    """Return what *make* returns, once the database lets it: who starts meanwhile would be started again."""

    def made():
        try:
            return make()
        except TROUBLE:
            return None

    return wait_for(made, "the database answers", 60.0)


def make_tables(place):
    """Make the application's tables and gilmsg's, where they are not there yet."""
    with databases.engine(place) as engine:
        _metadata.create_all(engine)
        gilmsg.outbox.Outbox(engine)


class Application:
    """The engine of the process, as applications have it."""

    def __init__(self, place):
        self._opened = databases.engine(place, pool_pre_ping=True)  # it lives as long as the process
        self.engine = self._opened.__enter__()
        if self.engine.dialect.name == "sqlite":
            # The process is killed, not the machine.
            event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))


class Publisher(actors.Publisher):
    """Puts messages in transactions of several kinds, which commit, or roll back; logs each before and after."""

    def __init__(self, task):
        super().__init__(task)
        self._application = Application(task["place"]).engine
        self._box = when_it_answers(lambda: gilmsg.outbox.Outbox(task["place"]))
        if task["delivers"]:
            self._box.start(**task["config"])

    def _work(self, number):
        chance = random.Random(f"{self._task['seed']}/{number}")
        while not self._over.is_set():
            if chance.random() < 0.2:
                self._put_alone(self._begun(chance, works=False), chance)
            else:
                self._put_together([self._begun(chance) for _ in range(chance.choice((1, 1, 2, 4)))], chance)
            self._over.wait(chance.uniform(0, 0.3))

    def _reach_everybody(self):
        """Nothing is to be done: what was committed has to arrive without us."""
        self._box.stop()

    def _begun(self, chance, works=True):
        """Choose the recipients of one message, and its end; log that it is about to be put; return its key and these."""
        key, recipients = f"{os.getpid()}/{time.monotonic_ns()}", self._choose(chance)
        expires = chance.choice(EXPIRES)(chance) if chance.random() < 0.2 else None
        self._log.note(key=key, recipients=recipients, works=works, may_fail=expires is not None)
        return key, recipients, expires

    def _drop_one(self, ids, chance):
        """Give up one of these messages (key -> id), now and then, whatever has become of it meanwhile."""
        if ids and chance.random() < 0.1:
            key, msg_id = chance.choice(sorted(ids.items()))
            self._log.note(key=key, may_fail=True)
            with contextlib.suppress(*TROUBLE):
                self._box.drop(msg_id)

    def _put_alone(self, one, chance):
        """Put by the outbox's own transaction: if that fails, nobody knows whether it committed."""
        outcome, msg_id = OPEN, ""
        try:
            msg_id = self._put(one)
            outcome = COMMITTED
        except TROUBLE:
            pass
        self._log.note(key=one[0], outcome=outcome, msg_id=msg_id)
        self._drop_one({one[0]: msg_id} if msg_id else {}, chance)

    def _put_together(self, several, chance):
        """Put in one transaction, with rows of the application's; one of several may be in a savepoint that is undone."""
        undone = several.pop() if len(several) > 1 and chance.random() < 0.3 else None
        kind, commits = chance.choice(("connection", "session", "raw")), chance.random() < 0.7
        ids, outcome = {}, ROLLED_BACK
        try:
            with self._application.connect() as connection:
                if undone:
                    with connection.begin_nested() as savepoint:
                        self._put_beside(connection, kind, undone, ids)
                        savepoint.rollback()
                for one in several:
                    self._put_beside(connection, kind, one, ids)
                if commits:
                    outcome = OPEN
                    connection.commit()
                    outcome = COMMITTED
        except TROUBLE:
            pass
        for one in several:
            self._log.note(key=one[0], outcome=outcome, msg_id=ids.get(one[0], ""))
        if undone:
            self._log.note(key=undone[0], outcome=ROLLED_BACK, msg_id=ids.get(undone[0], ""))
        if outcome == COMMITTED:
            self._drop_one({one[0]: ids[one[0]] for one in several}, chance)

    def _put_beside(self, connection, kind, one, ids):
        connection.execute(insert(WORK).values(key=one[0]))
        if kind == "session":
            connection = Session(connection, join_transaction_mode="control_fully")
        ids[one[0]] = self._put(one, connection.connection.driver_connection if kind == "raw" else connection)

    def _put(self, one, *where):
        key, recipients, expires = one
        return self._box.put(*where, topic="t", msg={"key": key}, recipients=recipients, expires=expires, **self._task["config"])


def deliver(task):
    """Deliver until SIGTERM."""
    box = when_it_answers(lambda: gilmsg.outbox.Outbox(task["place"]))
    say("ready")
    box.run(**task["config"])


class Recipient:
    """What a recipient does with a message that names it: its work, once, if it has an inbox; then a note in its log."""

    def __init__(self, name, log, inbox):
        self._name, self._log = name, actors.Log(log)
        self._engine = Application(inbox).engine if inbox else None
        if inbox:
            self._inbox = when_it_answers(lambda: gilmsg.outbox.Inbox(self._engine, name))

    def handle(self, message):
        """Do it all; what the database raises goes on to whoever calls."""
        if self._engine is not None:
            with self._engine.begin() as connection:
                if self._inbox.first(connection, message):
                    connection.execute(insert(DONE).values(msg_id=message["msg_id"]))
        self._log.note(key=message["msg"]["key"], msg_id=message["msg_id"], digest=digest(message))


def receive(task):
    """Tail the bus, and acknowledge what was handled; what could not be is rejected."""
    name = task["config"]["name"]
    recipient = Recipient(name, task["log"], task["inbox"])
    messages = gilmsg.tail_messages(acknowledge="after", **task["config"])
    say("ready")
    for _, _, _, message in messages:
        if not actors.names_us(message, name) or (task["forgetful"] and message["i"] % 2 == 0):
            continue
        try:
            recipient.handle(message)
        except TROUBLE as error:
            messages.reject(type(error).__name__)
        actors.pause(task["slow"])


def main():
    task = json.loads(sys.stdin.readline())
    logging.basicConfig(filename=task["log"] + ".txt", level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    if task["part"] == "publisher":
        Publisher(task).run()
    else:
        {"deliverer": deliver, "recipient": receive}[task["part"]](task)


if __name__ == "__main__":
    main()
