"""gilmsg-pki: what it makes is what fedmsg and gilmsg sign and check with; nothing is overwritten, lost or half done."""

import functools
import os
import re
import shutil
import stat
import subprocess
import sys
import types
import warnings

import fedmsg.crypto
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

import gilmsg
from gilmsg.commands import pki

from . import inside, processes
from .helpers import Tailer, publish, told
from .processes import wait_for


@pytest.fixture
def run(capsys):
    """Runs gilmsg-pki with arguments in this process; returns what it tells on stdout, or, where it fails, on stderr."""

    def run(*words, status=0):
        with warnings.catch_warnings():
            assert pki.main(list(map(str, words))) == status, capsys.readouterr()
        out, err = capsys.readouterr()
        assert (err == "") is (status == 0) and (status == 0 or (out == "" and err.count("\n") == 1 and err.startswith("gilmsg-pki: ")))
        return out or err

    return run


@pytest.fixture
def complaints(capsys):
    """Runs gilmsg-pki with arguments, which succeeds; returns the lines that it complains of on stderr."""

    def run(*words):
        assert pki.main(list(map(str, words))) == 0
        return capsys.readouterr().err.splitlines()

    return run


@pytest.fixture
def ca(run, tmp_path):
    """A CA, with small keys."""
    run("init", tmp_path / "ca", "--bits", "2048")
    return tmp_path / "ca"


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def crl(ca):
    return x509.load_pem_x509_crl((ca / "crl.pem").read_bytes())


def content(folder):
    """Every file in *folder*, with its mode."""
    return {path: (path.stat().st_mode, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_fedmsg_signs_and_validates_with_it(run, ca):
    """fedmsg's own crypto finds the files by ssldir and certname; of a revoked certificate it accepts nothing."""
    run("issue", ca, "shop-app01.example.com")
    files = {"ssldir": str(ca), "ca_cert_location": str(ca / "ca.crt"), "crl_location": str(ca / "crl.pem")}
    message = fedmsg.crypto.sign({"topic": "t", "msg": {}}, certname="shop-app01.example.com", **files)
    assert fedmsg.crypto.validate_signed_by(message, "shop-app01.example.com", **files)
    run("revoke", ca, "shop-app01.example.com")
    fedmsg.crypto.utils._cached_certificates.clear()  # it reads a CRL once
    assert not fedmsg.crypto.validate(message, **files)


@pytest.mark.slow
def test_a_bus_lives_through_all_that_happens_to_its_keys(run, ca, tmp_path):
    """While all run: confirmed; refused once revoked; confirmed with a new pair, certificate, key and CA; not without a CRL."""
    run("issue", ca, "us", "backend")
    authority = types.SimpleNamespace(folder=str(ca), ca_file=str(ca / "ca.crt"), crl_file=str(ca / "crl.pem"))
    ports = inside.free_ports()
    endpoints = {name: [ports.endpoint()] for name in ("us", "backend")}
    config = {**inside.signed_bus(authority, endpoints, {"us": "us", "backend": "backend"}), "gilmsg.head_start": 20.0}
    send = functools.partial(publish, ["backend"], **{**config, "name": "us"})

    def confirmed(seconds=5.0):
        try:
            return send(ack_timeout=seconds)
        except gilmsg.Timeout:
            return None

    with Tailer({**config, "name": "backend"}, tmp_path):
        assert confirmed()
        run("revoke", ca, "backend")
        wait_for(lambda: not confirmed(1.0), "an ACK that does not count")  # files are looked at every 0.1 s
        told("its certificate is revoked", send)
        for words in (["issue", ca, "backend"], ["renew", ca, "backend", "us"], ["renew", ca, "--new-key", "us"], ["renew", ca, "--ca"]):
            run(*words)
            wait_for(confirmed, f"a message is confirmed after {words}")
        run("renew", ca, "--crl", "--days", "0.00001")
        with pytest.raises(gilmsg.ConfigurationError, match="the CRL .*crl.pem .* expired on"):
            wait_for(lambda: confirmed() and False, "the CRL has ended")
    ports.close()


def test_who_may_read_what(run, tmp_path):
    """Whatever the umask, keys are their owner's alone, and so is the folder; an empty one that is there is closed as well."""
    (tmp_path / "ca").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        run("init", tmp_path / "ca", "--bits", "2048")
        run("issue", tmp_path / "ca", "backend")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "ca", *(tmp_path / "ca").iterdir()]}
    secret = {"ca": 0o700, "issued": 0o700, "ca.key": 0o600, "backend.key": 0o600}
    assert modes == {**secret, "ca.crt": 0o644, "crl.pem": 0o644, "backend.crt": 0o644}


def test_days_and_bits(run, tmp_path):
    """Certificates end, and keys are as large, as was asked for, all of RSA; a CRL that is written anew is due as ever."""
    ca = tmp_path / "ca"
    run("init", ca, "--days", "1000", "--crl-days", "7", "--bits", "3072", "--name", "Our CA")
    run("issue", ca, "a", "--days", "10", "b")
    run("issue", ca, "c", "--bits", "4096", "--days", "999.9")
    run("revoke", ca, "b")
    for name, days, bits in (("ca", 1000, 3072), ("a", 10, 2048), ("c", 999.9, 4096)):
        one = certificate(ca / f"{name}.crt")
        span = (one.not_valid_after_utc - one.not_valid_before_utc).total_seconds() / 86400
        assert span == pytest.approx(days + 1, abs=0.01) and one.public_key().key_size == bits  # it is dated back a day
        assert one.issuer.rfc4514_string() == "CN=Our CA" and one.serial_number != certificate(ca / "ca.crt").serial_number or name == "ca"
        key = serialization.load_pem_private_key((ca / f"{name}.key").read_bytes(), None)
        assert key.public_key() == one.public_key()
    assert (crl(ca).next_update_utc - crl(ca).last_update_utc).total_seconds() / 86400 == pytest.approx(8, abs=0.01)


def test_it_says_what_to_copy_where(run, tmp_path):
    """Each command names the files that belong elsewhere, with mode, owner and the setting; a CA's key is never one of them."""
    ca = tmp_path / "ca"
    made, issued = run("init", ca, "--bits", "2048"), run("issue", ca, "a", "b")
    renewed, rekeyed = run("renew", ca, "a"), run("renew", ca, "--new-key", "a")
    revoked, listed = run("revoke", ca, "b"), run("list", ca)
    for text in (made, revoked, run("renew", ca, "--crl")):
        assert f"{ca}/crl.pem  mode 0644, owner: root; crl_location: /etc/pki/fedmsg/crl.pem" in text
    for text in (made, run("renew", ca, "--ca")):
        assert f"{ca}/ca.crt   mode 0644, owner: root; ca_cert_location: /etc/pki/fedmsg/ca.crt" in text
    assert f"{ca}/b.key  mode 0400, owner: the user as whom" in issued and f"{ca}/b.crt  mode 0644" in issued
    assert "a.key" in rekeyed and "a.key" not in renewed and f"{ca}/a.crt" in renewed
    assert "ca.key" not in made + issued + renewed + rekeyed + revoked + listed


def test_list(run, ca):
    """It shows the name, end, state and serial number of each certificate, former ones too."""
    assert len(run("list", ca).splitlines()) == 1
    run("issue", ca, "a", "backend.example.com")
    run("renew", ca, "a")
    run("revoke", ca, "backend.example.com")
    run("issue", ca, "z", "--days", "0.0000001")
    [first, empty, head, *rows] = run("list", ca).splitlines()
    assert re.match(r"the CA ends .* UTC, its CRL .* UTC$", first) and empty == "" and head.split() == ["NAME", "ENDS", "STATE", "SERIAL"]
    states = [re.sub(r"\d{4}-\S+", "DATE", re.split("  +", row)[2]) for row in rows]
    assert states == ["valid, former", "valid", "revoked DATE", "ended"] and [row.split()[0] for row in rows] == ["a", "a", "backend.example.com", "z"]
    assert f"{certificate(ca / 'a.crt').serial_number:x}" in rows[1]


#: What changes nothing, after "a" was issued and "gone" was revoked: the words, with CA for the folder; the status; what is told.
REFUSED = [
    ("init CA", 1, "is not empty: it has the key of a CA"),
    ("init CA/issued", 1, "is not empty, and nothing is overwritten; give another folder"),
    ("issue CA a", 1, "a.key is there already, and nothing is overwritten"),
    ("issue CA new a", 1, "a.key is there already"),
    ("issue CA new --days 3651", 1, "a certificate for 3651 days would outlive its CA"),
    ("renew CA --ca --days 364", 1, "a CA for 364 days would end before a, which is valid until"),
    ("renew CA a --days 3651", 1, "would outlive its CA"),
    ("renew CA new", 1, "no certificate of 'new'"),
    ("renew CA gone", 1, "no certificate of 'gone'"),
    ("renew CA ../ca/a", 1, "no certificate of '../ca/a'"),
    ("revoke CA a new", 1, "no certificate was issued to 'new'"),
    ("revoke CA gone", 1, "gone is revoked already"),
    ("renew CA", 2, "renew takes either NAMEs, --crl or --ca"),
    ("renew CA a --crl", 2, "renew takes either"),
    ("renew CA --ca --new-key", 2, "--new-key is for NAMEs"),
    ("renew CA a --bits 4096", 2, "--new-key, too"),
    ("issue CA new --days 0", 2, "'0'"),
    ("issue CA new --days nan", 2, "'nan'"),
    ("issue CA new --days 99999", 2, "'99999'"),
    ("issue CA new --days ten", 2, "'ten' is not a number of days, more than 0 and at most 36525"),
    ("issue CA new --bits 1024", 2, "1024"),
    ("issue CA", 2, "NAME"),
    ("list CA/nowhere", 2, "nowhere is no folder; make a CA there with: gilmsg-pki init"),
    ("list CA/issued", 2, "is no CA"),
    ("init CA/a.crt", 2, "a.crt is no folder"),
    ("init CA/dangling", 2, "dangling is no folder"),
    ("init CA/other --name CONTROL", 2, "--name"),
    (f"init CA/other --name {'ü' * 33}", 2, "1 to 64 bytes of them in UTF-8"),
    ("frobnicate CA", 2, "frobnicate"),
]


def test_what_is_refused_changes_nothing(run, ca):
    """One line names the value and what to do, and every file is as it was."""
    run("issue", ca, "a", "gone")
    run("revoke", ca, "gone")
    (ca / "dangling").symlink_to("nowhere")
    before = content(ca)
    for words, status, sentence in REFUSED:
        replaced = [word.replace("CA", str(ca)).replace("CONTROL", "x\n") if word != "--ca" else word for word in words.split()]
        assert sentence in run(*replaced, status=status), words
        assert content(ca) == before and not (ca / "other").exists(), words


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a,b", " a", "a ", "a\\b", "a\nb", "a\0b", "x" * 65, "ü" * 33, "ca", "CRL", "\udcff", "-dash"])
def test_a_name_that_is_no_name(run, ca, name):
    """What names no file, or no recipient, gets no certificate; nor does a good name beside it."""
    before = content(ca)
    assert "cannot be the name of a certificate" in run("issue", ca, "--", "good", name, status=2)
    assert content(ca) == before


@pytest.mark.parametrize("name", ["backend01", "shop-app01.stg.example.com", "a b", "x" * 64, "ü" * 32, "büro", "a..b", "x.key", "a-"])
def test_a_name_that_gilmsg_accepts(run, ca, name):
    """Whatever can be named as a recipient, and be a file, is the one common name on the certificate, and can be revoked."""
    run("issue", ca, name)
    assert [one.value for one in certificate(ca / f"{name}.crt").subject] == [name]
    run("revoke", ca, name)
    assert len(crl(ca)) == 1


def test_revoking_a_name_revokes_all_that_it_had(run, ca):
    """Former certificates too; entries stay when the CRL is written again; its number grows; the pair is gone, a new one counts."""
    run("issue", ca, "a", "b")
    old = certificate(ca / "a.crt")
    run("renew", ca, "a")
    new = certificate(ca / "a.crt")
    assert old.public_key() == new.public_key() and old.serial_number != new.serial_number
    number = crl(ca).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    run("revoke", ca, "a")
    assert not list(ca.glob("a.*"))
    run("revoke", ca, "b")
    run("issue", ca, "a")
    run("renew", ca, "--crl")
    serials = {one.serial_number for one in crl(ca)}
    assert {old.serial_number, new.serial_number} < serials and len(serials) == 3
    assert certificate(ca / "a.crt").serial_number not in serials
    assert crl(ca).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number > number


@pytest.mark.parametrize("file", ["ca.key", "ca.crt", "crl.pem"])
@pytest.mark.parametrize("damage", ["gone", "cut", "another's"])
def test_a_folder_that_is_damaged(run, ca, tmp_path, file, damage):
    """The file is named, and nothing is made of what is left: no CRL that has forgotten whom it revoked."""
    if damage == "gone":
        (ca / file).unlink()
    elif damage == "cut":
        (ca / file).write_bytes((ca / file).read_bytes()[:100])
    else:
        run("init", tmp_path / "other", "--bits", "2048")
        (ca / file).write_bytes((tmp_path / "other" / file).read_bytes())
    before = content(ca)
    complaint = run("renew", ca, "--crl", status=2)
    assert re.search(r"ca\.key|ca\.crt|crl\.pem" if damage == "another's" else re.escape(file), complaint)
    if damage == "gone" and file != "ca.key":
        assert "do not make a new CA: copy the file back from a host" in complaint
        assert "if ca.crt or crl.pem is lost, copy it back from a host" in run("init", ca, status=1)
    assert content(ca) == before


def test_a_folder_with_the_rest_of_one_who_was_killed(run, ca):
    """A file half written stands in nobody's way, whatever its mode; a key without a certificate can be revoked."""
    (ca / "a.key.new").write_text("half")
    (ca / "a.key.new").chmod(0o666)
    run("issue", ca, "a")
    assert stat.S_IMODE((ca / "a.key").stat().st_mode) == 0o600 and not list(ca.glob("*.new"))
    (ca / "a.crt").unlink()
    assert "a.key is there without its certificate, from a run that was interrupted; revoke a, then issue it" in run("issue", ca, "a", status=1)
    run("revoke", ca, "a")
    run("issue", ca, "a")


def test_a_new_key_that_has_no_certificate_yet(run, ca):
    """Where renew --new-key was interrupted between the two files, the former key is not renewed silently."""
    run("issue", ca, "a", "b")
    shutil.copy(ca / "b.key", ca / "a.key")
    before = content(ca)
    assert "a.key does not belong to a.crt (an interrupted renew --new-key?); give --new-key" in run("renew", ca, "a", status=1)
    assert content(ca) == before
    run("renew", ca, "--new-key", "a")
    run("renew", ca, "a")


def test_damage_to_what_was_issued(run, ca, complaints):
    """A file that cannot be read is complained of, and hinders no revocation, its own neither; a lost issued/ is named."""
    run("issue", ca, "a", "b", "c")
    serials = {name: certificate(ca / f"{name}.crt").serial_number for name in "abc"}
    broken = ca / "issued" / f"{serials['b']:x}.crt"
    broken.write_text("half")
    (ca / "c.crt").write_text("half")
    for name in "abc":
        told = complaints("revoke", ca, name)
        assert all(line.endswith("may be a certificate of any name: see a backup") for line in told)
        assert [line.partition(" cannot be read")[0] for line in told] == [f"gilmsg-pki: {file}" for file in (broken, ca / "c.crt")]
    assert {one.serial_number for one in crl(ca)} == set(serials.values()) and not list(ca.glob("[abc].*"))
    shutil.rmtree(ca / "issued")
    assert f"{ca}/issued is lost: restore it from a backup" in run("list", ca, status=2)
    (ca / "issued").mkdir(mode=0o700)
    run("renew", ca, "--crl")


def test_a_folder_that_is_open(run, ca, complaints):
    """A folder, or a key of a CA, that others can read is complained of by every command, each in one line that mends it."""
    ca.chmod(0o750)
    (ca / "ca.key").chmod(0o644)
    told = complaints("list", ca)
    assert [line.partition(" is open to others, ")[0] for line in told] == [f"gilmsg-pki: {ca}", f"gilmsg-pki: {ca}/ca.key"]
    for line in told:
        subprocess.run(line.rpartition("the bus: ")[2], shell=True, check=True)
    assert run("list", ca)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user(run, tmp_path):
    """No CA is made where somebody else can take it away; the folder is left as it is."""
    (tmp_path / "theirs").mkdir(mode=0o755)
    os.chown(tmp_path / "theirs", 65534, 65534)
    assert "belongs to another user" in run("init", tmp_path / "theirs", status=2)
    assert stat.S_IMODE((tmp_path / "theirs").stat().st_mode) == 0o755 and not list((tmp_path / "theirs").iterdir())


def test_what_is_printed_can_be_pasted(run, tmp_path):
    """A folder whose name has a space is quoted wherever a shell may be given it."""
    ca = tmp_path / "our ca"
    assert f"init '{ca}'" in run("list", ca, status=2)
    made = run("init", ca, "--bits", "2048")
    assert f"    '{ca}/ca.crt'   mode" in made and f"    '{ca}/crl.pem'  mode" in made and f"gilmsg-pki renew '{ca}' --crl" in made
    assert f"    '{ca}/a.key'  mode" in run("issue", ca, "a")


def test_a_revocation_that_was_interrupted(run, ca):
    """What is on the CRL, and still there, is not renewed; revoking it again finishes that."""
    run("issue", ca, "a")
    pair = [(path, path.read_bytes()) for path in ca.glob("a.*")]
    run("revoke", ca, "a")
    for path, former in pair:
        path.write_bytes(former)
    (ca / "issued" / "1.crt.new").write_text("half")
    assert "a is revoked" in run("renew", ca, "a", status=1)
    run("revoke", ca, "a")
    assert not list(ca.glob("a.*")) and len(crl(ca)) == 1


def test_an_empty_folder_name(run):
    """No name of a folder is not the working directory."""
    for words in (["init", ""], ["list", ""]):
        assert "FOLDER: it is empty" in run(*words, status=2)


@pytest.mark.slow
def test_several_at_once(run, ca):
    """Processes that work on one folder at once wait for each other: each name is issued once, and no revocation is lost."""
    names = [f"n{number}" for number in range(4)]
    run("issue", ca, *names)
    words = [sys.executable, "-m", "gilmsg", "pki"]
    jobs = [["revoke", str(ca), name] for name in names] + [["issue", str(ca), "same"]] * 4
    programs = [processes.Program(words + job) for job in jobs]
    statuses = [program.end(60) for program in programs]
    for program in programs:
        program.__exit__()
    assert statuses[:4] == [0] * 4 and sorted(statuses[4:]) == [0, 1, 1, 1]
    assert len(crl(ca)) == 4 and len(list((ca / "issued").iterdir())) == 5
    made = certificate(ca / "same.crt").public_key()
    assert serialization.load_pem_private_key((ca / "same.key").read_bytes(), None).public_key() == made


@pytest.mark.slow
def test_two_who_make_the_same_folder(tmp_path):
    """One of them makes it, the other is refused."""
    words = [sys.executable, "-m", "gilmsg", "pki", "init", str(tmp_path / "ca"), "--bits", "2048"]
    programs = [processes.Program(words) for _ in range(3)]
    assert sorted(program.end(60) for program in programs) == [0, 1, 1]
    for program in programs:
        program.__exit__()
    assert crl(tmp_path / "ca").is_signature_valid(certificate(tmp_path / "ca" / "ca.crt").public_key())
