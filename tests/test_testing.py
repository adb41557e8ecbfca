"""gilmsg.testing: the pytest plugin, in real pytest runs."""

import os
import re
import sys
import types

import psutil
import pytest

from .helpers import REPOSITORY as ROOT
from .processes import python, run

pytest_plugins = ["pytester"]


@pytest.fixture
def inner(pytester, monkeypatch):
    """Run the files made with pytester in a pytest of their own, with this tree's plugin."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)

    def run(*arguments, plugin="-ppytest_gilmsg"):
        options = ["-Werror", "--strict-markers", "-pno:hypothesispytest", "-pno:randomly", plugin]
        return pytester.runpytest_subprocess(*options, *arguments, timeout=100)

    return run


BUS = '''
import threading

import pytest

import gilmsg
from gilmsg import publish
from gilmsg.sandbox.processes import wait_for


def test_two_recipients_confirm_without_any_configuration(gilmsg_bus):
    assert len(gilmsg_bus.recipients) == 2
    receipt = publish(topic="t", msg={"a": 1}, recipients=gilmsg_bus.recipients, ack_timeout=5)
    assert sorted(receipt.acks) == sorted(gilmsg_bus.recipients)
    for name in gilmsg_bus.recipients:
        [message] = gilmsg_bus.received[name]
        assert message["msg_id"] == receipt.msg_id and message["msg"]["a"] == 1


def test_messages_of_another_test_are_gone(gilmsg_bus):
    assert dict(gilmsg_bus.received) == {name: [] for name in gilmsg_bus.recipients}
    for n in range(50):
        gilmsg.publish_async(topic="t", msg={}, recipients=gilmsg_bus.recipients)


def test_messages_on_their_way_do_not_turn_up_later(gilmsg_bus):
    assert dict(gilmsg_bus.received) == {name: [] for name in gilmsg_bus.recipients}
    publish(topic="t", msg={}, recipients=gilmsg_bus.recipients, ack_timeout=5)
    assert [len(gilmsg_bus.received[name]) for name in gilmsg_bus.recipients] == [1, 1]


def test_silence(gilmsg_bus):
    first, second = gilmsg_bus.recipients
    gilmsg_bus.silence(first)
    with pytest.raises(gilmsg.Timeout) as raised:
        publish(topic="t", msg={}, recipients=[first], ack_timeout=0.2)
    assert list(raised.value.missing) == [first]
    assert publish(topic="t", msg={}, recipients=[second], ack_timeout=5).acks
    wait_for(lambda: gilmsg_bus.received[first], "it received all the same")


def test_silence_is_undone(gilmsg_bus):
    test_two_recipients_confirm_without_any_configuration(gilmsg_bus)


def test_kill(gilmsg_bus):
    first, second = gilmsg_bus.recipients
    publish(topic="t", msg={}, recipients=[first], ack_timeout=5)
    gilmsg_bus.kill(first)
    with pytest.raises(gilmsg.Timeout) as raised:
        publish(topic="t", msg={}, recipients=[first], ack_timeout=0.2)
    assert list(raised.value.missing) == [first]
    assert publish(topic="t", msg={}, recipients=[second], ack_timeout=5).acks
    assert gilmsg_bus.received[first][0]["i"] and len(gilmsg_bus.received[first]) == 1
    with pytest.raises(gilmsg.ConfigurationError):
        gilmsg_bus.silence(first)


def test_kill_is_undone(gilmsg_bus):
    test_two_recipients_confirm_without_any_configuration(gilmsg_bus)


@pytest.mark.gilmsg_recipients("cn1")
def test_the_marker_names_the_recipients(gilmsg_bus):
    assert gilmsg_bus.recipients == ["cn1"] == list(gilmsg_bus.received)
    receipt = publish(topic="t", msg={}, recipients=["cn1"], ack_timeout=5)
    assert [m["msg_id"] for m in gilmsg_bus.received["cn1"]] == [receipt.msg_id]
    with pytest.raises(gilmsg.Timeout):
        publish(topic="t", msg={}, recipients=["recipient1"], ack_timeout=0.1)
    with pytest.raises(KeyError, match="'recipient1' is not a recipient here; these are: cn1"):
        gilmsg_bus.received["recipient1"]
    for method in (gilmsg_bus.silence, gilmsg_bus.kill):
        with pytest.raises(gilmsg.ConfigurationError, match="nobody.*cn1"):
            method("nobody")


def test_config_is_for_code_that_passes_it(gilmsg_bus):
    gilmsg.init(**gilmsg_bus.config)
    test_two_recipients_confirm_without_any_configuration(gilmsg_bus)


def test_any_thread_publishes_here(gilmsg_bus):
    receipts = []
    def run():
        receipts.append(publish(topic="t", msg={}, recipients=gilmsg_bus.recipients, ack_timeout=5))
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in gilmsg_bus.recipients:
        assert {m["msg_id"] for m in gilmsg_bus.received[name]} == {r.msg_id for r in receipts}
    assert len(receipts) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fedmsg's, of itself
def test_plain_messages_are_received_too(gilmsg_bus):
    import fedmsg

    fedmsg.publish(topic="plain", msg={"b": 2}, modname="m")
    for name in gilmsg_bus.recipients:
        wait_for(lambda: gilmsg_bus.received[name], "received")
        assert gilmsg_bus.received[name][0]["msg"] == {"b": 2}
'''


def test_the_bus(pytester, inner):
    """gilmsg_bus is a real bus whose state is one test's: each clause of it, in a run of its own."""
    pytester.makepyfile(test_bus=BUS)
    inner("test_bus.py").assert_outcomes(passed=11)


STATE = '''
import concurrent.futures
import copy
import os
import threading

import fedmsg
import fedmsg.config
import pytest

import gilmsg
from gilmsg import _listeners, _outlets

CONFIG = {"endpoints": {"app": ["tcp://127.0.0.1:%d"]}, "name": "app", "topic_prefix": "com.acme",
          "environment": "prod", "zmq_enabled": True, "post_init_sleep": 0.0}


def state():
    return {
        "cache": getattr(fedmsg.config, "__cache"),
        "cached": copy.deepcopy(getattr(fedmsg.config, "__cache")),
        "conf": dict(fedmsg.config.conf),
        "loaded": fedmsg.config.conf._loaded,
        "environment": dict(os.environ, PYTEST_CURRENT_TEST=""),
        "locals": [fedmsg.__dict__["__local"], gilmsg.__dict__["__local"]],
        # Those that read what the stand-ins say stay with them, for the session.
        "threads": {t for t in threading.enumerate() if t.name != "gilmsg-talker"},
        "listeners": dict(_listeners._listeners),
        "outlets": dict(_outlets._outlets),
    }


@pytest.fixture(scope="module")
def app():
    """An application that is up and running before the test: a context here, and one in a thread."""
    from gilmsg.sandbox import Ports

    ports = Ports()
    CONFIG["endpoints"]["app"] = [ports.endpoint()]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ours = gilmsg.init(**CONFIG)
        theirs = pool.submit(gilmsg.init, **CONFIG).result()
        yield pool, ours, theirs, state()
        pool.submit(gilmsg.destroy).result()
    gilmsg.destroy()
    ports.close()


@pytest.mark.gilmsg_recipients("cn1")
def test_even_the_application_publishes_here(app, gilmsg_bus):
    pool, ours, theirs, before = app
    names = gilmsg_bus.recipients
    here = gilmsg.publish(topic="t", msg={}, recipients=names, ack_timeout=5)
    there = pool.submit(
        gilmsg.publish, topic="t", msg={}, modname="m", recipients=names, ack_timeout=5
    ).result()
    assert here.topic.startswith("org.example.dev.") and there.topic.startswith("org.example.dev.")
    assert fedmsg.config.load_config() is not before["cache"]
    assert fedmsg.config.conf["topic_prefix"] == "org.example"
    fedmsg.config.load_config()["endpoints"].clear()
    fedmsg.config.conf["topic_prefix"] = "spoilt"
    assert len(gilmsg_bus.received["cn1"]) == 2


def test_and_then_all_is_as_it_was(app):
    pool, ours, theirs, before = app
    after = state()
    for key in before:
        assert after[key] == before[key], key
    for one, other in zip([before["cache"]] + before["locals"], [after["cache"]] + after["locals"]):
        assert one is other
    assert getattr(fedmsg.__dict__["__local"], "__context") is ours
    assert pool.submit(getattr, fedmsg.__dict__["__local"], "__context").result() is theirs
    assert ours.c["topic_prefix"] == "com.acme"
    assert not any(outlet.closed for outlet in _outlets._outlets.values())
    gilmsg.publish(topic="still", msg={}, recipients=[])


@pytest.mark.gilmsg_recipients("cn1")
def test_a_test_that_destroys_leaves_no_less(app, gilmsg_bus):
    gilmsg.destroy()
    gilmsg.publish(topic="t", msg={}, recipients=gilmsg_bus.recipients, ack_timeout=5)


def test_and_the_application_goes_on(app):
    pool, ours, theirs, before = app
    assert gilmsg.publish(topic="still", msg={}, recipients=[]) is None
    assert getattr(fedmsg.__dict__["__local"], "__context") is ours
'''


def test_the_former_state_returns(pytester, inner):
    """Contexts of any thread, configuration, threads and sockets are afterwards what they were before."""
    pytester.makepyfile(test_state=STATE)
    # load_config warns of itself, as ever.
    inner("-Wignore::DeprecationWarning", "test_state.py").assert_outcomes(passed=4)


FORBIDDEN = '''
import sys

# Before anything else: the plugin has loaded nothing of ours.
LOADED = [m for m in sys.modules if m.startswith(("gilmsg", "fedmsg", "moksha."))]


def test_the_plugin_alone_imports_nothing():
    assert LOADED == []


def test_the_fixture_does(gilmsg_forbidden):
    assert "gilmsg" in sys.modules and not [m for m in sys.modules if m.startswith("moksha.")]


import concurrent.futures

import pytest


@pytest.mark.parametrize("recipients", [None, [], ["a"], b"rubbish"])
@pytest.mark.parametrize("name", ["publish", "publish_async", "send_message"])
def test_every_way_to_publish_is_forbidden(gilmsg_forbidden, name, recipients):
    import gilmsg
    from gilmsg.testing import PublishForbidden

    assert issubclass(PublishForbidden, AssertionError)
    with pytest.raises(PublishForbidden, match="the.topic"):
        getattr(gilmsg, name)(topic="the.topic", msg={}, recipients=recipients)
    assert getattr(gilmsg, "__local").__dict__ == {}


def test_in_every_thread(gilmsg_forbidden):
    from gilmsg import publish
    from gilmsg.testing import PublishForbidden

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with pytest.raises(PublishForbidden):
            pool.submit(publish, topic="t").result()


@pytest.mark.parametrize("order", [["gilmsg_bus", "gilmsg_forbidden"], ["gilmsg_forbidden", "gilmsg_bus"]])
def test_both_fixtures_in_either_order(request, order):
    for name in order:
        request.getfixturevalue(name)
    from gilmsg import publish
    from gilmsg.testing import PublishForbidden

    bus = request.getfixturevalue("gilmsg_bus")
    with pytest.raises(PublishForbidden):
        publish(topic="t", msg={}, recipients=bus.recipients)
    assert dict(bus.received) == {name: [] for name in bus.recipients}


def test_afterwards_it_is_allowed_again(gilmsg_bus):
    from gilmsg import publish

    assert publish(topic="t", msg={}, recipients=gilmsg_bus.recipients, ack_timeout=5).acks


def test_an_uncaught_one_fails_the_test(gilmsg_forbidden):
    import gilmsg

    gilmsg.publish_async(topic="x")


@pytest.mark.gilmsg_recipients()
def test_nobody(gilmsg_bus):
    pass


@pytest.mark.gilmsg_recipients("../x")
def test_a_bad_name(gilmsg_bus):
    pass


@pytest.mark.gilmsg_recipients(["a", "b"])
def test_a_list(gilmsg_bus):
    pass


def test_of_one_string_is_one_name():
    from gilmsg.testing import Buses

    with pytest.raises(ValueError, match="'a,b' cannot be the name"), Buses().bus("a,b"):
        pass
'''


def test_forbidden(pytester, inner):
    """Any publish raises PublishForbidden from the call itself; the plugin imports nothing unasked."""
    pytester.makepyfile(test_forbidden=FORBIDDEN)
    result = inner("test_forbidden.py")
    result.assert_outcomes(passed=19, failed=1, errors=3)
    result.stdout.fnmatch_lines_random(
        [
            "*PublishForbidden: gilmsg was to publish on the topic 'x'*",
            "*at least one common name*",
            "*'../x' cannot be the name*",
            "*gilmsg_recipients holds *'a', 'b'*; each entry must be a certificate common name*",
        ]
    )


def readme_files():
    """The files of README's example: in its literal blocks, each begins with its name."""
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    section = text.partition("Testing your code\n")[2].partition("\nWhat happens when\n----")[0]
    assert section and "\nOperations\n" not in section
    parts = re.split(r"^    # (\w+\.py)\n", section, flags=re.MULTILINE)[1:]
    for name, part in zip(parts[::2], parts[1::2]):
        lines = re.match(r"(    .*\n|\n)*", part).group().splitlines()
        yield name, "\n".join(line[4:] for line in lines) + "\n"


@pytest.mark.slow
def test_the_example_in_the_readme(pytester, inner):
    """README's example runs as it stands there, and on several workers of pytest-xdist."""
    files = dict(readme_files())
    assert sorted(files) == ["compose.py", "other_runner.py", "test_compose.py"]
    for name, text in files.items():
        (pytester.path / name).write_text(text, encoding="utf-8")
    tests = len(re.findall("^def test_", files["test_compose.py"], re.MULTILINE))
    assert tests >= 3
    inner("-n2", "test_compose.py").assert_outcomes(passed=tests)
    done = python("import other_runner", pytester.path)
    assert done.returncode == 0, done.stderr


#: Says who its stand-in is and where its keys are; what ends it is put behind it.
UNCLOSED = """
import os, sys
import gilmsg
from gilmsg.testing import Buses

buses = Buses()
with buses.bus(["cn1"]) as bus:
    gilmsg.publish(topic="t", msg={}, recipients=["cn1"], ack_timeout=10)
    [sandbox] = buses._sandboxes.values()
    print(sandbox._stand_ins["cn1"].pid, bus.directory)
"""

ENDS = {
    "exit": "",
    "error": "raise SystemExit('on purpose')",
    "close": "buses.close(); buses.close(); assert not os.path.exists(bus.directory)",
    "with": "with buses: pass\nassert not os.path.exists(bus.directory)",
    # A child that exits as Python programs do leaves its parent's bus alone.
    "fork": "sys.stdout.flush()\nif os.fork() == 0: sys.exit()\nassert os.wait()[1] == 0\n"
            "with buses.bus(['cn1']):\n"
            "    gilmsg.publish(topic='t', msg={}, recipients=['cn1'], ack_timeout=10)\n"
            "    assert list(buses._sandboxes.values()) == [sandbox]",
}


@pytest.mark.slow
@pytest.mark.parametrize("end", list(ENDS))
def test_buses_leave_nothing_behind(tmp_path, end):
    """However a program ends that used Buses: no process runs on, and no keys stay in the temporary folder."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = python(UNCLOSED + ENDS[end], tmp_path, env={"TMPDIR": str(temporary)})
    assert done.returncode == (end == "error"), done.stderr
    pid, directory = done.stdout.split()
    assert directory.startswith(str(temporary))
    assert not list(temporary.iterdir())
    assert not psutil.pid_exists(int(pid))


def test_the_entry_points(pytester, inner, tmp_path, monkeypatch):
    """Installed, pytest finds the plugin by itself; gilmsg.testing and gilmsg-sandbox do without pytest."""
    metadata = tmp_path / "metadata"
    metadata.mkdir()
    if (ROOT / "gilmsg").is_dir():  # else an installed gilmsg is tested (.ci/release), by its own metadata
        command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(metadata)]
        made = run(command, ROOT)
        assert made.returncode == 0, made.stderr
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(metadata), str(ROOT)]))
    result = inner("--fixtures", plugin="-pno:cacheprovider")
    result.stdout.fnmatch_lines_random(["gilmsg_bus*", "gilmsg_forbidden*"])
    code = (
        "import importlib.metadata, sys\n"
        "sys.modules['pytest'] = None\n"
        "import gilmsg.testing\n"
        "for one in importlib.metadata.distribution('gilmsg').entry_points:\n"
        "    if one.name == 'gilmsg-sandbox':\n"
        "        print(one.load().__module__)\n"
        "with gilmsg.testing.forbidden():\n"
        "    gilmsg.publish(topic='the.topic')\n"
    )
    done = python(code, metadata)
    assert done.stdout == "gilmsg.commands.sandbox\n", done.stderr
    assert "PublishForbidden" in done.stderr.splitlines()[-1] and "the.topic" in done.stderr


def test_what_was_received_is_a_mapping(bus):
    """It can be listed and shown, and knows the recipients only."""
    from gilmsg.testing import Received

    received = Received(bus)
    assert list(received) == ["alice", "bob"] and len(received) == 2
    assert repr(received) == repr({name: bus.received(name) for name in received})
    with pytest.raises(KeyError):
        received["nobody"]


def test_a_forked_childs_exit_leaves_the_buses_alone():
    """The processes are the parent's: a child that exits ends none of them."""
    from gilmsg import testing

    buses = testing.Buses()
    stopped = []
    # In place of a sandbox: one that were stopped by mistake would be stopped for the parent, too.
    buses._sandboxes[("alice",)] = types.SimpleNamespace(stop=lambda: stopped.append(1))
    child = os.fork()
    if child == 0:
        buses._close_at_exit()
        os._exit(len(stopped))
    assert os.waitpid(child, 0)[1] == 0
    buses.close()
    assert stopped == [1]
