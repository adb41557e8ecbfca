"""The studies of the outbox: what a put costs, how fast it delivers, and what rows cost that only lie there.

Databases are in memory, where what a disk takes does not hide the rest; on disk the same is measured beside it.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import ClauseElement, func, insert, literal, literal_column, null, select

from gilmsg.outbox import Outbox
from tests.benchmarks.figures import Figure, Outcome, alternate, flat, median, percentile, ratio, timed
from tests.benchmarks.members import publish
from tests.benchmarks.parties import Bus, Child
from tests.benchmarks.scale import Scale
from tests.processes import wait_for

#: File systems: in memory, where there is such a one, and on disk. The goals are for the first.
PLACES = {"": "/dev/shm", " on disk": tempfile.gettempdir()} if os.path.isdir("/dev/shm") else {"": tempfile.gettempdir()}

#: Seconds between two polls of the idle deliverers, and for which these are looked at.
POLL, IDLE = 0.01, 4.0


class Shelf:
    """An outbox, and a second file with the same tables, into which SQLAlchemy Core writes in the same mode."""

    def __init__(self, folder: str) -> None:
        self.box, self._plain = Outbox(f"{folder}/outbox"), Outbox(f"{folder}/plain")
        self._numbers = iter(range(10**9))
        # One that waits for nobody: it is the row that put() makes, but for its id.
        with closing(Outbox(f"{folder}/sample")) as sample:
            put(sample)
            with sample.engine.begin() as connection:
                self._row = dict(connection.execute(select(sample.tables.messages)).mappings().one(), id=None)
        self._look = sqlite3.connect(f"{folder}/outbox", check_same_thread=False, isolation_level=None)

    def insert(self) -> None:
        """Insert the row of a message, and commit."""
        with self._plain.engine.begin() as connection:
            connection.execute(insert(self._plain.tables.messages), {**self._row, "msg_id": str(next(self._numbers))})

    def deliver(self, count: int) -> float:
        """Put *count* messages in one transaction; return the seconds from its commit until all are delivered."""
        with self.box.engine.begin() as connection:
            for _ in range(count):
                put(self.box, connection)
            began = time.perf_counter()
        self._until_none_waits(0.005)
        return time.perf_counter() - began

    def confirm(self) -> None:
        """Put a message, and wait until it is noted that it was delivered."""
        put(self.box)
        self._until_none_waits(0.0002)

    def _until_none_waits(self, pause: float) -> None:
        while self._look.execute("SELECT 1 FROM gilmsg_outbox WHERE state = 'waiting' LIMIT 1").fetchone():
            time.sleep(pause)

    def close(self) -> None:
        self.box.stop()
        self._look.close()
        self.box.close()
        self._plain.close()


def put(box: Outbox, *where: Any, to: str = "tail") -> str:
    return box.put(*where, topic=to, modname="benchmark", msg={"n": 1}, recipients=[to])


@contextmanager
def shelf(place: str) -> Iterator[Shelf]:
    temporary = tempfile.TemporaryDirectory(prefix="gilmsg-benchmarks-", dir=PLACES[place])
    with temporary as folder, closing(Shelf(folder)) as found:
        yield found


def putting(scale: Scale) -> Outcome:
    """A put that commits by itself, against the INSERT and commit of its row; and while a deliverer works."""
    return Outcome([figure for place in PLACES for figure in _putting(scale, place)])


def _putting(scale: Scale, place: str) -> list[Figure]:
    with Bus(["tail"]) as bus, shelf(place) as one:
        bus.tail("tail")

        def joined() -> None:
            with one.box.engine.begin() as connection:
                put(one.box, connection)

        contestants = {
            "insert": lambda: timed(one.insert), "put": lambda: timed(lambda: put(one.box)), "joined": lambda: timed(joined),
        }  # fmt: skip
        alternate(contestants, 3, {})  # warm
        alone = alternate(contestants, scale.rounds, dict.fromkeys(contestants, scale.calls))
        bus.start("tests.benchmarks.deliverer", {"path": f"{one.box.engine.url.database}", "config": bus.config})
        wait_for(lambda: one.box.counts()["delivered"], "a first message was delivered")
        busy = [timed(lambda: put(one.box)) for _ in range(scale.rounds * scale.calls)]
    calm, hard = percentile(flat(alone["put"]), 0.99), percentile(busy, 0.99)
    return [
        Figure(f"put{place}", 1e3 * median(alone["put"]), "ms"),
        Figure(f"put / INSERT and commit{place}", ratio(alone["put"], alone["insert"]), "x", _goal(place, "<= 1.3"), worthy=True),
        Figure(f"put in a transaction / INSERT and commit{place}", ratio(alone["joined"], alone["insert"]), "x"),
        Figure(f"put{place}, p99 while a deliverer works", 1e3 * hard, "ms", worthy=True),
        Figure(f"put{place}, p99 while a deliverer works / p99 alone", hard / calm, "x"),
    ]


def _goal(place: str, goal: str) -> str:
    """Return *goal* where it holds: a disk's own time is nobody's fault."""
    return "" if place else goal


def delivery(scale: Scale) -> Outcome:
    """Waiting rows to one recipient, against the floor's pipelined rate; and one from its commit until it is confirmed."""
    return Outcome([figure for place in PLACES for figure in _delivery(scale, place)])


def _delivery(scale: Scale, place: str) -> list[Figure]:
    count = scale.delivered
    with Bus(["tail"]) as bus, shelf(place) as one:
        bus.tail("tail")
        floor, lane = bus.floor(["signed"]), bus.lane()
        lane.run(one.box.start)

        def published() -> None:
            one.insert()
            publish("tail")

        single = {
            "outbox": lambda: lane.timed(one.confirm),
            "publish": lambda: lane.timed(published),
        }
        alternate(single, 3, {})  # warm
        singles = alternate(single, scale.rounds, dict.fromkeys(single, scale.calls // 2))
        many = {"floor": lambda: floor.pipelined(count), "outbox": lambda: lane.run(lambda: one.deliver(count))}
        lane.run(lambda: one.deliver(count // 10))  # warm
        manies = alternate(many, max(2, scale.rounds // 5), {})
    rate = ratio(manies["floor"], manies["outbox"])
    slower = ratio(singles["outbox"], singles["publish"])
    return [
        Figure(f"outbox{place}, {count} waiting: rate", count / median(manies["outbox"]), "1/s", worthy=True),
        Figure(f"outbox{place}, rate / floor's rate", rate, "x", _goal(place, ">= 0.5"), worthy=True),
        Figure(f"outbox{place}, put to confirmed", 1e3 * median(singles["outbox"]), "ms", worthy=True),
        Figure(f"outbox{place}, put to confirmed / commit, publish", slower, "x", _goal(place, "<= 3"), worthy=True),
    ]


def rows(scale: Scale) -> Outcome:
    """Rows that lie there: a deliverer's memory with many that wait, and a poll with many that were delivered."""
    few, many = (_memory(count, scale.waiting[0]) for count in scale.waiting)
    cost = _polls(scale.stored)
    return Outcome(
        [
            Figure(f"outbox, {scale.waiting[1]} waiting: memory", many / 2.0**20, "MiB"),
            Figure(
                f"outbox, memory with {scale.waiting[1]} waiting / with {scale.waiting[0]}", many / few, "x", "<= 1.1",
                f"after {scale.waiting[0]} attempts each: further ones hold what a late ACK needs",
            ),
            Figure("outbox, a poll: CPU", 1e6 * cost[0], "us"),
            Figure(f"outbox, a poll with {scale.stored} delivered / with none", cost[1] / cost[0], "x", "<= 1.1"),
        ]
    )


def _memory(count: int, attempts: int) -> float:
    """Return the bytes of a deliverer when it has made so many *attempts*, of *count* messages to nobody."""
    with Bus(["nobody"]) as bus, shelf("") as one:
        with one.box.engine.begin() as connection:
            for _ in range(count):
                put(one.box, connection, to="nobody")
        config = {**bus.config, "gilmsg.head_start": 0, "gilmsg.outbox.ack_timeout": 0.2}
        deliverer = bus.start("tests.benchmarks.deliverer", {"path": f"{one.box.engine.url.database}", "config": config})
        table = one.box.tables.messages
        tried = select(func.count()).where(table.c.attempts > 0)

        def enough() -> bool:
            with one.box.transaction(reads=True) as connection:
                return bool(connection.scalar(tried) >= attempts)

        wait_for(enough, f"{attempts} attempts were made")
        return float(deliverer.ask("figures")["memory"])


def _polls(count: int) -> list[float]:
    """Return the CPU's seconds of a poll, of deliverers that have nothing to do: with no rows, and with *count* delivered."""
    with Bus(["one", "two"]) as bus, shelf("") as empty, shelf("") as full:
        _fill(full.box, count)
        config = {**bus.config, "gilmsg.outbox.poll": POLL}
        deliverers: list[Child] = [
            bus.start("tests.benchmarks.deliverer", {"path": f"{one.box.engine.url.database}", "config": {**config, "name": name}})
            for one, name in ((empty, "one"), (full, "two"))
        ]
        time.sleep(1.0)  # their first looks are not what is measured
        spent: list[list[float]] = [[], []]
        for _ in range(3):
            before = [one.ask("figures")["cpu"] for one in deliverers]
            time.sleep(IDLE / 3)
            for one, cpu, found in zip(deliverers, before, spent):
                found.append((one.ask("figures")["cpu"] - cpu) * POLL * 3 / IDLE)
    return [statistics.median(found) for found in spent]


def _fill(box: Outbox, count: int) -> None:
    """Have *count* messages in *box* that were delivered a minute ago, with their recipients and ACKs."""
    put(box)
    messages, recipients, acks = box.tables.messages, box.tables.recipients, box.tables.acks
    numbers = select(literal_column("1").label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < count))
    number, ended = numbers.c.n, time.time() - 60
    values = {
        messages.c.id: number, messages.c.msg_id: func.printf("2026-%d", number), messages.c.attempts: 1, messages.c.ended: ended,
        messages.c.state: "delivered",
    }  # fmt: skip
    with box.engine.begin() as connection:
        row = dict(connection.execute(select(messages)).mappings().one())
        connection.execute(messages.delete())
        connection.execute(recipients.delete())
        row = {column: values.get(column, row[column.name]) for column in messages.c}
        connection.execute(insert(messages).from_select(list(row), select(*map(_literal, row.values())).select_from(numbers)))
        entries = [number, _literal("tail"), _literal(0), _literal(ended), _literal(None), _literal(None)]
        connection.execute(insert(recipients).from_select(list(recipients.c), select(*entries).select_from(numbers)))
        came = [values[messages.c.msg_id], _literal("tail"), _literal(ended)]
        connection.execute(insert(acks).from_select(list(acks.c), select(*came).select_from(numbers)))


def _literal(value: Any) -> Any:
    return value if isinstance(value, ClauseElement) else null() if value is None else literal(value)
