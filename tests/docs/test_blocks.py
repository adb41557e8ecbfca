"""The blocks of README and of the pages do what they say, each on a bus of its own; and what they tell to run does run."""

import asyncio
import contextlib
import importlib.util
import json
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap

import pytest

import gilmsg
import gilmsg.metrics
import gilmsg.outbox
from gilmsg.sandbox import Sandbox

from .. import inside, processes
from ..benchmarks.hops import WAYS
from ..benchmarks.steps import STEPS
from ..conftest import make_known
from ..helpers import Hub, publish, write_config
from ..test_outbox_delivery import until
from .pages import DOCS, shown, text_of

BACKENDS = ["backend01.example.com", "backend02.example.com"]

#: The pages are written for a bus whose prefix and environment are these.
SETTINGS = {
    "topic_prefix": "org.example", "relay": True, "environment": "prod",
    "zmq_reconnect_ivl_max": 100, "gilmsg.head_start": 20.0, "gilmsg.ack_timeout": 10.0,
    "gilmsg.recipients": {"org.example.prod.bodhi": ["backend01.example.com"]},
}


def shell(lines, folder):
    """Run *lines*, with or without a prompt, in *folder*, gilmsg's commands found on the PATH."""
    lines = re.sub(r"^\$ ", "", lines, flags=re.MULTILINE)
    commands = "".join(
        f'gilmsg-{name}() {{ "{sys.executable}" -m gilmsg.commands.{name} "$@"; }}\n'
        for name in ("check", "logger", "outbox", "pki", "tail", "sandbox", "demo")
    )
    return processes.run(["bash", "-c", commands + lines], folder)


LOOPS = {page: shown(page, "import gilmsg\n\nfor") for page in ("README", "guides/publishing")}
HUBS = {page: shown(page, "import gilmsg\n\nclass") for page in ("README", "guides/publishing")}


class Reader(processes.Program):
    """Runs *words* in a folder; what it says is waited for, however it buffers."""

    ENDED_BY = signal.SIGINT

    def __init__(self, words, folder):
        super().__init__(words, folder, {"PYTHONUNBUFFERED": "1"}, stderr=subprocess.STDOUT)


@pytest.fixture
def pages_bus():
    """A bus with the pages' recipients, the service bodhi.app01, and a consumer for a test to play."""
    bus = Sandbox(BACKENDS, **SETTINGS)
    make_known(bus, "backend01", "bodhi.app01")
    with bus:
        yield bus


def ran_here(code):
    """The names that *code* has made, run in this process."""
    names = {"__name__": "compose"}
    exec(compile(code, "page", "exec"), names)  # noqa: S102  # that is what is tested
    return names


@pytest.mark.slow
def test_publishing(
    pages_bus, capsys, monkeypatch,
    codes=(shown("README", "import gilmsg\n\ntry"), shown("guides/publishing", "import gilmsg\n\ntry")),
    acting=shown("reference/reasons", "import gilmsg"),
):  # fmt: skip
    """The examples print who acknowledged; with one of them dead, who did not and why, or what to do about it."""
    monkeypatch.chdir(pages_bus.directory)
    for code in codes:
        ran_here(code)
        acks = capsys.readouterr().out
        assert all(name in acks for name in BACKENDS)
    topics = {message["topic"] for message in pages_bus.received(BACKENDS[0])}
    assert topics == {"org.example.prod.compose.finished", "org.example.prod.compose.compose.finished"}
    assert all(one in text_of("guides/publishing") for one in topics)
    ran_here(acting)
    assert capsys.readouterr().out == ""
    pages_bus.dead(BACKENDS[0])
    for code in (*codes, acting):
        ran_here(code)
        assert re.match(BACKENDS[0] + ":? .*(connected|gone)", capsys.readouterr().out)


def test_the_parts_of_a_topic(config, parts=shown("guides/publishing", "<topic_prefix>")):
    """A topic is put together as the page shows it."""
    names, values = (line.split(sep) for line, sep in zip(parts.splitlines(), (".", None)))
    given = dict(zip((name.strip("<>") for name in names), values))
    config.update(topic_prefix=given["topic_prefix"], environment=given["environment"])
    topic = publish([], topic=given["topic"], modname=given["modname"], **config)
    assert topic is None  # without recipients nobody tells; with them the topic is told
    with pytest.raises(gilmsg.Timeout) as raised:
        publish(["nobody"], topic=given["topic"], modname=given["modname"], ack_timeout=0.01, **{"gilmsg.head_start": 0})
    assert raised.value.topic == ".".join(values)


@pytest.mark.slow
def test_configuring(
    tmp_path, file=shown("reference/keys", 'config = {\n    "topic_prefix"'), own=shown("reference/keys", 'config = {\n    "gilmsg'),
):  # fmt: skip
    """With these files alone, folder and hosts changed, messages arrive at a tail and at a hub; gilmsg-check is content."""
    pki, ports = str(tmp_path / "pki"), inside.free_ports()
    authority = inside.authority(pki)
    for name in ("app01.example.com", BACKENDS[0]):
        authority.issue(name)
    text = re.sub(r"tcp://[^\"]*", lambda _: ports.endpoint(), file.replace("/etc/pki/fedmsg", pki))
    write_config(tmp_path, text)
    write_config(tmp_path, own, "gilmsg.py")
    tail = [sys.executable, "-W", "ignore", "-m", "gilmsg.commands.tail", "--name", "backend01"]
    us = {"name": "bodhi.app01", "gilmsg.head_start": 20.0}
    way = {"topic": "finished", "modname": "compose", "ack_timeout": 10.0, **us}
    try:
        with Reader(tail, tmp_path):
            assert list(publish(None, **way).acks) == BACKENDS[:1]
            assert gilmsg.check(BACKENDS[:1], **us).failures() == []
        folder = tmp_path / "hub"
        write_config(folder, text, "shown.py")
        with Hub(folder, {"name": "backend01"}, ["MyConsumer"], shown("README", "import gilmsg\n\nclass")):
            assert list(publish(None, **way).acks) == BACKENDS[:1]
    finally:
        gilmsg.destroy()
        ports.close()


@pytest.mark.slow
def test_under_asyncio(pages_bus, capsys, monkeypatch, code=shown("guides/asyncio", "import asyncio")):
    """What it publishes is confirmed, and comes back by its own tail; with the recipient dead it says who is missing."""
    monkeypatch.chdir(pages_bus.directory)
    assert code.endswith("asyncio.run(main())")
    names = ran_here(code)
    assert {message["msg"]["id"] for message in pages_bus.received(BACKENDS[0])} == {7, 8}
    assert "missing" not in capsys.readouterr().out

    async def tailed():
        worker = asyncio.create_task(names["work"]())
        receipts = []
        while "Received" not in capsys.readouterr().out:
            receipts.append(await names["finish"](9))
        worker.cancel()
        return receipts

    assert list(asyncio.run(tailed())[-1].acks) == BACKENDS[:1]
    pages_bus.dead(BACKENDS[0])
    assert asyncio.run(names["finish"](8)) is None
    assert BACKENDS[0] in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README", "guides/publishing"])
def test_consuming_in_a_loop(pages_bus, page):
    """The loop acknowledges and prints what is published under its topic."""
    folder = pathlib.Path(pages_bus.directory)
    (folder / "loop.py").write_text(LOOPS[page])
    with (folder / "fedmsg.d" / "zzz.py").open("w") as stream:
        stream.write("config = {'name': 'backend01'}")
    with Reader([sys.executable, "loop.py"], folder) as loop:
        config = dict(pages_bus.config, name="publisher")
        receipt = publish(["backend01"], **dict(config, topic="finished", modname="compose", msg={"id": 4711}))
        loop.wait_for("Received org.example.prod.compose.finished " + ("4711" if page == "README" else receipt.msg_id))


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README", "guides/publishing"])
def test_in_a_hub(pages_bus, tmp_path, page):
    """fedmsg-hub calls the consumer with what was acknowledged."""
    config = dict(pages_bus.config, name="backend01")
    source = "import functools\nprint = functools.partial(print, flush=True)\n" + HUBS[page]
    with Hub(tmp_path / "hub", config, ["MyConsumer"], source) as hub:
        way = {"topic": "rawhide.complete", "modname": "compose"}
        receipt = publish(["backend01"], msg={"id": 4711}, **way, **pages_bus.config)
        hub.wait_for("Received org.example.prod.compose.rawhide.complete " + ("4711" if page == "README" else receipt.msg_id))


def stores(config, folder):
    """What the handler has stored is confirmed, and what it cannot store is rejected."""
    topic = {"topic": "complete", "modname": "compose.rawhide"}
    publish(["backend01"], msg={"id": 4711}, **topic, **config)
    assert (folder / "composes.txt").read_text() == "4711\n"
    with pytest.raises(gilmsg.Timeout) as raised:
        publish(["backend01"], msg={}, fail_fast=True, ack_timeout=60.0, **topic, **config)
    assert raised.value.missing["backend01"].code == "nacked"


@pytest.mark.slow
def test_acknowledging_after_in_a_loop(pages_bus, code=shown("guides/after", "import gilmsg\n\nmessages")):
    """The loop acknowledges what is in its file."""
    folder = pathlib.Path(pages_bus.directory)
    (folder / "after.py").write_text(code)
    with (folder / "fedmsg.d" / "zzz.py").open("w") as stream:
        stream.write("config = {'name': 'backend01'}")
    with Reader([sys.executable, "after.py"], folder):
        stores(dict(pages_bus.config, name="publisher"), folder)


@pytest.mark.slow
def test_acknowledging_after_in_a_hub(pages_bus, tmp_path, code=shown("guides/after", "import gilmsg\n\nclass")):
    """So does the consumer."""
    config = dict(pages_bus.config, name="backend01")
    with Hub(tmp_path / "hub", config, ["MyConsumer"], code):
        stores(pages_bus.config, tmp_path / "hub")


DATABASE = shown("guides/outbox", "# database.py")


def inside_of(folder, block):
    """The *block*, its databases in *folder*."""
    return block.replace("/var/lib/app", str(folder))


@pytest.fixture
def applications_database(pages_bus, tmp_path, monkeypatch):
    """The page's database.py in the folder of the bus, with the update 7; the database is in *tmp_path*."""
    folder = pathlib.Path(pages_bus.directory)
    (folder / "database.py").write_text(inside_of(tmp_path, DATABASE))
    monkeypatch.chdir(folder)
    ran(folder, "from database import *", "with Session.begin() as session: session.add(Update(id=7, state='new'))")
    return tmp_path / "app.sqlite"


def ran(folder, *lines):
    """What a process in *folder* prints that runs *lines*."""
    done = processes.run([sys.executable, "-W", "ignore", "-c", "\n".join(lines)], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def arrives_once(database, msg_id, bus):
    """What an application has put is delivered from its *database*; and the update was changed with it."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT state FROM updates").fetchall() == [("pushing",)]
    with contextlib.closing(gilmsg.outbox.Outbox(database)) as box:
        box.start(**bus.config)
        assert list(until(box, msg_id).acks) == BACKENDS[:1]
        box.stop()
        assert list(box.list()) == []
    [message] = bus.received(BACKENDS[0])
    assert (message["topic"], message["msg"]["id"]) == ("org.example.prod.bodhi.update.request", 7)


@pytest.mark.slow
def test_an_outbox_with_flask(pages_bus, applications_database, code=shown("guides/web", "# web.py")):
    """A request changes the update and puts the message; where the update is not there, neither."""
    folder = pathlib.Path(pages_bus.directory)
    (folder / "web.py").write_text(code)
    [status, msg_id, unknown] = ran(
        folder, "from web import app", "client = app.test_client()", "response = client.post('/updates/7/push')",
        "print(response.status_code, response.json['msg_id'], client.post('/updates/8/push').status_code)",
    )  # fmt: skip
    assert (status, unknown) == ("202", "500")
    arrives_once(applications_database, msg_id, pages_bus)


#: The application that the page's views.py belongs to, and a request to it.
DJANGO = """
import django, json
from django.conf import settings
database = {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE}
settings.configure(INSTALLED_APPS=["bodhi"], DATABASES={"default": database}, DEFAULT_AUTO_FIELD="django.db.models.AutoField")
django.setup()
from django.test import RequestFactory
import views
print(json.loads(views.push(RequestFactory().post("/"), 7).content)["msg_id"])
"""

MODELS = """
from django.db import models
class Update(models.Model):
    state = models.TextField()
    class Meta:
        db_table = "updates"
        managed = False
"""


@pytest.mark.slow
def test_an_outbox_with_django(pages_bus, applications_database, code=shown("guides/web", "# views.py")):
    """A view changes the update and puts the message, in Django's transaction."""
    folder = pathlib.Path(pages_bus.directory)
    (folder / "bodhi").mkdir()
    (folder / "bodhi" / "__init__.py").touch()
    (folder / "bodhi" / "models.py").write_text(MODELS)
    (folder / "views.py").write_text(inside_of(applications_database.parent, code))
    [msg_id] = ran(folder, f"DATABASE = {str(applications_database)!r}", DJANGO)
    arrives_once(applications_database, msg_id, pages_bus)


@pytest.mark.slow
def test_an_outbox_of_ones_own(pages_bus, tmp_path, monkeypatch, code=shown("guides/outbox", "import gilmsg.outbox\n\nbox")):
    """The message is delivered from that file."""
    monkeypatch.chdir(pages_bus.directory)
    names = ran_here(inside_of(tmp_path, code))
    with contextlib.closing(names["box"]) as box:
        assert list(until(box, names["msg_id"]).acks) == BACKENDS[:1]
        box.stop()


@pytest.mark.slow
def test_an_inbox(pages_bus, applications_database, tmp_path, code=shown("guides/outbox", "import gilmsg\nimport gilmsg.outbox")):
    """A message that comes again, as from a restored backup, is acknowledged again; its work is done once."""
    folder, config = tmp_path / "hub", dict(pages_bus.config, name="backend01")
    source, place = inside_of(tmp_path, code), tmp_path / "sender.sqlite"
    folder.mkdir()
    (folder / "database.py").write_text(inside_of(tmp_path, DATABASE))
    with Hub(folder, config, ["Pusher"], source), contextlib.closing(gilmsg.outbox.Outbox(place)) as box:
        how = {"topic": "update.request", "modname": "bodhi", "recipients": ["backend01"], **pages_bus.config}
        msg_id = box.put(msg={"id": 4711}, **how)
        with contextlib.closing(sqlite3.connect(place)) as source, contextlib.closing(sqlite3.connect(tmp_path / "copy")) as copy:
            source.backup(copy)
        for one in (box, gilmsg.outbox.Outbox(tmp_path / "copy")):
            one.start(**pages_bus.config)
            assert until(one, msg_id).attempts == 1
            one.stop()
            one.close()
    with contextlib.closing(sqlite3.connect(applications_database)) as connection:
        assert connection.execute("SELECT id, state FROM updates").fetchall() == [(7, "new"), (4711, "pushed")]


@pytest.mark.slow
def test_the_shell(
    pages_bus, tmp_path,
    echoes=(shown("guides/terminal", "$ echo"), shown("guides/relay", "$ echo")), tail=shown("guides/terminal", "$ gilmsg-tail"),
):  # fmt: skip
    """gilmsg-logger is silent and ends with 0; gilmsg-tail runs its command for what comes."""
    for echo in echoes:
        done = shell(echo, pages_bus.directory)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # jq need not be installed: this one stands for it.
    jq = tmp_path / "jq"
    show = 'import json, sys; print(json.load(sys.stdin)["msg"]["id"])'
    jq.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{show}'\n")
    jq.chmod(0o755)
    rest = tail.partition("gilmsg-tail")[2]
    words = f"PATH='{tmp_path}':$PATH; exec '{sys.executable}' -m gilmsg.commands.tail{rest}"
    with Reader(["bash", "-c", words], pages_bus.directory) as running:
        publish(["backend01"], msg={"id": 4711}, **pages_bus.config)
        running.wait_for("4711\n")


@pytest.mark.slow
def test_through_a_relay(
    pages_bus, tmp_path, code=shown("guides/relay", "import gilmsg"), file=shown("guides/relay", "# fedmsg.d/relay.py"),
):  # fmt: skip
    """A process that binds no port publishes by way of the relay, of which the file tells; who received it confirms."""
    config, shell_here = pages_bus.config, f"shell.{socket.gethostname().partition('.')[0]}"
    for theirs, ours in [
        ("tcp://relay.example.com:9941", config.pop("relay_inbound")), ("shell.web01", shell_here),
        ("tcp://relay.example.com:9940", *config["endpoints"].pop("relay_outbound")),
        ("shell-web01.example.com", config["certnames"].pop(shell_here)),
    ]:  # fmt: skip
        assert file.count(f'"{theirs}"') == 1
        file = file.replace(f'"{theirs}"', repr(ours))
    write_config(tmp_path, config)
    write_config(tmp_path, file, "relay.py")
    # As gilmsg-logger does, under the certificate of the shell.
    done = processes.python(code, tmp_path)
    assert done.stdout == f"org.example.prod.compose.finished {BACKENDS[:1]}\n", done


@pytest.mark.slow
def test_without_a_change_to_the_code(
    pages_bus, file=shown("guides/migrating", "# fedmsg.d/gilmsg.py"), code=shown("guides/migrating", "# compose.py"),
):  # fmt: skip
    """The file names who has to confirm, and the program's import is all that has changed."""
    folder = pathlib.Path(pages_bus.directory)
    write_config(folder, file, "zzz.py")
    assert processes.python(code, folder, flags=["-W", "ignore"]).returncode == 0
    [message] = pages_bus.received(BACKENDS[0])
    assert (message["topic"], message["msg"]["id"]) == ("org.example.prod.compose.finished", 7)
    pages_bus.dead(BACKENDS[0])
    assert "Timeout" in processes.python(code, folder, flags=["-W", "ignore"]).stderr


@pytest.mark.slow
def test_the_outbox_in_the_shell(pages_bus, tmp_path, block=shown("guides/terminal", "$ export GILMSG")):
    """What is put waits, is listed, and is delivered once the deliverer runs."""
    *lines, run = inside_of(tmp_path, block).splitlines()
    done = shell("\n".join(lines), pages_bus.directory)
    assert done.returncode == 0 and f"{BACKENDS[0]}: it was not sent yet" in done.stdout, done.stderr
    words = [sys.executable, "-m", "gilmsg.commands.outbox", *run.split()[2:]]
    deliverer = Reader(["env", f"GILMSG_OUTBOX_DATABASE={tmp_path}/outbox.sqlite", *words], pages_bus.directory)
    with contextlib.closing(gilmsg.outbox.Outbox(tmp_path / "outbox.sqlite")) as box, deliverer:
        deliverer.wait_for("delivering as bodhi.app01")
        processes.wait_for(lambda: box.counts()["delivered"] == 1, f"it is delivered: {deliverer}")


@pytest.mark.slow
def test_keys_in_the_shell(tmp_path, block=shown("guides/terminal", "$ gilmsg-pki init")):
    """It makes a CA in the home folder, and a pair for each name."""
    done = shell(f"HOME={tmp_path}\n{block}", tmp_path)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "bus-ca").iterdir()}
    assert {"ca.crt", "crl.pem", "backend01.example.com.key", "bodhi-app01.example.com.crt"} < names


@pytest.mark.slow
def test_checking(
    pages_bus, monkeypatch,
    lines=shown("guides/terminal", "$ gilmsg-check"), code=shown("guides/terminal", "report ="), nagios=shown("operations/alerts", "$ "),
):  # fmt: skip
    """Each command line finds all in order, but cannot see who is behind a relay; one prints JSON, one a line for Nagios."""
    command, _, answer = nagios.partition("\n")
    done = shell(command, pages_bus.directory)
    assert (done.returncode, done.stdout.rstrip()) == (0, answer), done
    for line in lines.splitlines():
        done = shell(line, pages_bus.directory)
        assert done.returncode == (3 if "--active" in line else 0), done.stdout + done.stderr
        assert "--json" not in line or json.loads(done.stdout)["recipients"].keys() == {BACKENDS[0]}, done.stdout
    monkeypatch.chdir(pages_bus.directory)
    names = ran_here(f"import gilmsg\n{code}")
    assert names["report"], names["report"].failures()


@pytest.mark.slow
def test_metrics_of_a_service(pages_bus, block=shown("operations/metrics", "import gilmsg.metrics")):
    """What it registers is served at the port that it names; the page's table has each metric, and no other."""
    port = str(processes.port_of(pages_bus.ports.endpoint()))
    scrape = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{port}/metrics').read().decode())"
    done = processes.python(f"{block.replace('9464', port)}\n{scrape}", pages_bus.directory)
    assert done.returncode == 0, done.stderr
    served = set(re.findall(r"^# HELP (gilmsg_\w+)", done.stdout, re.MULTILINE))
    assert served == set(re.findall(r"``(gilmsg_\w+)``", text_of("operations/metrics"))) and len(served) > 10


@pytest.mark.slow
def test_a_bus_on_the_laptop(
    tmp_path, command=shown("guides/terminal", "$ gilmsg-sandbox ~/bus"), relay=shown("README", "gilmsg-sandbox ~/bus"),
    lines=shown("README", "echo testing"),
):  # fmt: skip
    """gilmsg-sandbox runs in the named folder; on it README's commands confirm, check and tail."""
    assert relay == command.replace("$ ", "") + " --relay"
    words = relay.replace("~", str(tmp_path)).split()
    with Reader([sys.executable, "-m", "gilmsg.commands.sandbox", *words[1:]], tmp_path) as running:
        running.wait_for("Ctrl-C ends it")
        echo, check, tail = lines.splitlines()
        with Reader([sys.executable, "-m", "gilmsg.commands.tail", *tail.split()[1:]], tmp_path / "bus") as tailing:
            assert [shell(line, tmp_path / "bus").returncode for line in (echo, check)] == [0, 0]

            def seen():
                return shell(echo, tmp_path / "bus").returncode == 0 and '"testing"' in tailing.out()

            processes.wait_for(seen, f"the tail shows what is published: {tailing}")


@pytest.mark.slow
def test_a_command_on_the_bus(tmp_path, line=shown("guides/terminal", "$ gilmsg-sandbox --recipients")):
    """Typed beside a script, the line runs it with the bus around it, and ends as it does."""
    script = tmp_path / "my_tests.sh"
    call = {"topic": "t", "msg": {}, "recipients": ["backend01"], "ack_timeout": 10, "gilmsg.head_start": 20}
    run = f"'{sys.executable}' -W ignore -m tests.programs.publish '{json.dumps(call)}'"
    script.write_text(f"#!/bin/sh\n{run}\nexit 7\n")
    script.chmod(0o755)
    done = shell(line, tmp_path)
    assert (done.returncode, done.stdout.split()[1:]) == (7, ["backend01"]), done.stderr


#: What makes each command for faults and figures small, put after the page's own options; which exit
#: statuses are right; and what it prints then. Where a status judges a stopwatch, either may come.
SMALL = {
    "tests.faults": ("--seconds 1", [0], "violations +0"),
    "tests.faults.outbox": ("--seconds 1 --database sqlite", [0], "violations +0"),
    "tests.faults.leftovers": ("--count 20", [0], "nothing left behind"),
    "tests.faults.interrupts": ("--seconds 1", [0], "'struck': [0-9]+"),
    "tests.faults.flood": ("--seconds 1 --rate 200 --kind unknown --ack-timeout 20", [0], "unknown +[0-9]+"),
    "tests.faults.fuzz_atheris": ("-max_total_time=2", [0], "Done [0-9]+ runs"),
    "tests.benchmarks.coldstart": ("--count 1 --ack-timeout 10 --head-start 20", [0], "tail +1 of 1 succeeded"),
    "tests.benchmarks.warm overrun": ("--count 3", [0, 1], "3 Timeouts"),
    "tests.benchmarks.warm restarts": ("--count 1 --ack-timeout 5", [0], "1 restarts"),
    "tests.benchmarks": ("--quick --only deadlines", [0, 1], "overrun of ack_timeout"),
}


def commands(block):
    """What it runs -> the line of the page, the prompt and the comment left out."""
    lines = [line[2:].partition("  #")[0].split() for line in block.splitlines()]
    return {re.sub(" -.*", "", " ".join(words[2:])): words for words in lines}


def test_the_profile_has_the_steps_that_the_page_shows(profile=shown("explanation/performance", "microseconds")):
    """The table of a publish's steps is one that tests.benchmarks.steps prints; its figures are of one machine."""
    rows = profile.splitlines()[1:]
    assert [row[:24].rstrip() for row in rows] == [name for name, _, _ in STEPS]
    for row in rows:
        ours, floor, more = map(int, row[24:].split())
        assert abs(ours - floor - more) <= 1  # each is rounded by itself


def test_the_floors_engines_are_those_that_the_page_shows(both=shown("explanation/performance", "one by one")):
    """The tables are those that tests.benchmarks.hops prints, their ratios are of their times, roughly: medians of rounds."""
    for found in both.split("\n\n"):
        rows = [row.rsplit(None, 2) for row in found.splitlines()[1:]]
        assert [name for name, _, _ in rows] == list(WAYS)
        for _, microseconds, ratio in rows:
            assert abs(float(microseconds) / float(rows[0][1]) / float(ratio) - 1) < 0.1


def shown_in(docstring):
    """The code that a docstring shows, and so the reference."""
    return textwrap.dedent(re.search(r"::\n\n((?:    .*\n|\n)+)", docstring)[1]).strip()


#: The docstrings on the page of the interface that show code; what the Inbox shows is that of test_an_inbox, put short.
DOCSTRINGS = {
    "sandbox": shown_in(gilmsg.sandbox.__doc__),
    "metrics": shown_in(gilmsg.metrics.__doc__),
    "inbox": shown_in(textwrap.dedent(f"    {gilmsg.outbox.Inbox.__doc__}")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sandbox", "metrics"])
def test_what_docstrings_show(tmp_path, name):
    """It runs as it stands there, in an empty folder."""
    done = processes.python(DOCSTRINGS[name], tmp_path, flags=["-W", "ignore"], env={"HOME": str(tmp_path)})
    assert done.returncode == 0, done


def test_the_exceptions_are_as_their_module_has_them(tree=shown("reference/api", "GilmsgError")):
    """The tree of the exceptions is the one of the docstring."""
    assert " ".join(tree.split()) in " ".join(gilmsg.errors.__doc__.split())


@pytest.mark.slow
@pytest.mark.parametrize("what", SMALL)
def test_faults_and_figures(tmp_path, what, block=shown("developing", "$ .venv/bin/python -m tests.faults")):
    """Each command runs as the page has it, but fewer times, and finds nothing wrong; the list is complete."""
    lines = commands(block)
    assert lines.keys() == SMALL.keys()
    more, statuses, prints = SMALL[what]
    # The benchmarks renew the page of the folder that they run in.
    page = tmp_path / "docs" / "explanation" / "performance.rst"
    page.parent.mkdir(parents=True)
    shutil.copy(DOCS / "explanation" / "performance.rst", page)
    words = lines[what] + more.split()
    assert words[0] == ".venv/bin/python"
    done = processes.run([sys.executable, "-W", "ignore"] + words[1:], tmp_path, limit=300)
    told = done.stdout + done.stderr
    if what == "tests.faults.fuzz_atheris" and not importlib.util.find_spec("atheris"):
        # No wheel of it for every Python, so it is not in the test extra.
        statuses, prints = [1], "No module named 'atheris'"
    assert done.returncode in statuses, told
    assert re.search(prints, told), told
    unchanged = page.read_text(encoding="utf-8") == text_of("explanation/performance")
    assert unchanged == (what != "tests.benchmarks")
