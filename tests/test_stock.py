"""Plain fedmsg peers on a gilmsg bus: they work, they notice nothing, and nothing more is sent.

They are processes in which gilmsg cannot be imported at all. All they are given is the
``load_crl`` that today's pyOpenSSL lacks; without it fedmsg's crypto is off, silently.
"""

import ast
import contextlib
import json
import shutil

import fedmsg
import fedmsg.crypto
import pytest

import gilmsg
from gilmsg.sandbox import Sandbox

from .conftest import make_room
from .helpers import lost, lost_when, publish, sampled, subscriber, until_present, write_config, write_consumers
from .processes import REPOSITORY, Program, script, wait_for

PATIENT = {"gilmsg.ack_timeout": 10.0, "gilmsg.head_start": 20.0}

#: fedmsg's commands that listen to the bus, or stand on the way.
PEERS = ("relay", "gateway", "hub", "tail")


class Stock(Program):
    """The command *function* (``module:name``), run in *folder* under *config* until the end; log in "log"."""

    def __init__(self, folder, config, function):
        write_config(folder, config)
        shutil.copy(str(REPOSITORY / "tests/programs/without_gilmsg.py"), str(folder / "sitecustomize.py"))
        env = {"PYTHONPATH": f"{folder}:{REPOSITORY}", "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
        super().__init__(script(function), folder, env, log=folder / "log")


class Peers:
    """Those of fedmsg's commands that are *names*, started on a sandbox's bus; they end with *stack*."""

    def __init__(self, bus, folder, names, stack):
        self.bus = bus
        self._consumed = folder / "hub" / "consumed"  # see tests/programs/stock_consumer.py
        self.running = {}
        for name in names:
            (folder / name).mkdir()
            if name == "hub":
                write_consumers(folder / name, "tests.programs.stock_consumer", ["Plain"])
            self.running[name] = stack.enter_context(Stock(folder / name, bus.config, f"fedmsg.commands.{name}:{name}"))

    def tailed(self):
        """What fedmsg-tail has written, a `_key` for each message."""
        return [_key(ast.literal_eval(line)) for line in self.running["tail"].lines if line.startswith("{")]

    def consumed(self):
        """The same of the hub's consumer."""
        text = self._consumed.read_text() if self._consumed.exists() else ""
        return [_key(json.loads(line)) for line in text.rpartition("\n")[0].splitlines()]


def _key(message):
    """A message's id; or, of an ACK, the id that it is for."""
    if message["topic"].endswith(".gilmsg.ack"):
        return "ACK for " + message["msg"]["ack_msg_id"]
    return message["msg_id"]


@pytest.fixture
def stock(tmp_path, request):
    """The peers that the test has for its parameter."""
    out = {"class": "logging.StreamHandler", "formatter": "bare", "stream": "ext://sys.stdout"}
    logging = {
        "version": 1, "formatters": {"bare": {"format": "%(message)s"}}, "handlers": {"out": out},
        "root": {"level": "INFO", "handlers": ["out"]},
    }  # fmt: skip
    settings = {"logging": logging, "plain.enabled": True, "fedmsg.consumers.gateway.high_water_mark": 0}
    bus = Sandbox(["alice"], **settings)
    bus.config["fedmsg.consumers.gateway.port"] = bus.ports.take()
    make_room(bus, "relay_outbound")
    with bus, contextlib.ExitStack() as stack:
        yield Peers(bus, tmp_path, request.param, stack)


@pytest.fixture
def gateway(stock):
    """A reader behind the gateway: returns the keys of what it has got so far."""
    with subscriber(f"tcp://127.0.0.1:{stock.bus.config['fedmsg.consumers.gateway.port']}") as reader:
        got = []

        def read():
            while reader.poll(0):
                got.append(_key(json.loads(reader.recv_multipart()[1])))
            return got

        yield read


def plain(function=fedmsg.publish):
    """Publish a plain message; return its id."""
    ids = []
    function(topic="plain", modname="m", msg={}, pre_fire_hook=lambda m: ids.append(m["msg_id"]))
    return ids[0]


def confirmed(**config):
    """Publish a message to alice; return its id."""
    return publish(["alice"], modname="m", **dict(config, ack_timeout=10.0)).msg_id


def everywhere(readers, ids):
    return all(set(ids) <= set(read()) for read in readers)


def connect(readers):
    """Publish until all readers are connected to us and to alice, and have read all so far.

    First a plain signed message passes: the harness, and the crypto in those processes, work.
    """
    sent = []

    def passes(send, kind=""):
        # Any of them: the last one is still on its way.
        sent.append(send())
        return any(everywhere(readers, [kind + one]) for one in sent)

    wait_for(lambda: passes(plain), "a plain signed message reaches all of them", 60)
    until_present("alice")
    wait_for(lambda: passes(confirmed, "ACK for "), "an ACK reaches all of them", 60)
    # Read by all: nothing that was sent before these, by us or by alice, is still on its way.
    last = [sent[-1], "ACK for " + sent[-1]]
    wait_for(lambda: everywhere(readers, last), "they have read what was sent so far")


def exchange():
    """Publish messages of each kind; return what is to be read because of it."""
    ids = []
    for _ in range(5):
        ids += [plain(), confirmed(), plain(gilmsg.publish)]
    # The last on our socket and on alice's: who has read these has read all before them.
    ids.append(confirmed())
    return ids + ["ACK for " + one for one in ids[1::3] + ids[-1:]]


@pytest.mark.slow
@pytest.mark.parametrize("stock", sampled([(PEERS,)], brief=(("relay", "tail"),)), ids="+".join, indirect=True)
def test_stock_peers_notice_nothing(stock, gateway):
    """fedmsg's own tail, hub, relay and gateway get what was published, the ACKs, and nothing more."""
    readings = {"gateway": gateway, "hub": stock.consumed, "tail": stock.tailed}
    readers = [read for name, read in readings.items() if name in stock.running]
    gilmsg.init(**stock.bus.config)
    connect(readers)
    known = [len(read()) for read in readers]
    expected = exchange()
    wait_for(lambda: everywhere(readers, expected), "they have read it")
    for read, start in zip(readers, known):
        assert sorted(read()[start:]) == sorted(expected)
    gilmsg.destroy()
    the_stock_relay_sends_on(stock, readers)
    for peer in stock.running.values():
        assert peer.alive, str(peer)
        for word in ("Traceback", "ERROR", "Failed", "invalid", "Invalid"):
            assert word not in peer.out(), str(peer)


def the_stock_relay_sends_on(stock, readers):
    """A message that goes through the stock relay is confirmed, and read once by each."""
    way = {"active": True, "name": "relay_inbound", "cert_prefix": "shell"}
    sent = []

    def relayed():
        with contextlib.suppress(gilmsg.Timeout):  # until alice, and they, have found the relay it is lost
            sent.append(confirmed(**dict(stock.bus.config, **dict(way, **{"gilmsg.head_start": 30.0}))))
        return [one for one in sent if everywhere(readers, [one, "ACK for " + one])]

    for one in wait_for(relayed, "they have read one"):
        assert all(read().count(one) == 1 for read in readers)


@pytest.mark.slow
def test_a_signing_relay_reaches_nobody_and_publish_says_so(bus, tmp_path):
    """A signed message comes out of fedmsg-signing-relay invalid: a Timeout whose reason names that."""
    with Sandbox(["erin"]) as own:
        make_room(own, "relay_outbound")
        own.config["certnames"]["signing_relay"] = "publisher"
        own.dead("erin")
        own.well("erin")  # it knows the relay from now on
        relay = "fedmsg.commands.relay:signing_relay"
        with Stock(tmp_path / "relay", own.config, relay) as stock:
            stock.wait_for_port(own.config["relay_inbound"])
            stock.wait_for_port(own.config["endpoints"]["relay_outbound"][0])
            active = dict(own.config, active=True, name="relay_inbound")
            calm = dict(active, **{"gilmsg.head_start": 20.0})
            assert "fedmsg-signing-relay" in lost(["erin"], **dict(calm, ack_timeout=0.5)).missing["erin"]
            gilmsg.destroy()
            # Unsigned ones arrive, but not as they left: the relay adds what its signature covers.
            calm["sign_messages"] = False
            altered = lost_when(lambda one: "digest differs" in one.missing["erin"], ["erin"], **calm)
            assert "digest differs" in altered.missing["erin"]
            names = [message["msg"]["gilmsg"]["recipients"] for message in own.received("erin")]
            assert names and all(one == ["erin"] for one in names)
            gilmsg.destroy()


ARCHIVED = ("i", "msg", "msg_id", "timestamp", "topic", "signature", "certificate", "username", "crypto")


def test_messages_from_an_archive_still_validate(bus, config):
    """An archive that keeps only fedmsg's own keys gives back messages and ACKs that validate."""
    with subscriber(*config["endpoints"]["publisher"], *config["endpoints"]["alice"]) as reader:
        sent, archive = set(), []

        def complete():
            sent.add(publish(["alice"], msg={"z": 1, "a": [2.5]}, **dict(config, **PATIENT)).msg_id)
            while reader.poll(200):
                archive.append(json.loads(reader.recv_multipart()[1]))
            acked = {m["msg"].get("ack_msg_id") for m in archive}
            return sent & acked & {m["msg_id"] for m in archive}

        wait_for(complete, "a message and its ACK are archived")
        crypto = {k: config[k] for k in ("ca_cert_location", "crl_location", "crypto_backend", "ssldir")}
        for message in archive:
            # As datagrepper answers: its own keys added, the time a float.
            stored = {key: message[key] for key in ARCHIVED if key in message}
            stored = json.loads(json.dumps(dict(stored, timestamp=float(stored["timestamp"]))))
            answer = dict(stored, source_name="datanommer", source_version="0.6", headers={})
            back = fedmsg.crypto.utils.fix_datagrepper_message(answer)
            assert fedmsg.crypto.validate(back, **crypto)
            assert not fedmsg.crypto.validate(dict(back, msg_id="2026-other"), **crypto)
