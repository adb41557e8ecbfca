"""NACKs on a real bus: who sends one, strangers who ask for them or forge them, and peers of 1.0.0."""

import collections
import os
import shutil
import subprocess
import time
import zlib

import pytest
import zmq

import gilmsg
from gilmsg.sandbox import Sandbox

from .. import inside
from ..conftest import make_known, make_room, own_config
from ..helpers import (
    Forger,
    Hub,
    Tailer,
    ack_body,
    acked,
    announcement,
    bind,
    compose,
    frames,
    heard,
    lost,
    marked,
    publish,
    signed,
    subscriber,
)  # fmt: skip
from ..processes import REPOSITORY, Program, program_words

ACK, NACK = "org.example.dev.gilmsg.ack", "org.example.dev.gilmsg.nack"

#: carol's own setting under which she drops whatever is published on the topic of these tests.
STRICT = {"routing_policy": {"org.example.dev.tests.t": ["somebody else"]}}

PATIENT = {"gilmsg.ack_timeout": 60.0, "gilmsg.head_start": 60.0}

SAYS = "it received the message and dropped it, as its NACK says: "

#: 1.0.0.
COMMIT = "fba97e3"


@pytest.fixture(scope="module")
def field():
    """A bus with alice on it, and room for carol."""
    bus = Sandbox(["alice"])
    make_room(bus, "hostile")
    make_known(bus, "carol", "mallory")
    bus.authority.revoke(bus.authority.issue("old", common_names=["carol"]))
    with bus:
        yield bus


@pytest.fixture
def config(field):
    return own_config(field, **PATIENT)


def as_carol(field, **changes):
    return own_config(field, name="carol", **changes)


def dropped(config, **options):
    """What carol's NACK ends under fail_fast, long before its time; the reason."""
    timeout = lost(["carol"], **{**config, "ack_timeout": 60.0, "fail_fast": True, **options})
    assert 1.0 <= timeout.ack_timeout < 30 and not timeout.acks
    assert timeout.missing["carol"].code == "nacked"
    return timeout.missing["carol"]


@pytest.mark.long
def test_who_drops_a_message_says_why(field, config, tmp_path):
    """For its policy, for a CRL that has ended, for another CA; what is right before and after is confirmed."""
    crl = shutil.copy(field.config["crl_location"], str(tmp_path / "crl.pem"))
    with Tailer(as_carol(field, crl_location=crl, **STRICT), tmp_path):
        assert publish(["carol", "alice"], topic="other", **config)
        assert dropped(config) == SAYS + "its routing policy does not allow it"
        timeout = lost(["carol,alice", "carol"], ack_timeout=3.0, **config)  # without fail_fast it is told at the end
        assert (list(timeout.acks), timeout.ack_timeout) == (["alice"], 3.0)
        assert timeout.missing == {"carol": SAYS + "its routing policy does not allow it"}
        authority, now = field.authority, field.config["crl_location"]
        kept = shutil.copy(now, str(tmp_path / "kept.pem"))
        authority.write_crl(days=-1)
        os.replace(shutil.copy(now, str(tmp_path / "ended.pem")), crl)
        os.replace(kept, now)
        assert dropped(config, topic="other") == SAYS + "its CA or CRL has expired or cannot be used"
    other = inside.authority(tmp_path / "other")
    with Tailer(as_carol(field, ca_cert_location=other.ca_file, crl_location=None), tmp_path):
        assert dropped(config, topic="other") == SAYS + "it takes the signature for invalid"


@pytest.mark.slow
def test_a_hub_says_so_too(field, config, tmp_path):
    """A GilmsgConsumer that drops a message in its validate()."""
    strict = {"routing_policy": {"org.example.dev.tests.raw": ["somebody else"]}}
    with Hub(tmp_path / "hub", as_carol(field, **strict), ["Raw"]):
        assert dropped(config, topic="raw") == SAYS + "its routing policy does not allow it"


def asked(origins, number, to="carol"):
    """So many messages with a bad signature that ask *to* for an ACK to each of *origins*."""
    message = compose("org.example.dev.x", marked({}, [to]), crypto="x509", signature="AAAA", certificate="AAAA")
    for n in range(number):
        yield frames(dict(message, msg_id=f"2026-{n:08d}-0000-4000-8000-{origins[n % len(origins)]}", i=n))


def origin(number):
    digits = f"{number:08x}"
    return f"{digits}{zlib.crc32(digits.encode()) & 0xFFFF:04x}"


@pytest.mark.slow
def test_strangers_get_few_nacks(field, tmp_path):
    """Whoever asks for NACKs must listen for them himself, as what he claims; and gets five a second, one for each name."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as mouth, Tailer(as_carol(field), tmp_path):
        mouth.linger = 0
        bind(mouth, field.config["endpoints"]["hostile"][0])
        heard(mouth, announcement("", "carol"))
        carol = field.config["endpoints"]["carol"][0]
        present, absent = [origin(n) for n in range(30)], [origin(n) for n in range(30, 60)]
        topics = [NACK.encode(), *(announcement(NACK, one) for one in present), *(announcement(ACK, one) for one in absent)]
        with subscriber(carol, topics=topics) as ear:
            for kind in (asked(absent, 300), asked(["0123456789ab"], 300), asked(present, 300, to="alice")):
                for parts in kind:
                    mouth.send_multipart(parts)
                assert not ear.poll(1500)
            begin, got = time.monotonic(), []
            while time.monotonic() < begin + 3.0 or len(got) < 5 and time.monotonic() < begin + 60.0:
                for parts in asked(present, 30):
                    mouth.send_multipart(parts)
                while ear.poll(10):
                    got.append(acked(ear.recv_multipart()))
            while ear.poll(1000):
                got.append(acked(ear.recv_multipart()))
            seconds = time.monotonic() - begin
    counts = collections.Counter(one["ack_msg_id"][-12:] for one in got)
    assert 5 <= len(got) <= 5 * seconds + 5 and set(counts) <= set(present)
    assert max(counts.values()) <= seconds + 1 and {one["reason"] for one in got} == {"signature"}


def nack(config, message, certname="carol", changes=None, topic=NACK, **body):
    return dict(signed(config, certname, ack_body(message, **{"reason": "policy", **body}), topic), **(changes or {}))


#: What somebody sends for a NACK of carol's, given the message that she got; none of it counts.
FORGERIES = [
    lambda config, x: frames(nack(config, x, "mallory")),
    lambda config, x: frames(nack(config, x, "old")),
    lambda config, x: frames(dict(nack(config, x, "mallory"), certificate=nack(config, x)["certificate"])),
    lambda config, x: frames(nack(config, x, changes={"i": 99})),
    lambda config, x: frames(compose(NACK, ack_body(x, reason="policy"))),
    lambda config, x: frames(nack(config, x, ack_digest="0" * 64)),
    lambda config, x: frames(nack(config, x, ack_digest=None)),
    lambda config, x: frames(nack(config, x, reason=None)),
    lambda config, x: frames(nack(config, x, reason=7)),
    lambda config, x: frames(nack(config, x, ack_msg_id="2026-another")),
    lambda config, x: frames(nack(config, x, topic="org.example.stg.gilmsg.nack"), NACK),
    lambda config, x: frames(nack(config, x, topic=ACK + "s"), NACK),
]


def test_a_forged_nack_ends_no_wait(field, config):
    """Whatever somebody makes up, carol's ACK, which comes later, counts: also with fail_fast."""

    def answer(message):
        yield from (forged(config, message) for forged in FORGERIES)
        time.sleep(2.5)
        yield frames(signed(config, "carol", ack_body(message)))

    with Forger(config, "carol", answer):
        receipt = publish(["carol"], fail_fast=True, **config)
    assert receipt.acks["carol"] > 2.5


def test_a_nack_makes_no_success(field, config):
    """Her own NACK does not count as an ACK, on whatever topic it is sent again; it is a diagnosis."""

    def answer(message):
        own = nack(config, message)
        return [frames(own), frames(own, ACK), frames(dict(own, topic=ACK)), frames(dict(own, topic=ACK), NACK)]

    with Forger(config, "carol", answer):
        reason = dropped(config)
    assert reason == SAYS + "its routing policy does not allow it"


def test_a_stranger_who_makes_her_sign_one_ends_no_wait(field, config):
    """He sends her the message again, its signature spoilt; her NACK is real, and so is her ACK, in whatever order."""

    def answer(message):
        both = [frames(nack(config, message)), frames(signed(config, "carol", ack_body(message)))]
        return both[::-1] if message["msg"]["turned"] else both

    with Forger(config, "carol", answer):
        for turned in (True, False):
            assert list(publish(["carol"], msg={"turned": turned}, fail_fast=True, **config).acks) == ["carol"]


def test_nobody_publishes_on_the_topics_of_answers(config):
    """A consumer must not take a message for an answer; with recipients or without."""
    for topic in ("gilmsg.ack", "x.gilmsg.nack"):
        for recipients in (["alice"], []):
            with pytest.raises(gilmsg.ConfigurationError, match="is gilmsg's own, for answers of recipients"):
                publish(recipients, topic=topic, **config)


@pytest.fixture(scope="module")
def former(tmp_path_factory):
    """An environment in which programs import gilmsg 1.0.0."""
    folder = tmp_path_factory.mktemp("1.0.0")
    archive = subprocess.run(["git", "archive", COMMIT, "gilmsg"], cwd=REPOSITORY, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"1.0.0 is not at hand: {archive.stderr.decode('utf-8', 'replace').strip()}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)])}


class Former(Tailer):
    """A process that tails the bus with 1.0.0."""

    def __init__(self, config, folder, env):
        Program.__init__(self, program_words("tailer", config, ""), folder, env)


@pytest.mark.slow
def test_a_recipient_of_1_0_0(field, config, former, tmp_path):
    """It confirms; what it drops it drops in silence, and the deadline ends that, fail_fast or not."""
    with Former(as_carol(field, **STRICT), tmp_path, former):
        assert publish(["carol"], topic="other", fail_fast=True, **config)
        timeout = lost(["carol"], **{**config, "ack_timeout": 2.0, "fail_fast": True})
    assert (timeout.missing["carol"].code, timeout.ack_timeout) == ("silent", 2.0)


@pytest.mark.slow
def test_a_publisher_of_1_0_0(field, config, former, tmp_path):
    """It is answered by ACKs, and by nothing else: a NACK does not leave to who does not hear it."""
    call = {**config, "recipients": ["carol"], "msg": {}, "modname": "tests"}

    def published(**changes):
        with Program(program_words("publish", {**call, **changes}), tmp_path, former) as program:
            return program.end(60), program.out(), program.err()

    with Tailer(as_carol(field, **STRICT), tmp_path), subscriber(config["endpoints"]["carol"][0]) as ear:
        assert published(topic="other")[:2] == (0, "org.example.dev.tests.other carol\n")
        assert ear.poll(5000) and ear.recv_multipart()[0] == ACK.encode()
        status, _, err = published(topic="t", ack_timeout=1.5)
        assert status == 1 and "carol (listening, but silent for 1.5 s" in err
        assert not ear.poll(500)


@pytest.mark.slow
def test_what_a_stranger_signs_reaches_no_publisher_of_1_0_0(field, config, former, tmp_path):
    """A NACK that is sent as an ACK, or changed into one, is none there either."""
    call = {**config, "recipients": ["carol"], "msg": {}, "modname": "tests", "topic": "t", "ack_timeout": 2.0}

    def answer(message):
        own = nack(config, message)
        return [frames(own), frames(own, ACK), frames(dict(own, topic=ACK))]

    with Forger(config, "carol", answer), Program(program_words("publish", call), tmp_path, former) as program:
        assert program.end(60) == 1 and "carol (" in program.err() and "0 of 1 recipients" in program.err()
