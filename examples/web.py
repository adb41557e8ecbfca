"""The web application: it takes orders. An order and the message about it are one transaction: both are there, or neither.

Run it by ``flask --app web run``, or by a WSGI server: ``gunicorn 'web:create_app()'``. The environment variable
SHOP_DATABASE is the path of an SQLite file, or a database URL.
"""

import os

import flask
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from gilmsg.outbox import Outbox


class Base(DeclarativeBase):
    """The tables of the shop; those of the outbox are beside them."""


class Order(Base):
    """What a customer wants."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]


def place(box, session, customer, item):
    """Store an order, and put the message about it, in the transaction of *session*; return the ids of both."""
    order = Order(customer=customer, item=item)
    session.add(order)
    session.flush()  # which gives it its id
    message = {"id": order.id, "customer": customer, "item": item}
    return order.id, box.put(session, topic="order.placed", modname="shop", msg=message, recipients=["mailer", "warehouse"])


def create_app(box=None):
    """Return the application; its database is that of the outbox *box*, by default the one of SHOP_DATABASE."""
    box = Outbox(os.environ["SHOP_DATABASE"]) if box is None else box
    Base.metadata.create_all(box.engine)  # where there is more than one table, migrations do that
    app = flask.Flask(__name__)

    @app.post("/orders")
    def take_order():
        asked = flask.request.get_json()
        if not isinstance(asked, dict) or not all(isinstance(asked.get(key), str) for key in ("customer", "item")):
            flask.abort(400, "an order is a JSON object with the texts customer and item")
        with Session(box.engine) as session, session.begin():
            order, msg_id = place(box, session, asked["customer"], asked["item"])
        # 202: it is stored, and will be told. Nobody waits here until it is.
        return {"order": order, "message": flask.url_for("show_message", msg_id=msg_id)}, 202

    @app.get("/messages/<msg_id>")
    def show_message(msg_id):
        message = box.get(msg_id) or flask.abort(404)
        missing = {name: reason.code for name, reason in message.missing.items()}
        return {"state": message.state, "confirmed": sorted(message.acks), "missing": missing}

    return app
