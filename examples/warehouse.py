"""The warehouse: a consumer in fedmsg-hub that packs each order once, however often its message comes.

Run it by ``fedmsg-hub --with-consumers warehouse:Warehouse``, as the service that ``name`` in fedmsg.d says. The
environment variable WAREHOUSE_DATABASE is the path of an SQLite file, or a database URL.
"""

import os

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import gilmsg
from gilmsg.outbox import Inbox


class Base(DeclarativeBase):
    """The tables of the warehouse; those of the inbox are beside them."""


class Parcel(Base):
    """What is packed for a customer."""

    __tablename__ = "parcels"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]


def pack(inbox, message):
    """Pack what *message* is about, unless that was done before: the parcel and the note of it are one transaction."""
    with Session(inbox.engine) as session, session.begin():
        if inbox.first(session, message):
            order = message["msg"]
            session.add(Parcel(customer=order["customer"], item=order["item"]))


def open_inbox(where):
    """Return the inbox in the database *where*, its tables and ours made."""
    inbox = Inbox(where, "packing")
    Base.metadata.create_all(inbox.engine)
    return inbox


class Warehouse(gilmsg.GilmsgConsumer):
    """The hub hands it each order; when ``consume`` returns, the order is acknowledged. An exception is a NACK."""

    topic = "org.example.dev.shop.order.placed"
    acknowledge = "after"

    def __init__(self, hub):
        self._inbox = open_inbox(os.environ["WAREHOUSE_DATABASE"])
        super().__init__(hub)

    def consume(self, message):
        """Take the hub's envelope, in whose body the message is."""
        pack(self._inbox, message["body"])
