"""Few open files are left: what that is to a process whose libzmq would abort it, and to its user."""

import json
import re
import resource

import pytest

from gilmsg import _descriptors

from .processes import python

ALL_TAKEN = """
import json, os, resource, sys, threading, time
import gilmsg, gilmsg._tail
config = json.loads(sys.argv[1])
config["gilmsg.head_start"] = 20.0
taken = []
def publish(): return list(gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=20.0, **config).acks)
def tail(): gilmsg.tail_messages(**config).close()
def take():
    try:
        while True: taken.append(os.dup(0))
    except OSError: pass
def free(count):
    for _ in range(count): os.close(taken.pop())
def stop():
    gilmsg._listeners.stop_all()
    while any(one.name == "gilmsg-listener" for one in threading.enumerate()): time.sleep(0.01)
def unseen():  # another thread opens the last ones after we have looked
    gilmsg._descriptors.require = gilmsg._descriptors.require_context = lambda *_: None
"""

FEW_FILES = ALL_TAKEN + """
closed = sys.argv[2].split("+")
publish()
if "unseen" in closed: unseen()
resource.setrlimit(resource.RLIMIT_NOFILE, json.loads(sys.argv[3]))
for count in range(0, int(sys.argv[4])):
    if "publisher" in closed: gilmsg._outlets.close_all()  # as another thread's destroy()
    if "listener" in closed: stop()
    take()
    free(count)
    try: print(publish())
    except gilmsg.GilmsgError as error: print(type(error).__name__, error)
free(len(taken))
print(publish())
"""


@pytest.mark.parametrize(
    "closed, free, said",
    [
        ("publisher", 12, r"ConfigurationError 2\d\d files are open .* 34 more, .* is 256; .*ulimit -n [34]\d\d"),
        ("listener", 12, "ConfigurationError .*, the limit is 256; raise it .ulimit -n"),
        ("listener+publisher", 12, "ConfigurationError .*, the limit is 256; raise it .ulimit -n"),
        ("unseen+listener+publisher", 2, r"ConfigurationError .*Too many open files .too many open files\? ulimit -n"),
        ("unseen+listener", 1, "ListenerError the ACK listener did not start: .*Too many open files; nothing was sent"),
    ],
)
def test_few_descriptors_are_left(config, tmp_path, closed, free, said):
    """Where too few files can be opened, that is said, and what to do; afterwards all works again."""
    done = python(FEW_FILES, tmp_path, json.dumps(config), closed, "[256, 256]", str(free))
    *refused, last = done.stdout.splitlines()
    assert done.returncode == 0 and last == "['alice']", done.stdout + done.stderr
    assert len(refused) == free and all(re.match(said, line) for line in refused), done.stdout


def test_a_low_soft_limit_is_raised(config, tmp_path):
    """Where only the soft limit forbids more files, it is raised, though all below it are taken."""
    done = python(FEW_FILES, tmp_path, json.dumps(config), "listener+publisher", "[256, 1024]", "3")
    assert done.returncode == 0 and set(done.stdout.splitlines()) == {"['alice']"}, done.stdout + done.stderr


USERS = ALL_TAKEN + """
def init(): gilmsg.init(**dict(config, mute=True))
def told(call):
    try: call(); line = "done"
    except gilmsg.ConfigurationError as error: line = str(error)
    sys.stdout.write(line + "\\n")  # at once, many threads do it
def on_threads(*calls):
    threads = [threading.Thread(target=told, args=[call]) for call in calls]
    for one in threads: one.start()
    for one in threads: one.join()
publish(); tail()
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
take()
exec(sys.argv[2])
free(len(taken))
"""


def users(code, config, folder):
    """Run *code* where a publisher and a listener are open, and no file can be; return what it prints."""
    done = python(USERS, folder, json.dumps(config), code)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_who_asks_at_the_same_time(config, tmp_path):
    """Of many threads that open contexts of the last descriptors, each gets them, or an error that says so."""
    code = """
opened, look = [], gilmsg._descriptors.require_context
def look_slowly(io_threads):  # so that all would have looked before the first one opens, if they could
    look(io_threads)
    time.sleep(0.01)
gilmsg._descriptors.require_context = look_slowly
for count in range(30, 46):
    free(count)
    on_threads(*[lambda: opened.append(gilmsg._contexts.new({}))] * 8)
    while opened: gilmsg._contexts.terminate(opened.pop())
    take()
"""
    lines = users(code, config, tmp_path)
    assert len(lines) == 128 and 8 <= lines.count("done") < 128
    assert all("files are open" in line for line in lines if line != "done")


def test_the_last_ones_are_taken_after_the_look(config, tmp_path):
    """Who finds none, though some were there a moment ago, is told in a ConfigurationError, too."""
    code = """
unseen(); stop(); take()  # it opens and closes some at any time
told(tail); on_threads(init); on_threads(publish)
told(gilmsg._contexts.open_here); free(1); told(gilmsg._contexts.open_here)
"""
    said = "no ZeroMQ context can be opened: Too many open files (too many open files? ulimit -n)"
    assert users(code, config, tmp_path) == [said] * 5


def test_another_thread_needs_few(config, tmp_path):
    """A further thread that publishes by the same sockets needs no room for more."""
    assert users("free(8); on_threads(publish)", config, tmp_path) == ["done"]


@pytest.fixture
def soft():
    """The soft limit of open files, as it was; 900 during the test."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (900, former[1]))
    yield lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, former)


def test_a_limit_that_suffices_is_left_alone(soft, monkeypatch):
    """The soft limit is raised where less is left than a socket needs, not before, and then with some to spare."""
    monkeypatch.setattr(_descriptors, "_opened", lambda: 900 - 34)  # to open as many would disturb other threads
    _descriptors.require_context(1)
    assert soft() == 900
    monkeypatch.setattr(_descriptors, "_opened", lambda: 900 - 33)
    _descriptors.require_context(1)
    assert soft() == min(901 + 128, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def test_the_limit_is_never_lowered(soft):
    """Who needed less, and looked before another thread raised the limit, does not lower it."""
    _descriptors._raise_to(800)
    assert soft() == 900


def test_a_system_that_does_not_list_descriptors(soft, monkeypatch):
    """Where nobody can tell what is open, that is not taken for everything."""
    monkeypatch.setattr(_descriptors, "folder", lambda: "/nowhere")
    _descriptors.require_context(1)
    assert soft() == 900


BEYOND = """
import os, resource
from gilmsg import _contexts
opened = [os.dup(0) for _ in range(400)]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
_contexts.terminate(_contexts.new({}))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] > len(opened) + 34)
"""


def test_more_are_open_than_the_limit_says(tmp_path):
    """Files that were opened before the soft limit was lowered are counted, too."""
    done = python(BEYOND, tmp_path)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_child_is_not_held_up_by_who_opened_at_the_fork(tmp_path):
    """A process that is forked while another thread opens a context can open one."""
    code = """
import os, threading
import gilmsg
from gilmsg import _contexts, _descriptors
held, over = threading.Event(), threading.Event()
def hold():
    with _contexts._opening, _descriptors._raising: held.set(); over.wait()
thread = threading.Thread(target=hold)
thread.start(); held.wait()
child = os.fork()
if not child:
    _descriptors._raise_to(1)
    _contexts.terminate(_contexts.new({}))
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
over.set(); thread.join()
"""
    done = python(code, tmp_path)
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
