"""With stock fedmsg's relays, gateway and tail, and with archives."""

import json

import fedmsg.crypto
import pytest

import gilmsg
from gilmsg.sandbox import Sandbox

from .conftest import make_room
from .helpers import lost, publish, subscriber
from .processes import wait_for
from .stock import Stock

PATIENT = {"gilmsg.ack_timeout": 10.0, "gilmsg.head_start": 20.0}


@pytest.mark.slow
def test_through_a_stock_relay_to_gateway_and_tail(bus, config, tmp_path):
    """A signed message and its ACK pass relay, gateway and tail of stock fedmsg, valid for all."""
    port = bus.ports.take()
    gateway_config = dict(
        config, **{"fedmsg.consumers.gateway.port": port, "fedmsg.consumers.gateway.high_water_mark": 0}
    )
    gateway = f"tcp://127.0.0.1:{port}"
    # Behind the gateway, where fedmsg's users outside are: it knows no other endpoint.
    outside = dict(config, endpoints={"gateway": [gateway]}, relay_inbound=None)
    active = dict(config, active=True, name="relay_inbound", **PATIENT)
    with Stock(tmp_path / "gateway", gateway_config, "fedmsg.commands.gateway:gateway") as stock:
        stock.wait_for_port(gateway)
        with Stock(tmp_path / "tail", outside, "fedmsg.commands.tail:tail") as tail:
            def receipt_seen():
                receipt = publish(["alice"], **active)
                ids = (receipt.msg_id, f"'ack_msg_id': '{receipt.msg_id}'")
                return all(text in tail.out() for text in ids)

            # A stock tail does not tell when it has subscribed: until it has, messages pass it by.
            wait_for(receipt_seen, "message and ACK are seen outside", 30)


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
            assert "digest differs" in lost(["erin"], **dict(calm, ack_timeout=2.0)).missing["erin"]
            assert [message["msg"]["gilmsg"]["recipients"] for message in own.received("erin")] == [["erin"]]
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
