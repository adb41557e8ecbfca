"""README can be rendered, its picture is what its source says, and what it tells to run does run."""

import ast
import asyncio
import contextlib
import importlib.util
import io
import json
import pathlib
import re
import shutil
import signal
import sqlite3
import subprocess
import sys

import docutils.core
import docutils.nodes
import pytest

import gilmsg
import gilmsg.outbox
from gilmsg.sandbox import Sandbox

from . import inside, processes
from .benchmarks.steps import STEPS
from .conftest import make_known
from .helpers import Hub, publish, write_config
from .processes import REPOSITORY
from .test_outbox_delivery import until

#: The literal blocks of each section: how they begin, and what runs them.
BLOCKS = {
    "Quick start": {"python3 -m venv": ".ci/run, word for word; the demo below and in test_hub"},
    "How it goes": {"success": "test_the_picture_is_what_its_source_says"},
    "Publishing": {
        "import gilmsg": "test_publishing", "config =": "test_configuring",
    },
    "Consuming": {"import gilmsg\n\nfor name": "test_consuming_in_a_loop", "import gilmsg\n\nclass": "test_in_a_hub"},
    "asyncio": {"import asyncio": "test_under_asyncio"},
    "Acknowledging after": {
        "import gilmsg\n\nmessages": "test_acknowledging_after_in_a_loop",
        "import gilmsg\n\nclass": "test_acknowledging_after_in_a_hub",
    },
    "The outbox": {
        "# database.py": "test_an_outbox_with_flask", "# web.py": "test_an_outbox_with_flask",
        "# views.py": "test_an_outbox_with_django", "import gilmsg.outbox\n\nbox": "test_an_outbox_of_ones_own",
        "import gilmsg\nimport gilmsg.outbox": "test_an_inbox",
    },
    "The shell": {
        "echo testing |": "test_the_shell", "gilmsg-tail": "test_the_shell",
        "export GILMSG_OUTBOX_DATABASE": "test_the_outbox_in_the_shell", "gilmsg-pki init": "test_keys_in_the_shell",
    },
    "Before it fails": {"gilmsg-check": "test_checking", "report =": "test_checking"},
    "A bus on the laptop": {
        "gilmsg-sandbox ~/bus": "test_a_bus_on_the_laptop", "gilmsg-sandbox --recipients": "test_a_command_on_the_bus",
    },
    "Testing your code": {
        "# compose.py": "test_testing.py", "# test_compose.py": "test_testing.py",
        "# other_runner.py": "test_testing.py",
    },
    "Operations": {"config =": "test_shell.py"},
    "Metrics": {"import gilmsg.metrics": "test_metrics_of_a_service"},
    "Performance": {"microseconds": "test_the_profile_has_the_steps_that_readme_shows"},
    "Developing": {
        "python3 -m venv": ".ci/run, by the quick start", ".venv/bin/python -m tests.faults": "test_faults_and_figures",
    },
}


def document(name):
    """The document tree of *name*; its warnings go to the second value."""
    warnings = io.StringIO()
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    settings = {"report_level": 1, "warning_stream": warnings, "file_insertion_enabled": False}
    return docutils.core.publish_doctree(text, settings_overrides=settings), warnings.getvalue()


@pytest.fixture(scope="module")
def sections():
    """The sections of README: title -> node."""
    tree, _ = document("README.rst")
    return {section[0].astext(): section for section in tree.findall(docutils.nodes.section)}


@pytest.fixture(scope="module")
def readme(sections):
    """Section -> its literal blocks."""
    return {
        title: [block.astext() for block in section.findall(docutils.nodes.literal_block)]
        for title, section in sections.items()
    }


@pytest.mark.parametrize("name", ["README.rst", "CHANGELOG.rst"])
def test_it_renders_without_a_warning(name):
    """docutils has nothing to say about it, not even at the level of information."""
    assert document(name)[1] == ""


def test_every_block_is_run_by_a_test(readme):
    """Each literal block is known here: a new one needs a test that runs it."""
    for section, blocks in readme.items():
        known = list(BLOCKS.get(section, ()))
        assert len(blocks) == len(known), f"{section}: {blocks}"
        for begin, block in zip(known, blocks):
            assert block.startswith(begin), (section, block)


def test_the_profile_has_the_steps_that_readme_shows(readme):
    """The table of a publish's steps is one that tests.benchmarks.steps prints; its figures are of one machine."""
    rows = readme["Performance"][0].splitlines()[1:]
    assert [row[:24].rstrip() for row in rows] == [name for name, _, _ in STEPS]
    for row in rows:
        ours, floor, more = map(int, row[24:].split())
        assert abs(ours - floor - more) <= 1  # each is rounded by itself


def test_the_modules_that_are_named_exist(sections):
    """Whoever reads the code by README finds each module, and each room, that it sends him to."""
    words = [one.astext() for one in sections["Developing"].findall(docutils.nodes.literal)]
    named = {word for word in words if re.match(r"_[a-z_]+(/[a-z_]+)?\Z", word)}
    home = pathlib.Path(gilmsg.__file__).parent
    assert len(named) > 5
    assert not [one for one in named if not (home / one).is_dir() and not (home / (one + ".py")).is_file()]


def test_the_picture_is_what_its_source_says(readme):
    """docs/publish.svg and the text form in README are made of docs/publish.seq."""
    path = REPOSITORY / "docs" / "sequence.py"
    spec = importlib.util.spec_from_file_location("sequence", str(path))
    sequence = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sequence)
    drawn = sequence.parsed((path.parent / "publish.seq").read_text(encoding="utf-8"))
    assert (path.parent / "publish.svg").read_text(encoding="utf-8") == sequence.as_svg(*drawn)
    assert readme["How it goes"] == [sequence.as_text(*drawn).rstrip()]


def texts_of_gilmsg():
    """Every string in gilmsg's source but docstrings, as it stands there: "%s" and the like are not filled in."""
    for path in sorted(pathlib.Path(gilmsg.__file__).parent.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                yield node.value


def test_what_the_operator_reads_is_what_gilmsg_says(sections):
    """In the table of "What happens when", each quoted reason occurs in gilmsg's own words.

    "...", colon and semicolon stand where gilmsg fills something in, or puts sentences together.
    """
    table = next(sections["What happens when"].findall(docutils.nodes.table))
    cells = [list(row.findall(docutils.nodes.entry))[-1] for row in table.findall(docutils.nodes.row)]
    quoted = [" ".join(one.astext().split()) for cell in cells for one in cell.findall(docutils.nodes.literal)]
    pieces = {piece.strip(" ,") for one in quoted for piece in re.split(r"\.\.\.|[:;]", one)} - {""}
    assert len(quoted) > 15 and len(pieces) > 15
    said = list(texts_of_gilmsg())
    errors = set(gilmsg.errors.__all__)
    assert not [piece for piece in pieces - errors if not any(piece in text for text in said)]


BACKENDS = ["backend01.example.com", "backend02.example.com"]

#: README is written for a bus whose prefix and environment are these.
SETTINGS = {
    "topic_prefix": "org.example", "relay": True, "environment": "prod",
    "zmq_reconnect_ivl_max": 100, "gilmsg.head_start": 20.0, "gilmsg.ack_timeout": 10.0,
    "gilmsg.recipients": {"org.example.prod.bodhi": ["backend01.example.com"]},
}


def shell(lines, folder):
    """Run *lines* in *folder*, gilmsg's commands found on the PATH."""
    commands = "".join(
        f'gilmsg-{name}() {{ "{sys.executable}" -m gilmsg.commands.{name} "$@"; }}\n'
        for name in ("check", "logger", "outbox", "pki", "tail", "sandbox", "demo")
    )
    return processes.run(["bash", "-c", commands + lines], folder)


class Reader(processes.Program):
    """Runs *words* in a folder; what it says is waited for, however it buffers."""

    ENDED_BY = signal.SIGINT

    def __init__(self, words, folder):
        super().__init__(words, folder, {"PYTHONUNBUFFERED": "1"}, stderr=subprocess.STDOUT)


@pytest.fixture
def readmes_bus():
    """A bus with README's recipients, the service bodhi.app01, and a consumer for a test to play."""
    bus = Sandbox(BACKENDS, **SETTINGS)
    make_known(bus, "backend01", "bodhi.app01")
    with bus:
        yield bus


@pytest.mark.slow
def test_publishing(readme, readmes_bus, capsys, monkeypatch):
    """The example prints who acknowledged; with one of them dead, who did not and why."""
    monkeypatch.chdir(readmes_bus.directory)
    code = compile(readme["Publishing"][0], "README", "exec")
    exec(code, {"__name__": "example"})  # noqa: S102  # that is what is tested
    acks = capsys.readouterr().out
    assert all(name in acks for name in BACKENDS)
    readmes_bus.dead(BACKENDS[0])
    exec(code, {"__name__": "example"})  # noqa: S102  # that is what is tested
    assert re.match(BACKENDS[0] + " .*(connected|gone)", capsys.readouterr().out)


def test_configuring(readme, tmp_path):
    """With that file alone, its folder and hosts changed, a message arrives, and all is as gilmsg-check wants it."""
    pki, ports = str(tmp_path / "pki"), inside.free_ports()
    authority = inside.authority(pki)
    for name in ("app01.example.com", BACKENDS[0]):
        authority.issue(name)
    text = readme["Publishing"][1].replace("/etc/pki/fedmsg", pki)
    write_config(tmp_path, re.sub(r"tcp://[^\"]*", lambda _: ports.endpoint(), text))
    tail = [sys.executable, "-W", "ignore", "-m", "gilmsg.commands.tail", "--name", "backend01"]
    us = {"name": "bodhi.app01", "gilmsg.head_start": 20.0}
    try:
        with Reader(tail, tmp_path):
            assert list(publish(BACKENDS[:1], ack_timeout=10.0, **us).acks) == BACKENDS[:1]
            assert gilmsg.check(BACKENDS[:1], **us).failures() == []
    finally:
        gilmsg.destroy()
        ports.close()


@pytest.mark.slow
def test_under_asyncio(readme, readmes_bus, capsys, monkeypatch):
    """What it publishes is confirmed, and comes back by its own tail; with the recipient dead it says who is missing."""
    monkeypatch.chdir(readmes_bus.directory)
    code = readme["asyncio"][0]
    assert code.endswith("asyncio.run(main())")
    names = {"__name__": "compose"}
    exec(compile(code, "README", "exec"), names)  # noqa: S102  # that is what is tested
    assert {message["msg"]["id"] for message in readmes_bus.received(BACKENDS[0])} == {7, 8}
    assert "missing" not in capsys.readouterr().out

    async def tailed():
        worker = asyncio.create_task(names["work"]())
        receipts = []
        while "Received" not in capsys.readouterr().out:
            receipts.append(await names["finish"](9))
        worker.cancel()
        return receipts

    assert list(asyncio.run(tailed())[-1].acks) == BACKENDS[:1]
    readmes_bus.dead(BACKENDS[0])
    assert asyncio.run(names["finish"](8)) is None
    assert BACKENDS[0] in capsys.readouterr().out


@pytest.mark.slow
def test_consuming_in_a_loop(readme, readmes_bus):
    """The loop acknowledges and prints what is published under its topic."""
    folder = pathlib.Path(readmes_bus.directory)
    (folder / "loop.py").write_text(readme["Consuming"][0])
    with (folder / "fedmsg.d" / "zzz.py").open("w") as stream:
        stream.write("config = {'name': 'backend01'}")
    with Reader([sys.executable, "loop.py"], folder) as loop:
        config = dict(readmes_bus.config, name="publisher")
        receipt = publish(["backend01"], **dict(config, topic="finished", modname="compose"))
        loop.wait_for("Received org.example.prod.compose.finished " + receipt.msg_id)


@pytest.mark.slow
def test_in_a_hub(readme, readmes_bus, tmp_path):
    """fedmsg-hub calls the consumer with what was acknowledged."""
    config = dict(readmes_bus.config, name="backend01")
    source = "import functools\nprint = functools.partial(print, flush=True)\n" + readme["Consuming"][1]
    with Hub(tmp_path / "hub", config, ["MyConsumer"], source) as hub:
        way = {"topic": "rawhide.complete", "modname": "compose"}
        receipt = publish(["backend01"], **way, **readmes_bus.config)
        hub.wait_for("Received org.example.prod.compose.rawhide.complete " + receipt.msg_id)


def stores(config, folder):
    """What the handler has stored is confirmed, and what it cannot store is rejected."""
    topic = {"topic": "complete", "modname": "compose.rawhide"}
    publish(["backend01"], msg={"id": 4711}, **topic, **config)
    assert (folder / "composes.txt").read_text() == "4711\n"
    with pytest.raises(gilmsg.Timeout) as raised:
        publish(["backend01"], msg={}, fail_fast=True, ack_timeout=60.0, **topic, **config)
    assert raised.value.missing["backend01"].code == "nacked"


@pytest.mark.slow
def test_acknowledging_after_in_a_loop(readme, readmes_bus):
    """The loop acknowledges what is in its file."""
    folder = pathlib.Path(readmes_bus.directory)
    (folder / "after.py").write_text(readme["Acknowledging after"][0])
    with (folder / "fedmsg.d" / "zzz.py").open("w") as stream:
        stream.write("config = {'name': 'backend01'}")
    with Reader([sys.executable, "after.py"], folder):
        stores(dict(readmes_bus.config, name="publisher"), folder)


@pytest.mark.slow
def test_acknowledging_after_in_a_hub(readme, readmes_bus, tmp_path):
    """So does the consumer."""
    config = dict(readmes_bus.config, name="backend01")
    with Hub(tmp_path / "hub", config, ["MyConsumer"], readme["Acknowledging after"][1]):
        stores(readmes_bus.config, tmp_path / "hub")


def outbox_block(readme, number, folder):
    """The block of README's section, its databases in *folder*."""
    return readme["The outbox"][number].replace("/var/lib/app", str(folder))


@pytest.fixture
def applications_database(readme, readmes_bus, tmp_path, monkeypatch):
    """README's database.py in the folder of the bus, with the update 7; the database is in *tmp_path*."""
    folder = pathlib.Path(readmes_bus.directory)
    (folder / "database.py").write_text(outbox_block(readme, 0, tmp_path))
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
def test_an_outbox_with_flask(readme, readmes_bus, applications_database):
    """A request changes the update and puts the message; where the update is not there, neither."""
    folder = pathlib.Path(readmes_bus.directory)
    (folder / "web.py").write_text(outbox_block(readme, 1, folder))
    [status, msg_id, unknown] = ran(
        folder, "from web import app", "client = app.test_client()", "response = client.post('/updates/7/push')",
        "print(response.status_code, response.json['msg_id'], client.post('/updates/8/push').status_code)",
    )  # fmt: skip
    assert (status, unknown) == ("202", "500")
    arrives_once(applications_database, msg_id, readmes_bus)


#: The application that README's views.py belongs to, and a request to it.
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
def test_an_outbox_with_django(readme, readmes_bus, applications_database):
    """A view changes the update and puts the message, in Django's transaction."""
    folder = pathlib.Path(readmes_bus.directory)
    (folder / "bodhi").mkdir()
    (folder / "bodhi" / "__init__.py").touch()
    (folder / "bodhi" / "models.py").write_text(MODELS)
    (folder / "views.py").write_text(outbox_block(readme, 2, applications_database.parent))
    [msg_id] = ran(folder, f"DATABASE = {str(applications_database)!r}", DJANGO)
    arrives_once(applications_database, msg_id, readmes_bus)


@pytest.mark.slow
def test_an_outbox_of_ones_own(readme, readmes_bus, tmp_path, monkeypatch):
    """The message is delivered from that file."""
    monkeypatch.chdir(readmes_bus.directory)
    names = {"__name__": "example"}
    exec(compile(outbox_block(readme, 3, tmp_path), "README", "exec"), names)  # noqa: S102  # that is what is tested
    with contextlib.closing(names["box"]) as box:
        assert list(until(box, names["msg_id"]).acks) == BACKENDS[:1]
        box.stop()


@pytest.mark.slow
def test_an_inbox(readme, readmes_bus, applications_database, tmp_path):
    """A message that comes again, as from a restored backup, is acknowledged again; its work is done once."""
    folder, config = tmp_path / "hub", dict(readmes_bus.config, name="backend01")
    source, place = outbox_block(readme, 4, tmp_path), tmp_path / "sender.sqlite"
    folder.mkdir()
    (folder / "database.py").write_text(outbox_block(readme, 0, tmp_path))
    with Hub(folder, config, ["Pusher"], source), contextlib.closing(gilmsg.outbox.Outbox(place)) as box:
        how = {"topic": "update.request", "modname": "bodhi", "recipients": ["backend01"], **readmes_bus.config}
        msg_id = box.put(msg={"id": 4711}, **how)
        with contextlib.closing(sqlite3.connect(place)) as source, contextlib.closing(sqlite3.connect(tmp_path / "copy")) as copy:
            source.backup(copy)
        for one in (box, gilmsg.outbox.Outbox(tmp_path / "copy")):
            one.start(**readmes_bus.config)
            assert until(one, msg_id).attempts == 1
            one.stop()
            one.close()
    with contextlib.closing(sqlite3.connect(applications_database)) as connection:
        assert connection.execute("SELECT id, state FROM updates").fetchall() == [(7, "new"), (4711, "pushed")]


@pytest.mark.slow
def test_the_shell(readme, readmes_bus, tmp_path):
    """gilmsg-logger is silent and ends with 0; gilmsg-tail runs its command for what comes."""
    echo, tail, *_ = readme["The shell"]
    done = shell(echo, readmes_bus.directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # jq need not be installed: this one stands for it.
    jq = tmp_path / "jq"
    show = 'import json, sys; print(json.load(sys.stdin)["msg"]["id"])'
    jq.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{show}'\n")
    jq.chmod(0o755)
    rest = tail.partition("gilmsg-tail")[2]
    words = f"PATH='{tmp_path}':$PATH; exec '{sys.executable}' -m gilmsg.commands.tail{rest}"
    with Reader(["bash", "-c", words], readmes_bus.directory) as running:
        publish(["backend01"], msg={"id": 4711}, **readmes_bus.config)
        running.wait_for("4711\n")


@pytest.mark.slow
def test_the_outbox_in_the_shell(readme, readmes_bus, tmp_path):
    """What is put waits, is listed, and is delivered once the deliverer runs."""
    *lines, run = readme["The shell"][2].replace("/var/lib/app", str(tmp_path)).splitlines()
    done = shell("\n".join(lines), readmes_bus.directory)
    assert done.returncode == 0 and f"{BACKENDS[0]}: it was not sent yet" in done.stdout, done.stderr
    words = [sys.executable, "-m", "gilmsg.commands.outbox", *run.split()[1:]]
    deliverer = Reader(["env", f"GILMSG_OUTBOX_DATABASE={tmp_path}/outbox.sqlite", *words], readmes_bus.directory)
    with contextlib.closing(gilmsg.outbox.Outbox(tmp_path / "outbox.sqlite")) as box, deliverer:
        deliverer.wait_for("delivering as bodhi.app01")
        processes.wait_for(lambda: box.counts()["delivered"] == 1, f"it is delivered: {deliverer}")


def test_keys_in_the_shell(readme, tmp_path):
    """It makes a CA in the home folder, and a pair for each name."""
    done = shell(f"HOME={tmp_path}\n{readme['The shell'][3]}", tmp_path)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "bus-ca").iterdir()}
    assert {"ca.crt", "crl.pem", "backend01.example.com.key", "bodhi-app01.example.com.crt"} < names


@pytest.mark.slow
def test_checking(readme, readmes_bus, monkeypatch):
    """Each command line finds all in order, but cannot see who is behind a relay; one prints JSON."""
    lines, code = readme["Before it fails"]
    for line in lines.splitlines():
        done = shell(line, readmes_bus.directory)
        assert done.returncode == (3 if "--active" in line else 0), done.stdout + done.stderr
        assert "--json" not in line or json.loads(done.stdout)["recipients"].keys() == {BACKENDS[0]}, done.stdout
    monkeypatch.chdir(readmes_bus.directory)
    names = {"gilmsg": gilmsg}
    exec(compile(code, "README", "exec"), names)  # noqa: S102  # that is what is tested
    assert names["report"], names["report"].failures()


@pytest.mark.slow
def test_metrics_of_a_service(readme, sections, readmes_bus):
    """What it registers is served at the port that it names; README's table has each metric, and no other."""
    [block] = readme["Metrics"]
    port = str(processes.port_of(readmes_bus.ports.endpoint()))
    scrape = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{port}/metrics').read().decode())"
    done = processes.python(f"{block.replace('9464', port)}\n{scrape}", readmes_bus.directory)
    assert done.returncode == 0, done.stderr
    served = set(re.findall(r"^# HELP (gilmsg_\w+)", done.stdout, re.MULTILINE))
    table = next(sections["Metrics"].findall(docutils.nodes.table)).astext()
    assert served == set(re.findall(r"gilmsg_\w+", table)) and len(served) > 10


@pytest.mark.slow
def test_a_bus_on_the_laptop(readme, tmp_path):
    """gilmsg-sandbox runs in the named folder, and gilmsg-demo ends well."""
    (tmp_path / "home").mkdir()
    command = readme["A bus on the laptop"][0].replace("~", str(tmp_path / "home"))
    words = command.split()
    assert words[0] == "gilmsg-sandbox"
    with Reader([sys.executable, "-m", "gilmsg.commands.sandbox"] + words[1:], tmp_path) as running:
        running.wait_for("Ctrl-C ends it")
        assert (tmp_path / "home" / "bus" / "fedmsg.d").is_dir()
    assert shell("gilmsg-demo", tmp_path).returncode == 0


@pytest.mark.slow
def test_a_command_on_the_bus(readme, tmp_path):
    """Typed beside a script, the line runs it with the bus around it, and ends as it does."""
    script = tmp_path / "my_tests.sh"
    call = {"topic": "t", "msg": {}, "recipients": ["backend01"], "ack_timeout": 10, "gilmsg.head_start": 20}
    run = f"'{sys.executable}' -W ignore -m tests.programs.publish '{json.dumps(call)}'"
    script.write_text(f"#!/bin/sh\n{run}\nexit 7\n")
    script.chmod(0o755)
    done = shell(readme["A bus on the laptop"][1], tmp_path)
    assert (done.returncode, done.stdout.split()[1:]) == (7, ["backend01"]), done.stderr


#: What makes each command for faults and figures small, put after README's own options; which exit
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
    """What it runs -> the line of README, the comment left out."""
    lines = [line.partition("  #")[0].split() for line in block.splitlines()]
    return {re.sub(" -.*", "", " ".join(words[2:])): words for words in lines}


@pytest.mark.slow
@pytest.mark.parametrize("what", SMALL)
def test_faults_and_figures(readme, tmp_path, what):
    """Each command runs as README has it, but fewer times, and finds nothing wrong; the list is complete."""
    lines = commands(readme["Developing"][1])
    assert lines.keys() == SMALL.keys()
    more, statuses, prints = SMALL[what]
    # The benchmarks renew the README of the folder that they run in.
    shutil.copy(str(REPOSITORY / "README.rst"), str(tmp_path))
    words = lines[what] + more.split()
    assert words[0] == ".venv/bin/python"
    done = processes.run([sys.executable, "-W", "ignore"] + words[1:], tmp_path, limit=300)
    told = done.stdout + done.stderr
    if what == "tests.faults.fuzz_atheris" and not importlib.util.find_spec("atheris"):
        # No wheel of it for every Python, so it is not in the test extra.
        statuses, prints = [1], "No module named 'atheris'"
    assert done.returncode in statuses, told
    assert re.search(prints, told), told
    renewed = (tmp_path / "README.rst").read_text(encoding="utf-8")
    unchanged = renewed == (REPOSITORY / "README.rst").read_text(encoding="utf-8")
    assert unchanged == (what != "tests.benchmarks")
