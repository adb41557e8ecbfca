"""A throw-away authority, the settings that name its files, and messages signed under it."""

import base64
import pathlib
import time
import types

import fedmsg.encoding
import pytest

from gilmsg import _trust
from gilmsg._trust import signing, verifying
from gilmsg.sandbox import Authority


@pytest.fixture(autouse=True)
def lines_at_once(monkeypatch):
    """Log lines are written at once, though the engine's callback thread may be there."""
    monkeypatch.setattr(_trust, "later", lambda job: job())


@pytest.fixture(autouse=True)
def files_looked_at_on_each_use(monkeypatch):
    """What a file says counts at once, and not after 0.1 s at the latest."""
    monkeypatch.setattr(signing, "LOOK_EVERY", 0.0)


@pytest.fixture
def authority(tmp_path):
    authority = Authority(str(tmp_path / "pki"))
    authority.issue("alice")
    return authority


@pytest.fixture
def other(tmp_path):
    """Another authority, which issued a certificate to alice, too."""
    other = Authority(str(tmp_path / "other"), "another CA")
    other.issue("alice")
    return other


@pytest.fixture
def settings(authority):
    return settings_of(authority)


def settings_of(authority):
    return {"ssldir": authority.folder, "ca_cert_location": authority.ca_file, "crl_location": authority.crl_file}


@pytest.fixture
def verifier(settings):
    return _trust.verifier(settings)


def covered(message):
    """The bytes that the signature of *message* covers."""
    bare = {key: value for key, value in message.items() if key not in ("signature", "certificate")}
    return fedmsg.encoding.dumps(bare).encode("utf-8")


def sign(signer, message=None):
    message = dict(message or {"topic": "org.example.dev.t", "msg": {"n": 1}}, crypto="x509")
    return signer.seal(covered(message)).on(message)


def signed(settings, certname="alice"):
    return sign(_trust.key_pair(settings, certname))


def signer_of(verifier, message):
    return verifier.signer_of(message, covered(message))


def certificate(folder, name):
    """The certificate *name* in *folder* as it comes with a message."""
    return base64.encodebytes(pathlib.Path(folder, name + ".crt").read_bytes()).decode()


@pytest.fixture
def clock(monkeypatch):
    """Sets how many days, or seconds, later than now it is, as far as certificates and files are concerned.

    (The clock is patched: a certificate ends with a whole second, and nobody waits for days. It stands still besides,
    for between two lines of a test seconds may pass.)
    """
    now, ticks = time.time(), time.monotonic()

    def later(days=0, seconds=0):
        shift = days * 86400 + seconds
        moved = types.SimpleNamespace(
            time=lambda: now + shift, monotonic=lambda: ticks + shift, strftime=time.strftime, gmtime=time.gmtime
        )
        for module in (signing, verifying):
            monkeypatch.setattr(module, "time", moved)

    later()
    return later


@pytest.fixture
def said(monkeypatch):
    """The log lines that wait to be written: jobs."""
    jobs = []
    monkeypatch.setattr(_trust, "later", jobs.append)
    return jobs
