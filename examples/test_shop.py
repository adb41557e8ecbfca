"""The shop's tests, on a real bus: ``pytest``. Where gilmsg is installed, pytest knows the fixture gilmsg_bus."""

import contextlib
import time

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

import mailer
import run
import warehouse
import web

#: On the bus of each test stand-ins of that name confirm whatever they get.
pytestmark = pytest.mark.gilmsg_recipients("mailer", "warehouse")

ORDER = {"customer": "Ada", "item": "a teapot"}


@pytest.fixture
def box(gilmsg_bus):
    """An outbox that delivers, with its database, for this test only."""
    return gilmsg_bus.outbox()


@pytest.fixture
def client(box):
    """The web application, whose database that is."""
    return web.create_app(box).test_client()


def until(condition):
    """Wait until *condition()* is true: nobody knows when a message is delivered."""
    deadline = time.monotonic() + run.PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def delivered(client):
    """Order something; return the message about it once all have confirmed it."""
    answer = client.post("/orders", json=ORDER)
    assert answer.status_code == 202
    until(lambda: client.get(answer.json["message"]).json["state"] == "delivered")
    return client.get(answer.json["message"]).json


def test_an_order_is_told_to_both(gilmsg_bus, client):
    assert delivered(client) == {"state": "delivered", "confirmed": ["mailer", "warehouse"], "missing": {}}
    for name in gilmsg_bus.recipients:
        [message] = gilmsg_bus.received[name]
        assert message["topic"] == warehouse.Warehouse.topic == mailer.TOPIC
        assert (message["msg"]["customer"], message["msg"]["item"]) == ("Ada", "a teapot")


def test_no_order_no_message(box, client):
    assert client.post("/orders", json={"customer": "Ada"}).status_code == 400
    with Session(box.engine) as session:
        web.place(box, session, "Ada", "a teapot")
        session.rollback()
    assert not any(box.counts().values())


def test_a_dead_warehouse_is_waited_for(gilmsg_bus, client):
    gilmsg_bus.kill("warehouse")
    message = client.post("/orders", json=ORDER).json["message"]
    until(lambda: client.get(message).json["confirmed"] == ["mailer"])
    assert client.get(message).json["state"] == "waiting"
    assert list(client.get(message).json["missing"]) == ["warehouse"]


def test_what_comes_twice_is_packed_once(gilmsg_bus, client, tmp_path):
    delivered(client)
    [message] = gilmsg_bus.received["warehouse"]
    with contextlib.closing(warehouse.open_inbox(tmp_path / "warehouse.sqlite")) as inbox:
        for _ in range(2):
            warehouse.pack(inbox, message)
        with Session(inbox.engine) as session:
            assert [parcel.item for parcel in session.scalars(select(warehouse.Parcel))] == ["a teapot"]


def test_worker_and_hub_confirm_what_they_did(gilmsg_bus, client, tmp_path):
    """The real services take the places, names, keys and ports of their stand-ins."""
    place = {"LETTERS": tmp_path, "WAREHOUSE_DATABASE": tmp_path / "warehouse.sqlite"}
    with contextlib.ExitStack() as services:
        for name in gilmsg_bus.recipients:
            gilmsg_bus.kill(name)
            services.callback(run.kill, run.start(name, gilmsg_bus.directory, **place))
        assert delivered(client)["confirmed"] == ["mailer", "warehouse"]
    assert (tmp_path / "order-1.txt").read_text() == "Dear Ada, a teapot is on its way to you.\n"
    with contextlib.closing(warehouse.open_inbox(tmp_path / "warehouse.sqlite")) as inbox, Session(inbox.engine) as session:
        assert [parcel.customer for parcel in session.scalars(select(warehouse.Parcel))] == ["Ada"]
