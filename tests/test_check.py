"""gilmsg.check and gilmsg-check: each failed line provoked for real; nothing disturbed, nothing left."""

import json
import os
import threading

import fedmsg
import fedmsg.config
import psutil
import pytest

import gilmsg
from gilmsg.commands import check as check_command

from . import inside
from .helpers import (
    Inbox,
    Tailer,
    in_threads,
    listening_ports,
    lost,
    publish,
    publish_async,
    until_gone,
    until_present,
    write_config,
)  # fmt: skip
from .processes import Program, module, port_of, program_words, wait_for

PATIENT = {"gilmsg.head_start": 20.0}
BRIEF = {"gilmsg.head_start": 0.3}
TOPIC = "org.example.dev.tests.hello"

SELF = ["configuration", "settings", "crypto", "ca", "crl", "key", "certificate", "pair", "signature"]


def failed(report):
    """check -> detail, of the failed lines about ourselves."""
    return {line.check: line.detail for line in report.lines if not line.ok}


@pytest.fixture
def pki(bus, tmp_path):
    """Settings for keys, CA and CRL in files of the test's own, and the authority behind them."""
    authority = inside.authority(tmp_path / "pki")
    authority.issue("publisher")
    return authority, {
        "ssldir": authority.folder, "ca_cert_location": authority.ca_file, "crl_location": authority.crl_file
    }


def test_all_is_well(bus, config):
    """With recipients that listen, every line is in order, with the recipient's endpoints."""
    report = gilmsg.check(["alice", "bob"], TOPIC, **dict(config, **PATIENT))
    assert report and report.ok and not failed(report), report
    assert [line.check for line in report.lines] == SELF + ["endpoint", "listener"]
    for name in ("alice", "bob"):
        seen = report.recipients[name]
        assert seen.endpoints == config["endpoints"][name]
        assert seen.reachable is True and seen.listening is True
        assert "listening to us" in seen.detail
    assert report.as_dict()["ok"] is True


def test_nothing_is_published(bus, config):
    """A check puts no message on the bus: a publish after it is the first that the recipient gets."""
    inbox = Inbox(bus, "checked")
    assert gilmsg.check(["alice"], "org.example.dev.tests.checked", **dict(config, **PATIENT))
    receipt = publish(["alice"], topic="checked", **dict(config, **PATIENT))
    assert [message["msg_id"] for message in inbox.messages()] == [receipt.msg_id]


def test_a_fresh_process_is_left_as_it_was(bus, config):
    """Context, sockets, listener, threads, cached configuration: all is as before, port included."""
    before = threads()
    assert gilmsg.check(["alice"], **dict(config, **PATIENT))
    assert own_context() is None and not any(inside.running())
    assert threads() <= before
    assert getattr(fedmsg.config, "__cache") == {}
    ports = {int(endpoint.rpartition(":")[2]) for endpoint in config["endpoints"]["publisher"]}
    wait_for(lambda: not ports & listening_ports(os.getpid()), "libzmq has given the port back")


def own_context():
    """This thread's."""
    return getattr(getattr(fedmsg, "__local"), "__context", None)


def threads():
    """Those of this process, but for such as stay: a log line may start one."""
    return {one for one in threading.enumerate() if one.name not in inside.KEPT_THREADS}


def state():
    """What a check must leave as it is."""
    return own_context(), inside.running(), listening_ports(os.getpid()), threads()


def test_a_publishing_process_is_not_disturbed(bus, config):
    """Its own publisher and listener are reported, to another thread too; neither is closed or doubled."""
    config["endpoints"]["publisher"] = config["endpoints"]["publisher"][:1]
    config.update(PATIENT)
    publish(["alice"], **config)
    before = state()
    for report in (gilmsg.check(["alice"], TOPIC), *in_threads(lambda: gilmsg.check(["alice"], **config))):
        assert report, report
        details = {line.check: line.detail for line in report.lines}
        assert inside.endpoint() in details["endpoint"] and "own publisher" in details["endpoint"]
        assert "own listener" in details["listener"]
    assert state() == before
    assert publish(["alice"]) and state() == before


def test_a_plain_fedmsg_publisher_is_left_alone(bus, config, tmp_path):
    """A context of fedmsg's own shows nobody: that is said, and its socket stays."""
    write_config(tmp_path, config)
    fedmsg.init(post_init_sleep=0)
    plain = own_context().publisher
    report = gilmsg.check(["alice"], **BRIEF)
    assert "fedmsg.init" in failed(report)["endpoint"] and not report
    assert own_context().publisher is plain and not plain.closed


def test_a_recipient_that_listens_to_another_topic(config, tmp_path):
    """It fails for our topic, by name of its own; it is fine for its topic, and without one."""
    with Tailer(dict(config, name="carol"), tmp_path, "org.example.dev.other"):
        gilmsg.init(**dict(config, **PATIENT))  # one publisher, so that carol connects once
        assert gilmsg.check(["carol"])
        assert gilmsg.check(["carol"], "org.example.dev.other.thing")
        report = gilmsg.check(["carol"], TOPIC, **BRIEF)
        seen = report.recipients["carol"]
        assert not report and seen.reachable is True and seen.listening is False
        assert TOPIC in seen.detail and "org.example.dev.other" in seen.detail


def test_of_a_group_one_member_is_enough(bus, config):
    """Each member has its own entry; one that is present makes the group good."""
    bus.dead("bob")
    report = gilmsg.check(["alice,bob"], TOPIC, **dict(config, **PATIENT))
    assert report, report
    assert report.recipients["alice"].listening and not report.recipients["bob"].listening
    assert "alice,bob is enough" in report.recipients["bob"].detail
    assert report.missing == report.failures() == []
    report = gilmsg.check(["alice,bob", "bob"], TOPIC, **dict(config, **BRIEF))
    assert not report and "enough" not in report.recipients["bob"].detail and "bob" in report.missing


def test_recipients_come_from_the_configuration(bus, config):
    """None asks gilmsg.recipients: for the topic, or all of it; that it names none is a failed line."""
    config.update(PATIENT)
    config["gilmsg.recipients"] = {"org.example.dev.tests": ["alice"], "org.example.dev.x": ["bob"]}
    gilmsg.init(**config)
    assert list(gilmsg.check(None, TOPIC).recipients) == ["alice"]
    assert list(gilmsg.check().recipients) == ["alice", "bob"]
    report = gilmsg.check(None, "org.example.dev.y.z")
    assert not report and "gilmsg.recipients" in failed(report)["recipients"]


def test_whose_endpoints_are_unknown_is_unknown(bus, config, tmp_path):
    """It listens, and from where its ACK would come is not known; where nobody else is known, that is a failure."""
    config.update(PATIENT)
    carol = dict(config, name="carol")
    alone = dict(config, endpoints={"publisher": config["endpoints"]["publisher"]})
    with Tailer(carol, tmp_path, TOPIC):
        for known, state, sentence in (
            ({**config, "endpoints": {k: v for k, v in config["endpoints"].items() if k != "carol"}}, "unknown", "carol: "),
            (alone, "fail", "no ACK can come"),
        ):
            report = gilmsg.check(["carol"], TOPIC, **known)
            assert (report.state, bool(report), report.missing) == (state, False, ["carol"]), report
            [told] = report.unknowns() if state == "unknown" else report.failures()
            assert sentence in told and "listening to us" in told
            assert report.as_dict()["recipients"]["carol"]["state"] == state


def test_with_a_relay_recipients_cannot_be_seen(bus, config):
    """With active=True the relay is seen, and nothing is claimed of who stands behind it."""
    config.update(PATIENT, active=True, name="relay_inbound")
    report = gilmsg.check(["alice", "nobody"], TOPIC, **config)
    assert not report and report.state == "unknown" and report.failures() == [], report
    assert [one.partition(":")[0] for one in report.unknowns()] == ["alice", "nobody"] == report.missing
    assert "certnames" not in report.recipients["alice"].detail
    assert "certnames has no entry that leads to 'nobody'" in report.recipients["nobody"].detail
    relay = next(line for line in report.lines if line.check == "relay")
    assert relay.ok and config["relay_inbound"] in relay.detail and "cannot be seen" in relay.detail
    assert "cannot be seen" in report.recipients["alice"].detail


class Holder(Program):
    """A process that listens at *ports*."""

    def __init__(self, *ports):
        super().__init__(program_words("holder", *map(str, ports)))

    def wait_until_ready(self):
        self.wait_for("ready")


def test_another_process_holds_all_our_ports(bus, config):
    """That is said in so many words, with the setting and the endpoints; the rest is checked too."""
    endpoints = [bus.ports.endpoint(), bus.ports.endpoint()]
    config["endpoints"]["publisher"] = endpoints
    with Holder(*map(port_of, endpoints)) as holder:
        report = gilmsg.check(["alice"], **dict(config, **PATIENT))
        assert not report and list(failed(report)) == ["endpoint"]
        line = failed(report)["endpoint"]
        assert "another process holds all our declared ports" in line
        assert "endpoints['publisher']" in line and all(f"{one} (process {holder.pid})" in line for one in endpoints)
        seen = report.recipients["alice"]
        assert seen.reachable is True and seen.listening is False
    assert "endpoint" not in failed(gilmsg.check([], **config))


def test_a_host_that_only_consumes(bus, config, tmp_path, capsys):
    """Before its consumer runs all is in order; while it runs, its port is held by it; no recipient is asked for."""
    write_config(tmp_path, dict(config, name="carol"))
    arguments = ["--consumer", "--topic", "org.example.dev"]
    assert check_command.main(arguments) == 0
    out = capsys.readouterr().out
    mine = config["endpoints"]["carol"][0]
    assert f"they leave as carol from {mine}" in out and "recipients" not in out, out
    assert out.endswith("ok: what names this consumer is expected to be acknowledged\n")
    with Tailer(dict(config, name="carol"), tmp_path, TOPIC) as tailer:
        assert check_command.main([*arguments, "--json"]) == 3
        answer = json.loads(capsys.readouterr().out)
    lines = {line["check"]: line for line in answer["self"]}
    assert [name for name, line in lines.items() if line["state"] == "unknown"] == ["endpoint"], answer
    assert f"{mine} (process {tailer.pid})" in lines["endpoint"]["detail"]
    assert lines["endpoint"]["detail"].endswith("that may well be the consumer itself")
    assert "carol" in lines["acks"]["detail"]
    assert check_command.main([*arguments, "--recipients", "alice"]) == 2
    assert "a consumer has no recipients" in capsys.readouterr().err


def test_this_process_holds_our_port(bus, config, tmp_path):
    """Where it is not another process but a plain fedmsg context of another thread, that is said."""
    config["endpoints"]["publisher"] = config["endpoints"]["publisher"][:1]
    write_config(tmp_path, config)
    fedmsg.init(post_init_sleep=0)
    [wrong] = in_threads(lambda: failed(gilmsg.check([], **config)))
    assert "this process itself holds" in wrong["endpoint"]


def test_our_certificate_counts_for_nobody(config, pki, bus):
    """A revoked certificate, or one of another CA, is found by verifying what it signs."""
    authority, settings = pki
    foreign = dict(settings, ssldir=bus.authority.folder)
    wrong = failed(gilmsg.check([], **dict(config, **foreign)))
    assert list(wrong) == ["signature"] and "not issued by our CA" in wrong["signature"]
    authority.revoke("publisher")
    inside.look_at_files()
    wrong = failed(gilmsg.check([], **dict(config, **settings)))
    assert list(wrong) == ["signature"] and "revoked" in wrong["signature"]


def test_a_consumer_that_nobody_can_name(config, pki, caplog):
    """Its common name holds a comma: check fails, at its start there is a WARNING, and it goes on consuming."""
    authority, settings = pki
    authority.issue("publisher", common_names=["here,there"])
    config.update(settings, validate_signatures=False)
    wrong = failed(gilmsg.check([], **config))
    assert list(wrong) == ["certificate"] and "the common name 'here,there' holds a comma" in wrong["certificate"]
    messages = gilmsg.tail_messages(topic="org.example.dev.tests.own", **config)
    told = [record for record in caplog.records if record.name == "gilmsg.receive"]
    assert [record.levelname for record in told] == ["WARNING"] and "it can never confirm" in told[0].getMessage()
    wait_for(lambda: inside.listens("here,there", "org.example.dev.tests.own"), "it listens to itself")
    sent = publish_async(["here,there"], topic="own", ack_timeout=0.1, **{"gilmsg.head_start": 0})
    assert next(messages)[2] == "org.example.dev.tests.own"
    messages.close()
    assert isinstance(sent.exception(20), gilmsg.Timeout)


def test_everything_wrong_is_told(config, pki):
    """A missing CA, a broken CRL, a missing key, bad settings and no port: a line each, none hidden."""
    authority, settings = pki
    os.unlink(authority.ca_file)
    os.unlink(os.path.join(authority.folder, "publisher.key"))
    with open(authority.crl_file, "w") as stream:
        stream.write("rubbish")
    config.update(settings, **{"gilmsg.head_start": -1, "gilmsg.ack_timeout": 0})
    del config["endpoints"]["publisher"]
    report = gilmsg.check([], **config)
    wrong = [line for line in report.lines if not line.ok]
    assert [w.check for w in wrong] == ["settings", "settings", "ca", "crl", "key", "endpoint"]
    for line, text in zip(
        wrong,
        ["gilmsg.ack_timeout", "gilmsg.head_start", authority.ca_file, authority.crl_file, "publisher.key",
         "endpoints"],
    ):
        assert text in line.detail, line
    assert not report


def test_without_signing_no_key_is_needed(config, pki):
    """With sign_messages off our key does not matter, CA and CRL do, for the ACKs; nor may recipients validate."""
    authority, settings = pki
    config.update(settings, sign_messages=False, ssldir="/nonexistent", certnames={})
    assert list(failed(gilmsg.check([], **config))) == ["crypto"]
    config["validate_signatures"] = False
    report = gilmsg.check([], **config)
    assert report, report
    assert "sign_messages is off" in next(line for line in report.lines if line.check == "crypto").detail
    os.unlink(authority.ca_file)
    assert "ca" in failed(gilmsg.check([], **config))


@pytest.mark.parametrize(
    "changes, check, text",
    [
        ({"crypto_backend": "gpg"}, "crypto", "crypto_backend"),
        ({"certnames": {}}, "key", "certnames"),
        ({"ca_cert_location": None}, "ca", "ca_cert_location"),
        ({"mute": True}, "endpoint", "mute"),
        ({"zmq_enabled": False}, "endpoint", "zmq_enabled"),
        ({"active": True, "relay_inbound": None, "name": None}, "endpoint", "relay_inbound"),
        ({"gilmsg.recipients": ["alice"]}, "settings", "gilmsg.recipients"),
        ({"certnames": ["publisher"]}, "configuration", "certnames"),
        ({"endpoints": {"publisher": 7}}, "configuration", "endpoints['publisher']"),
        ({"crl_cache_expiry": "soon"}, "configuration", "soon"),
    ],
)
def test_a_bad_setting_is_named(config, changes, check, text):
    """What publish refuses is a failed line that names the setting."""
    config.update(changes)
    report = gilmsg.check([], **config)
    assert not report and text in failed(report)[check]


@pytest.mark.parametrize(
    "arguments",
    [{"recipients": [""]}, {"recipients": 7}, {"recipients": b"alice"}, {"topic": ""}, {"topic": b"a.b"},
     {"warn_days": -1}, {"warn_days": float("nan")}, {"warn_days": "7"},
     {"config_filename": "/nonexistent"}, {"endpoints": ["tcp://127.0.0.1:3000"]}],
)
def test_bad_arguments_are_refused(config, arguments):
    """A bad argument is a ConfigurationError, not a line."""
    with pytest.raises(gilmsg.ConfigurationError):
        gilmsg.check(**dict(config, **arguments))


def test_a_topic_that_is_not_full(config):
    """Nothing is ever published on a topic outside topic_prefix; that is a failed line."""
    assert "topic_prefix" in failed(gilmsg.check([], "tests.hello", **config))["topic"]


def test_configuration_files(bus, config, tmp_path):
    """What was read is listed; each broken file is named, the others still count, mended is mended."""
    write_config(tmp_path, config)
    (tmp_path / "fedmsg.d" / "a.py").write_text("config = {")
    (tmp_path / "fedmsg.d" / "b.py").write_text("nothing = 1")
    report = gilmsg.check([])
    wrong = [line.detail for line in report.lines if not line.ok]
    assert len(wrong) == 2 and "a.py" in wrong[0] and "SyntaxError" in wrong[0] and "b.py" in wrong[1]
    for name in "ab":
        (tmp_path / "fedmsg.d" / (name + ".py")).unlink()
    report = gilmsg.check([])
    assert report and str(tmp_path / "fedmsg.d" / "bus.py") in report.lines[0].detail
    (tmp_path / "fedmsg.d" / "bus.py").rename(tmp_path / "elsewhere.py")
    assert "endpoints" in failed(gilmsg.check([]))["configuration"]
    assert gilmsg.check([], config_filename="elsewhere.py")


def test_the_working_directory_was_removed(bus, config, tmp_path, monkeypatch, capsys):
    """A publisher goes on, and a line of its report names it; without --config-filename a command fails by it."""
    write_config(tmp_path, dict(config, **PATIENT))
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    file = str(tmp_path / "fedmsg.d" / "bus.py")
    gilmsg.init(**dict(config, **PATIENT))
    gone.rmdir()
    report = gilmsg.check(["alice"], TOPIC)
    assert report and (report.state, report.lines[0].check) == ("warning", "configuration")
    assert f"the working directory {gone} was removed" in report.lines[0].detail
    gilmsg.destroy()
    setattr(fedmsg.config, "__cache", {})
    assert check_command.main(["--recipients", "alice", "--config-filename", file]) == 0, capsys.readouterr()
    capsys.readouterr()
    assert check_command.main(["--recipients", "alice"]) == 1
    assert f"  FAIL     configuration  the working directory {gone} was removed" in capsys.readouterr().out


def command(cwd, *arguments):
    return module("gilmsg.commands.check", *arguments, cwd=cwd)


def test_command_prints_what_python_returns(bus, config, tmp_path):
    """--json is as_dict() to the letter; exit 0, quiet stderr, no process left."""
    write_config(tmp_path, dict(config, **PATIENT))
    done = command(tmp_path, "--json", "--recipients", "alice", "bob,nobody", "--topic", TOPIC)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == gilmsg.check(["alice", "bob,nobody"], TOPIC).as_dict()
    assert not [p for p in psutil.Process().children(True) if "gilmsg.commands.check" in p.cmdline()]


def test_command_prints_a_table(bus, config, tmp_path):
    """For people: a line for each thing, FAIL where it is wrong, exit 1; --active is the relay's way."""
    bad = dict(config, relay_inbound=bus.ports.endpoint(), crl_location="/nonexistent", **BRIEF)
    write_config(tmp_path, bad)
    done = command(tmp_path, "--active", "--recipients", "alice")
    assert (done.returncode, done.stderr) == (1, "")
    fails = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("  FAIL")]
    assert fails == ["crl", "relay", "alice"], done.stdout
    assert bad["relay_inbound"] in done.stdout and "/nonexistent" in done.stdout


@pytest.mark.parametrize("arguments", [["--no-such-option"], ["--recipients", ""]])
def test_command_refuses_in_one_line(tmp_path, capsys, arguments):
    """Bad usage: exit 2 and one line on stderr."""
    assert check_command.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("gilmsg-check: ")


def test_command_reads_the_file_that_it_is_given(config, tmp_path, capsys):
    """--config-filename is read instead of fedmsg.d; --print-config shows it with the options in it."""
    write_config(tmp_path, dict(config, environment="stg"))
    (tmp_path / "only.py").write_text("config = {!r}".format(dict(config, environment="prod")))
    with pytest.raises(SystemExit) as ended:
        check_command.main(["--config-filename", "only.py", "--print-config", "--name", "bob"])
    printed = json.loads(capsys.readouterr().out)
    assert (ended.value.code, printed["environment"], printed["name"]) == (0, "prod", "bob")


def test_command_says_that_all_is_well(bus, config, tmp_path, capsys):
    """Exit 0, and no line that says FAIL; print() of the report shows the same."""
    write_config(tmp_path, dict(config, **PATIENT))
    assert check_command.main(["--recipients", "alice", "--topic", TOPIC]) == 0
    out = capsys.readouterr().out
    assert "FAIL" not in out and out.endswith("ok: a publish is expected to succeed\n")
    print(gilmsg.check(["alice"], TOPIC))
    assert capsys.readouterr().out == out
    assert check_command.main(["--active", "--recipients", "alice", "--cert-prefix", "shell"]) == 3
    assert "  unknown  alice  " in capsys.readouterr().out


def swapped(name, other):
    """Does harm to an authority's folder: *name* becomes what *other*, a file of another authority, is."""

    def harm(authority):
        foreign = inside.authority(os.path.join(authority.folder, "foreign"))
        foreign.issue("publisher")
        os.replace(os.path.join(foreign.folder, other), os.path.join(authority.folder, name))

    return harm


HARM = {
    "expired": lambda authority: authority.issue("publisher", days=-1),
    "future": lambda authority: authority.issue("publisher", age=-1),
    "two names": lambda authority: authority.issue("publisher", common_names=["publisher", "alice"]),
    "no key": lambda authority: os.unlink(os.path.join(authority.folder, "publisher.key")),
    "another key": swapped("publisher.key", "publisher.key"),
    "a key for a certificate": swapped("publisher.crt", "publisher.key"),
    "no CA": lambda authority: os.unlink(authority.ca_file),
    "no CRL": lambda authority: os.unlink(authority.crl_file),
    "an expired CA": lambda authority: authority.write_ca(days=-1),
    "an expired CRL": lambda authority: authority.write_crl(days=-1),
    "a future CRL": lambda authority: authority.write_crl(age=-1),
    "a CA for a CRL": swapped("crl.pem", "ca.crt"),
    "another CRL": swapped("crl.pem", "crl.pem"),
}


def test_what_ends_soon(config, pki):
    """A certificate of one day, a CRL of two hours: warnings, and all is well nevertheless."""
    authority, files = pki
    config.update(files)
    assert gilmsg.check([], **config).state == "ok"
    assert [line.check for line in gilmsg.check([], warn_days=60, **config).lines if line.state != "ok"] == [
        "ca", "certificate"
    ]  # fmt: skip
    authority.issue("publisher", days=1)
    authority.write_crl(days=1 / 12)
    report = gilmsg.check([], **config)
    assert report and [line.check for line in report.lines if line.state == "warning"] == ["crl", "certificate"]
    assert all(line.detail.endswith(("replace it", "renew it")) for line in report.lines if line.state == "warning"), report
    assert [line.check for line in gilmsg.check([], warn_days=0, **config).lines if line.state != "ok"] == ["crl"]


def test_a_key_that_everybody_can_read(config, pki):
    """A warning is in order, and told; a publish works."""
    authority, files = pki
    config.update(files)
    os.chmod(os.path.join(authority.folder, "publisher.key"), 0o644)
    report = gilmsg.check([], **config)
    assert report and report.state == "warning" and "warning  key " in str(report), report
    [line] = [line for line in report.lines if line.state == "warning"]
    assert line.check == "key" and "publisher.key (ssldir, certnames) can be read by everybody" in line.detail


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_what_is_wrong_with_files_is_said_as_publish_says_it(config, pki, harm):
    """Whatever publish refuses of key, certificate, CA or CRL is a line of check, to the letter."""
    authority, files = pki
    harm(authority)
    config.update(files)
    with pytest.raises(gilmsg.ConfigurationError) as raised:
        publish(["alice"], **config)
    assert list(failed(gilmsg.check([], **config)).values()) == [str(raised.value)]


def test_who_is_missing_is_told_as_publish_tells_it(bus, config):
    """Of a recipient that publish would miss, check says the same, to the letter, and more of the way back."""
    gilmsg.init(**config)
    until_present("alice", "bob")
    bus.dead("bob")
    until_gone("bob")
    missing = lost(["bob", "nobody"], topic="hello", **BRIEF).missing
    seen = gilmsg.check(["bob", "nobody"], TOPIC, **BRIEF).recipients
    assert missing["bob"] == "it was connected to us and has gone"
    for name, sentence in missing.items():
        assert seen[name].detail.startswith(sentence + "; "), seen[name]


def test_a_relay_that_is_away_is_told_as_publish_tells_it(bus, config):
    """The same of a relay, in its own line and of each recipient."""
    away = bus.ports.endpoint()
    config.update(active=True, name="relay_inbound", relay_inbound=away)
    sentence = lost(["alice"], **{**config, "gilmsg.head_start": 0}).missing["alice"]
    report = gilmsg.check(["alice"], TOPIC, **BRIEF)
    assert sentence == f"the relay at {away} is not there"
    assert failed(report)["relay"] == sentence + " (relay_inbound)"
    assert report.recipients["alice"].detail.startswith(sentence + "; ")
