"""gilmsg-outbox, gilmsg-logger --outbox, gilmsg-demo --outbox, and the systemd unit, run as users run them."""

import configparser
import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import stat
import sys
import time

import pytest
from sqlalchemy import make_url, update

import gilmsg
from gilmsg.commands.outbox import main

from . import processes
from .conftest import own_config
from .helpers import write_config
from .processes import LIMIT, REPOSITORY, Program, wait_for

CONFIG = {"topic_prefix": "org.example", "environment": "dev", "endpoints": {}}

SECRET = "very-secret"

UNIT = REPOSITORY / "docs" / "gilmsg-outbox.service"


@pytest.fixture
def box(place, monkeypatch):
    """An outbox that the environment names."""
    monkeypatch.setenv("GILMSG_OUTBOX_DATABASE", place)
    with contextlib.closing(gilmsg.outbox.Outbox(place)) as box:
        yield box


@pytest.fixture
def path(tmp_path):
    """The path of an outbox that is there."""
    name = str(tmp_path / "outbox.sqlite")
    gilmsg.outbox.Outbox(name).close()
    return name


@pytest.fixture
def said(capsys, recwarn):  # recwarn gives back the filters of warnings
    """Run gilmsg-outbox with these arguments; return exit status, what it printed, and what it complained of."""

    def run(*arguments):
        capsys.readouterr()
        status = main(list(arguments))
        return (status, *capsys.readouterr())

    return run


def put(box, *recipients, **options):
    return box.put(**{"topic": "t", "msg": {}, "recipients": recipients or ["alice"], **CONFIG, **options})


def change(box, *msg_ids, **values):
    """Do to messages what a deliverer does."""
    messages = box.tables.messages
    with box.transaction() as connection:
        connection.execute(update(messages).where(messages.c.msg_id.in_(msg_ids)).values(values))


def fail(box, *msg_ids, days=0):
    change(box, *msg_ids, state="failed", reason="it expired", ended=time.time() - days * 86400)


def command(*arguments, cwd=".", **env):
    return processes.module("gilmsg.commands.outbox", *arguments, cwd=cwd, env={"HOME": os.getcwd(), **env})


def test_a_list_can_be_read(box, said):
    """Age, attempts, what comes next, id, topic, and below each message who is missing and why; then the counts."""
    first, second, third = put(box), put(box, "b,c", "d"), put(box)
    now = time.time()
    change(box, first, created=now - 7300, attempts=7, due=now + 250)
    change(box, second, created=now - 40, attempts=1, lease="me", leased_until=now + 60)
    recipients = box.tables.recipients
    with box.transaction() as connection:
        changed = update(recipients).where(recipients.c.entry == "d")
        connection.execute(changed.values(code="gone", reason="its connection\nended\x1b[2J"))
    status, out, err = said("list")
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["AGE", "ATTEMPTS", "STATE", "MESSAGE", "TOPIC"]
    assert rows[1] == ["2", "h", "7", "next", "in", "4", "min", first, "org.example.dev.tests.t"]
    assert rows[2] == ["alice:", "nothing", "is", "known"]
    assert rows[3] == ["40", "s", "1", "under", "way", second, "org.example.dev.tests.t"]
    assert out.splitlines()[5].strip() == "d: its connection?ended?[2J"
    assert rows[6][2:5] == ["0", "next", "now"] and rows[6][5] == third
    assert rows[7] == ["alice:", "it", "was", "not", "sent", "yet"]
    assert out.endswith("\n\nwaiting: 3, delivered: 0, failed: 0\n")


def test_what_has_ended_is_listed_by_its_option(box, said):
    """--failed says why, --delivered who has confirmed; without them neither is shown."""
    failed, delivered = put(box), put(box)
    fail(box, failed, days=3)
    change(box, delivered, state="delivered", ended=time.time() - 90)
    assert said("list") == (0, "waiting: 0, delivered: 1, failed: 1\n", "")
    _, out, _ = said("list", "--failed")
    assert f"failed 3 d ago      {failed}" in out and "  it expired\n" in out and delivered not in out
    _, out, _ = said("list", "--delivered")
    assert f"delivered 1 min ago  {delivered}" in out and failed not in out
    _, out, _ = said("list", "--delivered", "--failed", "--json")
    assert [(one["msg_id"], one["state"]) for one in json.loads(out)] == [(failed, "failed"), (delivered, "delivered")]


def test_a_list_is_one_json_array(box, said):
    """Also an empty one; each message is an object without its body, reasons are those of the log."""
    assert json.loads(said("list", "--json")[1]) == []
    ids = [put(box), put(box)]
    _, out, _ = said("list", "--json")
    found = json.loads(out)
    assert [one["msg_id"] for one in found] == ids
    assert found[0]["missing"] == {
        "alice": {"code": "untried", "may_have_arrived": False, "text": "it was not sent yet"},
    }
    assert found[0]["recipients"] == ["alice"] and found[0]["acks"] == {} and "body" not in found[0]


def test_one_message_is_shown_with_its_body(box, said):
    """All that is known of it, for people and as JSON; 1 if it is not there."""
    msg_id = put(box, "alice", "b,c", msg={"text": "h\u00e9\x1b"}, expires=gilmsg.outbox.attempts(3))
    status, out, err = said("show", msg_id)
    assert (status, err) == (0, "")
    head, _, body = out.partition("\n\n")
    facts = dict(line.split(None, 1) for line in head.splitlines())
    assert facts["message"] == msg_id and facts["topic"] == "org.example.dev.tests.t"
    assert facts["state"] == "waiting, next now" and facts["recipients"] == "alice b,c"
    assert facts["expires"] == "after 3 attempts" and facts["missing"] == "b,c: it was not sent yet"
    assert json.loads(body)["msg"]["text"] == "h\u00e9\x1b" and "\x1b" not in out
    _, out, _ = said("show", msg_id, "--json")
    assert json.loads(out)["body"]["msg_id"] == msg_id and json.loads(out)["most_attempts"] == 3
    status, out, err = said("show", "2026-nobody")
    assert (status, out) == (1, "") and "there is no message '2026-nobody'" in err


def test_a_damaged_message_is_shown_as_it_is(box, said):
    """Its body is no JSON any more: it is printed as text, and as a string of the JSON."""
    msg_id = put(box, expires=3600)
    change(box, msg_id, body='{"msg": \x1b')
    fail(box, msg_id)
    status, out, _ = said("show", msg_id)
    assert status == 0 and out.endswith('\n\n{"msg": ?\n') and "reason       it expired" in out
    assert json.loads(said("show", msg_id, "--json")[1])["body"] == '{"msg": \x1b'


def test_failed_messages_are_taken_up_again(box, said):
    """Those that are named, or all; of one that has not failed it is told why nothing was done, with exit status 1."""
    one, other, third = put(box), put(box), put(box)
    fail(box, one, other)
    assert said("retry", one) == (0, f"{one} waits again\n", "")
    status, out, err = said("retry", third, other, "nobody")
    assert (status, out) == (1, f"{other} waits again\n")
    assert f"{third} is unchanged: its state is 'waiting'" in err and "no message 'nobody'" in err
    fail(box, one, other)
    status, out, _ = said("retry", "--all-failed", "--json")
    assert (status, json.loads(out)) == (0, [one, other])
    assert said("retry", "--all-failed") == (0, "", "")
    for words in (["retry"], ["retry", one, "--all-failed"]):
        assert said(*words)[0] == 2


def test_waiting_messages_are_dropped_and_purged(box, said):
    """A dropped message counts as failed, and goes by purge only: all of them, or those that are old enough."""
    first, second, kept = put(box), put(box), put(box)
    assert said("drop", first, second) == (0, f"{first} is given up\n{second} is given up\n", "")
    assert box.get(first).reason == "dropped"
    fail(box, first, days=2)
    assert said("purge", "--older", "1.5") == (0, "1 failed messages are removed\n", "")
    assert json.loads(said("purge", "--json")[1]) == {"removed": 1}
    assert box.counts() == {"waiting": 1, "delivered": 0, "failed": 0} and box.get(kept)
    assert said("drop", first)[0] == 1


@pytest.mark.parametrize(
    "words, told",
    [
        ([], "required: COMMAND"), (["list", "--fialed"], "unrecognized arguments: --fialed"), (["drop"], "MSG_ID"),
        (["purge", "--older", "nan"], "'nan'"), (["purge", "--older", "-1"], "--older"), (["list", "--database", ""], "''"),
        (["list", "--database", "mysql://a/b"], "'mysql"), (["list", "--database", "there/is/none"], "no outbox at /"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line(said, tmp_path, words, told):
    """With exit status 2; and a look makes no database."""
    status, out, err = said(*words)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1 and told in err
    assert list(tmp_path.iterdir()) == []


def test_where_the_outbox_is(said, path, tmp_path, monkeypatch):
    """The option wins over the environment, and that over the configuration, which is read only if it is needed."""
    status, _, err = said("list")
    assert status == 2 and "GILMSG_OUTBOX_DATABASE" in err and "gilmsg.outbox.database" in err
    broken = write_config(tmp_path, "config = 1 +", "broken.py")
    assert said("list", "--database", path)[0] == said("--database", path, "list")[0] == 0
    assert said("list")[0] == 2
    broken.unlink()
    file = write_config(tmp_path, {"gilmsg.outbox.database": path})
    assert said("list")[0] == 0
    monkeypatch.setenv("GILMSG_OUTBOX_DATABASE", str(tmp_path / "another"))
    assert "no outbox at" in said("list")[2]
    assert said("list", "--database", path)[0] == 0
    monkeypatch.setenv("GILMSG_OUTBOX_DATABASE", "")
    assert said("list")[0] == 0
    file.write_text("config = {'gilmsg.outbox.database': 7}")
    assert "gilmsg.outbox.database must be" in said("list")[2]


@pytest.mark.slow
def test_only_the_database_is_needed(path, tmp_path):
    """No fedmsg.d, key or port; a database that is no outbox is left as it is, and told."""
    assert command("list", GILMSG_OUTBOX_DATABASE=path).stdout == "waiting: 0, delivered: 0, failed: 0\n"
    (tmp_path / "text").write_text("no database")
    done = command("list", "--database", str(tmp_path / "text"))
    assert done.returncode == 2 and "not a database" in done.stderr, done.stderr
    (tmp_path / "empty").touch()
    done = command("list", "--database", str(tmp_path / "empty"))
    assert done.returncode == 2 and "gilmsg-outbox run makes them" in done.stderr, done.stderr


def test_without_sqlalchemy_it_says_what_to_install(tmp_path, path):
    """In one line, with exit status 2; help works."""
    (tmp_path / "sqlalchemy.py").write_text("raise ImportError('no module of that name')")
    paths = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    done = command("list", "--database", path, PYTHONPATH=paths)
    assert (done.returncode, done.stderr) == (2, "gilmsg-outbox: an outbox needs SQLAlchemy: pip install 'gilmsg[outbox]'\n")
    assert command("list", "--help", PYTHONPATH=paths).returncode == 0


@pytest.mark.slow
def test_a_password_is_told_nowhere(postgres):
    """Of a database that does not answer, holds no outbox, or has another driver, the URL's password is not printed."""
    url = make_url(postgres.url()).set(password=SECRET)
    in_query = url.set(password=None, query={"password": SECRET})
    cases = {
        1: [url.set(port=1), url.set(database="there_is_none")],
        2: [url, in_query, url.set(drivername="postgresql+asyncpg")],
    }
    for status, urls in cases.items():
        for one in urls:
            done = command("list", GILMSG_OUTBOX_DATABASE=one.render_as_string(hide_password=False))
            assert done.returncode == status and len(done.stderr.splitlines()) == 1, done.stderr
            assert SECRET not in done.stderr + done.stdout
    done = command("list", "--database", f"postgresql://me:{SECRET}@[::1/x")
    assert done.returncode == 2 and SECRET not in done.stderr, done.stderr


class Deliverer(Program):
    """gilmsg-outbox run in a folder; ready when it delivers."""

    ENDED_BY = signal.SIGTERM

    def __init__(self, folder, *arguments, **env):
        words = [sys.executable, "-m", "gilmsg.commands.outbox", "run", *arguments]
        super().__init__(words, folder, {"HOME": str(folder), **env}, log=pathlib.Path("log"))

    def wait_until_ready(self):
        self.wait_for("delivering as")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_delivers_until_it_is_told_to_end(box, bus, place, tmp_path, number):
    """By the name of its option, with what waits and what comes; its exit status is 0 then."""
    config = own_config(bus, name=None)
    write_config(tmp_path, config)
    early = put(box, "alice", "bob", msg={"text": SECRET}, **config)
    with Deliverer(tmp_path, "--name", "publisher") as running:
        late = put(box, "bob", **config)
        for msg_id in (early, late):
            wait_for(lambda msg_id=msg_id: box.get(msg_id).state == "delivered", f"{msg_id}: {running}")
        assert set(box.get(early).acks) == {"alice", "bob"}
        running.send(number)
        assert running.end() == 0
        assert all(line.startswith("gilmsg-outbox: ") for line in running.lines)
        told = ("publishing as publisher from tcp://", "delivering as publisher from tcp://", "'alice' listens to us at", "ended: ")
        assert all(one in running.out() for one in told), running.out()


@pytest.mark.slow
def test_run_refuses_in_one_line(config, path, tmp_path):
    """Where there is no name, no port, or no database: exit status 2, or 1 if only the database fails."""
    write_config(tmp_path, {**config, "name": None, "gilmsg.outbox.database": path})
    for words, status, told in [
        ([], 2, "give --name"), (["--name", "unknown"], 2, "unknown"), (["--json"], 2, "unrecognized arguments: --json"),
        (["--name", "publisher", "--database", "postgresql://127.0.0.1:1/x"], 1, "cannot be used"),
        (["--name", "publisher", "--database", str(tmp_path)], 2, "not a file"),
    ]:  # fmt: skip
        done = command("run", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (status, "") and len(done.stderr.splitlines()) == 1, done.stderr
        assert told in done.stderr


def logger(folder, text, *arguments, **env):
    words = ["gilmsg.commands.logger", "--topic", "t", "--modname", "shell", *arguments]
    return processes.module(*words, cwd=folder, text=text, env={"HOME": os.getcwd(), **env})


@pytest.fixture
def hosts(tmp_path):
    """The folder of a host that has fedmsg's settings, and neither key, port nor relay."""
    write_config(tmp_path, CONFIG)
    return tmp_path


def test_the_logger_puts_lines_into_an_outbox(hosts):
    """Each good line is there, a bad one is told with its number; nobody is waited for."""
    path = str(hosts / "made.sqlite")
    lines = '{"n": 1}\nbad\n{"n": 2}\n'
    done = logger(hosts, lines, "--outbox", path, "--recipients", "alice,bob", "--json-input", "--verbose")
    assert done.returncode == 2 and done.stderr.startswith("gilmsg-logger: line 2: 'bad' is not JSON"), done.stderr
    with contextlib.closing(gilmsg.outbox.Outbox(path, create=False)) as box:
        found = [box.get(one.msg_id) for one in box.list()]
        assert [json.loads(one.body)["msg"]["n"] for one in found] == [1, 2]
        assert {(one.topic, one.recipients) for one in found} == {("org.example.dev.shell.t", ("alice,bob",))}
    assert done.stdout == "".join(f"{one.msg_id} is in the outbox\n" for one in found)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.slow
def test_the_logger_finds_the_outbox_as_others_do(hosts, path):
    """Without a value of --outbox the environment says where it is, or the configuration."""
    assert logger(hosts, "one\n", "--recipients", "alice", "--outbox", GILMSG_OUTBOX_DATABASE=path).returncode == 0
    write_config(hosts, {**CONFIG, "gilmsg.outbox.database": path})
    assert logger(hosts, "two\n", "--recipients", "alice", "--outbox").returncode == 0
    with contextlib.closing(gilmsg.outbox.Outbox(path)) as box:
        assert box.counts()["waiting"] == 2


@pytest.mark.parametrize(
    "words, status, told",
    [
        ([], 2, "names nobody"), (["--recipients", "alice", "--ack-timeout", "3"], 2, "--ack-timeout"),
        (["--recipients", "alice", "--outbox", "postgresql://127.0.0.1:1/x"], 1, "of this input 0 messages were put"),
    ],
)  # fmt: skip
def test_the_logger_refuses_what_an_outbox_cannot_take(hosts, path, words, status, told):
    """No recipients, a time to wait for them, a database that fails: one line."""
    done = logger(hosts, "one\ntwo\n", "--outbox", path, *words)
    assert done.returncode == status and len(done.stderr.splitlines()) == 1 and told in done.stderr, done.stderr


@pytest.mark.slow
def test_a_program_in_a_sandbox_uses_the_commands(tmp_path):
    """gilmsg-sandbox gives all that is needed: what is put there is delivered there."""
    script = tmp_path / "script"
    script.write_text(f"""
        set -e
        outbox="{shlex.quote(sys.executable)} -m gilmsg.commands.outbox"
        export GILMSG_OUTBOX_DATABASE=$PWD/outbox.sqlite
        echo hello | {shlex.quote(sys.executable)} -m gilmsg.commands.logger --outbox --recipients r1
        $outbox run & deliverer=$!
        for n in $(seq 100); do
            if [ "$($outbox list --json)" = "[]" ]; then break; fi
        done
        kill $deliverer; wait $deliverer
        $outbox list --delivered
    """)
    words = ["--recipients", "r1", "--", "bash", str(script)]
    done = processes.module("gilmsg.commands.sandbox", *words, cwd=tmp_path, limit=2 * LIMIT)
    assert done.returncode == 0, done.stderr
    assert "confirmed by r1\n" in done.stdout and '{"log": "hello"}' in done.stderr, done.stdout


@pytest.mark.slow
def test_the_demo_shows_the_outbox(tmp_path):
    """Two messages wait for a recipient that is dead, and are confirmed once it is back; nothing is left."""
    words = ["gilmsg.commands.demo", "--outbox"]
    done = processes.module(*words, cwd=tmp_path, env={"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}, limit=2 * LIMIT)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    put_there, waiting, delivered = re.split(r"\n\d\. ", done.stdout)[1:]
    ids = re.findall(r"^   (\d{4}-\S+)$", put_there, re.MULTILINE)
    assert len(ids) == 2 and "exit status is 0" in put_there
    for msg_id in ids:
        assert re.search(rf"   {msg_id} waits: backend03: \w+", waiting)
        assert re.search(rf"   {msg_id} confirmed by backend03, \d+\.\d s later, at attempt \d+\n", delivered)
    assert list(tmp_path.iterdir()) == []


def test_the_unit_of_systemd_is_in_order(tmp_path):
    """It runs our command, restarts what fails, leaves time to end; systemd itself finds no fault, where it is."""
    unit = configparser.RawConfigParser()
    unit.optionxform = str
    unit.read_string(UNIT.read_text())
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    scripts = re.findall(r'"(gilmsg-\w+) = gilmsg', (REPOSITORY / "setup.py").read_text())
    assert os.path.basename(program) in scripts and words[0] == "run"
    done = command(*words[:1], "--help")
    assert all(word in done.stdout for word in words if word.startswith("--"))
    assert unit["Service"]["Restart"] == "on-failure" and float(unit["Service"]["TimeoutStopSec"]) > 6
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    if shutil.which("systemd-analyze"):
        copy = tmp_path / UNIT.name
        copy.write_text(UNIT.read_text().replace(program, sys.executable))  # it looks whether that is there
        done = processes.run(["systemd-analyze", "verify", "--man=no", str(copy)])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
