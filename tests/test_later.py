"""What is loaded on first use is loaded whole, whoever asks for it, and whatever comes in between."""

import json

import pytest

from .conftest import own_config
from .faults.children import UNMEASURED
from .helpers import sampled
from .processes import python

PRELUDE = """
import atexit, json, os, signal, sys, threading, time, warnings
import gilmsg

assert "gilmsg._publish" not in sys.modules
config = json.loads(sys.argv[1])
config["gilmsg.head_start"] = 20.0


def acks(*_):
    call = dict(config, topic="t", msg={}, recipients=["alice"], ack_timeout=10.0)
    return list(gilmsg.publish(**call).acks)


def say(*what):
    # At once: print() writes the end of the line by itself, and another thread in between.
    sys.stdout.write(" ".join(map(str, what)) + os.linesep)
    sys.stdout.flush()


class Strike:
    # Does *job*, once, when the last but some of the modules that publish needs is looked for.
    def __init__(self, job):
        self.job = job
        sys.meta_path.insert(0, self)

    def find_spec(self, name, path=None, target=None):
        if name == "gilmsg._pending":
            sys.meta_path.remove(self)
            self.job()
"""

#: In a process that has imported gilmsg, and no more: code -> what it says.
FIRST_USES = {
    "of several threads at once": (
        "start = threading.Barrier(4)\n"
        "threads = [threading.Thread(target=lambda: (start.wait(), say(acks()))) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n",
        ["['alice']"] * 4,
    ),
    "in a signal handler": (
        "signal.signal(signal.SIGALRM, lambda *_: say(acks()))\n"
        "signal.raise_signal(signal.SIGALRM)\n",
        ["['alice']"],
    ),
    # Without recipients: for ACKs it would have to start a thread, which Python 3.12 no longer does by then.
    "at exit": (
        "plain = dict(config, topic='t', msg={}, recipients=[], pre_fire_hook=lambda message: say(message['topic']))\n"
        "atexit.register(lambda: gilmsg.publish(**plain))\n",
        ["org.example.dev.__main__.t"],
    ),
    "of destroy": (
        "gilmsg.destroy()\n"
        "say([one for one in ('_publish', '_bus', '_listeners') if 'gilmsg.' + one in sys.modules])\n"
        "say(acks())\n",
        ["[]", "['alice']"],
    ),
}  # fmt: skip


def said(code, config, folder, **options):
    done = python(PRELUDE + code, folder, json.dumps(config), **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("use", sampled(FIRST_USES))
def test_a_first_use(bus, tmp_path, use):
    """Wherever a program uses gilmsg first, it works as if everything had been loaded before."""
    code, words = FIRST_USES[use]
    assert said(code, own_config(bus), tmp_path) == words


def test_a_handler_in_a_load_of_its_own_thread(bus, tmp_path):
    """A handler's publish is refused within a load, its destroy works; what it has interrupted is confirmed."""
    code = """
def handler(*_):
    try: say(acks())
    except gilmsg.ConfigurationError as error: say("signal handler" in str(error))
    say(gilmsg.destroy())

signal.signal(signal.SIGALRM, handler)
Strike(lambda: signal.raise_signal(signal.SIGALRM))
say(acks())
signal.raise_signal(signal.SIGALRM)
"""
    assert said(code, own_config(bus), tmp_path) == ["True", "None", "['alice']", "['alice']", "None"]


#: A thread loads; as soon as it does so, the process forks, and the child publishes too.
FORK = """
thread = threading.Thread(target=lambda: say(acks()))
thread.start()
loading.wait()
child = os.fork()
if not child:
    signal.alarm(20)  # so that a child that never gets it ends
    say("child", acks())
    os._exit(0)
thread.join()
say("status", os.waitpid(child, 0)[1])
"""


def test_a_fork_while_another_thread_loads(bus, tmp_path):
    """It waits for that thread's load: in the child, too, publish comes, and is confirmed."""
    code = """
warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, that the process is multi-threaded
loading = threading.Event()
# So long that the fork falls into the load, unless it waits for its end.
Strike(lambda: (loading.set(), time.sleep(0.3)))
"""
    assert sorted(said(code + FORK, own_config(bus), tmp_path)) == ["['alice']", "child ['alice']", "status 0"]


def test_an_interrupt_while_a_fork_waits(bus, tmp_path):
    """What a signal handler raises meanwhile does not let the fork go ahead: parent and child both load and publish."""
    code = """
warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, that the process is multi-threaded

def handler(*_):
    if not struck.is_set():
        struck.set()
        raise KeyboardInterrupt

def strike():
    loading.set()
    forking.wait(20)
    # Again and again: one that comes just before the wait for the lock begins does not end that wait.
    return any(os.kill(os.getpid(), signal.SIGUSR1) or struck.wait(0.1) for _ in range(200))

struck = threading.Event()
signal.signal(signal.SIGUSR1, handler)
loading = threading.Event()
Strike(strike)
forking = threading.Event()
os.register_at_fork(before=forking.set)  # the last that was registered comes first
"""
    assert sorted(said(code + FORK, own_config(bus), tmp_path)) == ["['alice']", "child ['alice']", "status 0"]


def test_a_fork_within_a_load_of_its_own_thread(tmp_path):
    """Who forks in the middle of a load, in a signal handler, say, holds the lock after it: the load goes on."""
    code = (
        "import os\n"
        "from gilmsg import _later\n"
        "with _later._lock:\n"
        "    child = os.fork()\n"
        "    if not child: os._exit(not _later._lock._is_owned())\n"
        "    print(os.waitpid(child, 0)[1], _later._lock._is_owned())\n"
        "print(_later._lock._is_owned())"
    )
    assert python(code, tmp_path).stdout.split() == ["0", "True", "False"]


def test_an_interrupted_load_is_done_anew(bus, tmp_path):
    """Interrupted at the end of each module, once, it leaves no lock held and nothing half loaded."""
    code = """
hits = set()

def trace(frame, event, _):
    code = frame.f_code
    if code.co_name != "<module>" or not code.co_filename.startswith(os.path.dirname(gilmsg.__file__)):
        return None
    if event == "return" and code.co_filename not in hits:
        hits.add(code.co_filename)
        raise KeyboardInterrupt
    return trace

while True:
    sys.settrace(trace)
    try: gilmsg.publish, gilmsg.tail_messages
    except KeyboardInterrupt: continue
    finally: sys.settrace(None)
    break

say(len(hits) > 20)
thread = threading.Thread(target=lambda: say(acks()), daemon=True)
thread.start()
thread.join(20)
"""
    assert said(code, own_config(bus), tmp_path, env=UNMEASURED) == ["True", "['alice']"]
