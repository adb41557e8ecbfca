"""Revocation and renewal while publisher and recipient run: no restart, no error, never open."""

import functools
import json
import os
import threading

import pytest
import zmq

import gilmsg
from gilmsg.errors import Refused
from gilmsg.sandbox import Sandbox

from .. import inside
from ..conftest import own_config
from ..helpers import ack_body, canonical, signed, told
from ..processes import wait_for


@pytest.fixture
def field():
    """A bus of its own, since its keys change."""
    with Sandbox(["alice"], crl_cache_expiry=60) as bus:
        yield bus


def publish(bus, **options):
    options = {"ack_timeout": 10.0, "gilmsg.head_start": 20.0, **options}
    return gilmsg.publish(topic="t", msg={}, recipients=["alice"], **dict(own_config(bus), **options))


def test_a_recipient_revoked_while_all_run_stops_counting(field):
    """The CRL file is replaced; a moment later alice's ACKs are refused, and she learns of nothing."""
    publish(field)
    field.authority.revoke("alice")
    with pytest.raises(gilmsg.Timeout):
        wait_for(lambda: not publish(field, ack_timeout=1.0), "an ACK that does not count")  # files are looked at every 0.1 s
    told("revoked", functools.partial(publish, field))


def test_a_crl_written_in_place_with_its_old_times_is_noticed(field):
    """A copy that keeps size and time of modification, in the same inode, counts too."""
    publish(field)
    path = field.authority.crl_file
    before = os.stat(path)
    fresh = field.directory + "/fresh"
    field.authority.revoke("alice")
    os.replace(path, fresh)
    with open(fresh, "rb") as stream, open(path, "wb") as target:
        target.write(stream.read())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    inside.look_at_files()
    told("revoked", functools.partial(publish, field))


class Watch:
    """Publishes all the time, and hears with which certificates alice signs."""

    def __init__(self, bus):
        self._bus = bus
        self.good, self.errors, self.certificates = 0, [], []
        self._over = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        self.more()
        return self

    def __exit__(self, *_):
        self._over = True
        self._thread.join()

    def more(self, enough=3):
        """Wait for some more successes."""
        until = self.good + enough
        wait_for(lambda: self.good >= until or self.errors, "publishing goes on")

    def rewrite(self, path, content):
        """Write *content* to the file *path* in two steps; publishing goes on before, between and after them."""
        with open(path, "wb") as stream:
            self.more()
            stream.write(content[:500])
            stream.flush()
            self.more()
            stream.write(content[500:])
        self.more()

    def _run(self):
        context = zmq.Context()
        ear = context.socket(zmq.SUB)
        ear.subscribe(b"")
        for name in ("alice", "publisher"):
            for endpoint in self._bus.config["endpoints"][name]:
                ear.connect(endpoint)
        while not self._over and not self.errors:
            try:
                publish(self._bus)
                self.good += 1
            except Exception as error:  # whatever it is, it must not come  # noqa: BLE001  whatever it is, it is told
                self.errors.append(error)
            while ear.poll(0):
                self.certificates.append(json.loads(ear.recv_multipart()[1])["certificate"])
        context.destroy(linger=0)


@pytest.mark.slow
@pytest.mark.parametrize("order", [("key", "crt"), ("crt", "key")])
def test_renewed_pairs_are_picked_up_while_publishing_goes_on(field, tmp_path, order):
    """Both pairs are replaced, one file after the other, one of them half written for a while."""
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    with Watch(field) as watch:
        for name in ("alice", "publisher"):
            field.authority.issue(name, folder=str(fresh))
            for suffix in order:
                path = f"{field.authority.folder}/{name}.{suffix}"
                watch.rewrite(path, (fresh / (f"{name}.{suffix}")).read_bytes())
            new = signed(field.config, name, {})["certificate"]
            wait_for(lambda new=new: new in watch.certificates, f"{name} signs with the new pair")
    assert not watch.errors


def test_trust_files_written_in_two_steps_cost_no_message(field):
    """While CA or CRL is empty or half written, publishing goes on; revocation then counts."""
    with Watch(field) as watch:
        for path in (field.authority.crl_file, field.authority.ca_file):
            with open(path, "rb") as stream:
                content = stream.read()
            watch.rewrite(path, content)
    assert not watch.errors
    field.authority.revoke("alice")
    inside.look_at_files()
    told("revoked", functools.partial(publish, field))


@pytest.mark.parametrize("setting", ["crl_location", "ca_cert_location"])
def test_a_trust_file_that_stays_broken_is_named(field, monkeypatch, setting):
    """What was read before counts for a while only; then nothing is sent, and the file is named."""
    publish(field)
    with open(field.config[setting], "wb") as stream:
        stream.write(b"-----BEGIN")
    inside.look_at_files()
    publish(field)
    inside.bridge(monkeypatch, 0.0)
    with pytest.raises(gilmsg.ConfigurationError) as raised:
        publish(field)
    assert setting in str(raised.value) and field.config[setting] in str(raised.value)


def test_a_broken_crl_never_counts_past_its_cache_expiry(field):
    """With crl_cache_expiry 0 nothing that was read before counts; at a first read nothing does."""
    settings = dict(field.config, crl_cache_expiry=0)
    verifier = inside.verifier(settings)
    ack = signed(settings, "alice", ack_body({"msg_id": "2026-x", "msg": {}}))
    covered = canonical(ack)
    assert verifier.signer_of(ack, covered) == "alice"
    with open(settings["crl_location"], "wb"):
        pass
    with pytest.raises(Refused, match="crl_location"):
        verifier.signer_of(ack, covered)
    with pytest.raises(gilmsg.ConfigurationError, match="crl_location"):
        inside.verifier(dict(settings, crl_cache_expiry=61))


def test_an_expired_crl_is_named_before_anything_is_sent(field):
    """publish with an expired CRL is a ConfigurationError that names setting and file."""
    publish(field)
    count = len(field.received("alice"))
    field.authority.write_crl(days=-1)
    inside.look_at_files()
    with pytest.raises(gilmsg.ConfigurationError, match="expired") as raised:
        publish(field)
    assert "crl_location" in str(raised.value) and field.authority.crl_file in str(raised.value)
    field.authority.write_crl()
    inside.look_at_files()
    publish(field)
    assert len(field.received("alice")) == count + 1


@pytest.mark.long
def test_a_crl_that_ends_during_the_wait_is_the_reason_of_the_timeout(field):
    """The ACK comes when the CRL has expired: Timeout, which names the file."""
    publish(field)
    field.slow("alice", 600.0)
    count = len(field.received("alice"))
    future = gilmsg.publish_async(
        topic="t", msg={}, recipients=["alice"], ack_timeout=8.0, **own_config(field)
    )
    wait_for(lambda: len(field.received("alice")) > count, "alice has it")
    field.authority.write_crl(days=-1)
    inside.look_at_files()
    field.slow("alice", 0)
    with pytest.raises(gilmsg.Timeout) as raised:
        future.result(20)
    reason = raised.value.missing["alice"]
    assert "expired" in reason and "crl_location" in reason and field.authority.crl_file in reason
