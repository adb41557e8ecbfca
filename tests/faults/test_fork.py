"""Fork: parent and child both publish, and neither holds what belongs to the other."""

import signal
import socket

import psutil
import pytest

import gilmsg
from gilmsg import _outcome

from .. import talking as _process
from ..conftest import own_config
from ..helpers import CONSUMERS, Hub, listening_ports, sampled
from ..processes import PROMPT
from .children import Child, run

#: In the child: run *job*, say what came out, and end without any clean-up.
FORK = """
# From Python 3.12 on a fork of a process with threads is warned of; what is tested is that it works.
import warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)


def fork(job, end=os._exit):
    child = os.fork()
    if child:
        return child
    try:
        say("child: %s" % job())
    except BaseException as error:
        say("child: %r" % error)
    end(0)


def reap(child):
    say("status: %d" % os.waitpid(child, 0)[1])


def acks(**more):
    return list(publish(**more).acks)


def listening():
    import psutil
    found = {c.laddr.port for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN"}
    return sorted(found)
"""

CASES = {
    "os.fork": "publish(); reap(fork(acks)); say(acks())",
    "sys.exit in the child": "publish(); reap(fork(acks, sys.exit)); say(acks())",
    "the child's child": "publish(); reap(fork(lambda: (acks(), reap(fork(acks)))[0])); say(acks())",
    "before the first publish": "reap(fork(acks)); say(acks())",
    "the child destroys": "publish(); reap(fork(lambda: (gilmsg.destroy(), acks())[1])); say(acks())",
    "in a thread": (
        "publish()\n"
        "thread = threading.Thread(target=lambda: reap(fork(lambda: acks(**config))))\n"
        "thread.start(); thread.join(); say(acks())"
    ),
    "in a callback": (
        "done = threading.Event()\n"
        "def callback(future):\n"
        "    reap(fork(acks)); done.set()\n"
        "future = gilmsg.publish_async(topic='t', msg={}, recipients=['alice'], ack_timeout=10, **config)\n"
        "future.add_done_callback(callback); until(done.is_set, 40); say(acks())"
    ),
    "multiprocessing": (
        "import multiprocessing; publish()\n"
        "child = multiprocessing.get_context('fork').Process(target=lambda: say('child: %s' % acks()))\n"
        "child.start(); child.join(); say('status: %d' % child.exitcode); say(acks())"
    ),
}


@pytest.mark.parametrize("case", sampled(CASES))
def test_parent_and_child_publish(bus, tmp_path, case):
    """After a fork of that kind parent and child have their messages confirmed, and end with 0."""
    code, lines, errors = run(FORK + CASES[case], own_config(bus), tmp_path)
    assert code == 0 and errors == ""
    assert "['alice']" in lines and "child: ['alice']" in lines and "status: 0" in lines
    assert set(lines) == {"['alice']", "child: ['alice']", "status: 0"}


#: A handler forks while its thread waits; in the child it returns to that.
WAITED = FORK + """
call = dict(config, topic="t", msg={}, recipients=["nobody"], ack_timeout=60.0, **{"gilmsg.head_start": 0})
main, child = threading.get_ident(), None

def handler(*_):
    global child, began
    child, began = os.fork(), time.monotonic()
    if child:
        reap(child)
        gilmsg.destroy()

def asleep():
    return waiting() and sys._current_frames()[main].f_code.co_name == "wait"

signal.signal(signal.SIGALRM, handler)
when(asleep, lambda: signal.pthread_kill(main, signal.SIGALRM))
try:
    WAIT
except gilmsg.ListenerError as error:
    told = str(error)
if not child:
    say("child: %s, %s" % ("before it forked" in told, "at once" if time.monotonic() - began < 30 else "late"))
    os._exit(0)
say("parent: %s" % ("stopped by destroy()" in told))
"""


@pytest.mark.parametrize(
    "wait",
    [
        "gilmsg.publish(**call)",
        "gilmsg.publish_async(**call).result()",
        "gilmsg.publish_async(**call).result(60)",
        "raise gilmsg.publish_async(**call).exception()",
    ],
)
def test_a_child_that_returns_to_a_wait_of_its_parents(bus, tmp_path, wait):
    """A handler that forks over a wait for ACKs: the child is told at once that they come to its parent."""
    status, lines, errors = run(WAITED.replace("WAIT", wait), own_config(bus), tmp_path, limit=90)
    assert (status, errors) == (0, "")
    assert lines == ["child: True, at once", "status: 0", "parent: True"]


#: The hook forks while another thread holds the listener's lock, which nobody gives back in the child.
LOCKED = FORK + """
def hold(held, done):
    with list(_listeners._listeners.values())[0]._lock:
        held.set()
        done.wait(60)

def hook(message):
    global child
    held, done = threading.Event(), threading.Event()
    threading.Thread(target=hold, args=(held, done)).start()
    held.wait(60)
    child = os.fork()
    if not child: signal.alarm(20)  # ends it, should it hang
    done.set()

try:
    say(acks(pre_fire_hook=hook))
    reap(child)
except gilmsg.ListenerError as error:
    say("child: %s" % error)
    os._exit(0)
"""


def test_a_child_forked_while_the_listeners_lock_is_held(bus, tmp_path):
    """The child of a fork in the midst of a publish is told that nothing was sent, whoever held the lock."""
    status, lines, errors = run(LOCKED, own_config(bus), tmp_path)
    assert (status, errors) == (0, "")
    acks, child, last = sorted(lines[:-1]) + lines[-1:]
    assert (acks, last) == ("['alice']", "status: 0")
    assert child.startswith("child: ") and "nothing was sent in the child" in child


@pytest.mark.parametrize("taken", [False, True])
def test_an_outcome_that_is_settled_at_the_fork(taken):
    """What the listener has told by then stands in the child, too, whether the waiting thread has woken up or not."""
    outcome = _outcome.Outcome()
    outcome.settle("receipt", None)
    if taken:
        assert outcome.wait(PROMPT)
    outcome.orphan()  # what the fork does in the child
    assert outcome.wait(PROMPT) and outcome.take() == "receipt"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing_that_starts_anew(bus, tmp_path, method):
    """A child that multiprocessing starts by spawn or forkserver publishes as its parent does."""
    (tmp_path / "job.py").write_text(
        "import json, multiprocessing, sys\n"
        "import gilmsg\n"
        "def job(config):\n"
        "    call = dict(config, topic='t', msg={}, recipients=['alice'], ack_timeout=10)\n"
        "    assert gilmsg.publish(**call).acks\n"
        "if __name__ == '__main__':\n"
        "    config = json.loads(sys.argv[1]); job(config)\n"
        "    child = multiprocessing.get_context('%s').Process(target=job, args=(config,))\n"
        "    child.start(); child.join(); job(config); sys.exit(child.exitcode)\n" % method
    )
    code = "os.execv(sys.executable, [sys.executable, 'job.py', sys.argv[1]])"
    assert run(code, own_config(bus), tmp_path) == (0, [], "")


@pytest.mark.slow
def test_with_too_few_ports_the_child_is_told(bus, tmp_path):
    """With one declared port the child's publish is a ConfigurationError that names the endpoint."""
    config = own_config(bus)
    del config["endpoints"]["publisher"][1:]
    code, lines, errors = run(FORK + "publish(); reap(fork(acks)); say(acks())", config, tmp_path)
    assert (code, errors) == (0, "")
    told = [line for line in lines if line.startswith("child:")][0]
    assert "EndpointError" in told and config["endpoints"]["publisher"][0] in told and "'publisher'" in told
    assert issubclass(gilmsg.EndpointError, gilmsg.ConfigurationError)
    assert "['alice']" in lines


LIVING = FORK + """
def stay():
    say("holds %s" % listening())
    os.write(tell, b"x")
    signal.pause()

publish()
hear, tell = os.pipe()
child = fork(stay)
os.read(hear, 1)
"""


@pytest.mark.slow
def test_a_living_child_does_not_hold_the_port(bus, tmp_path):
    """While a child lives, the parent destroys and publishes again by its single port."""
    config = own_config(bus)
    del config["endpoints"]["publisher"][1:]
    code = LIVING + "for _ in range(3): gilmsg.destroy(); say(acks())\nos.kill(child, 9); reap(child)"
    status, lines, errors = run(code, config, tmp_path)
    assert (status, errors) == (0, "")
    assert lines.count("['alice']") == 3 and "holds []" in lines


@pytest.mark.slow
def test_a_living_child_does_not_hide_the_parents_end(bus, tmp_path):
    """Peers without heartbeats see a killed parent go at once, though its child lives on."""
    config = own_config(bus)
    del config["endpoints"]["publisher"][1:]
    import zmq

    with zmq.Context() as context, context.socket(zmq.SUB) as plain:
        plain.subscribe(b"")
        monitor = plain.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        plain.connect(config["endpoints"]["publisher"][0])
        code = LIVING + "say('child is %d' % child); say('there'); signal.pause()"
        with Child(code, dict(config, post_init_sleep=0), tmp_path) as child:
            child.wait_for("there")
            child.wait_for("holds []")
            assert event(monitor) == zmq.EVENT_HANDSHAKE_SUCCEEDED
            pid = int([line for line in child.lines if line.startswith("child is")][0].split()[2])
            child.send(signal.SIGKILL)
            child.end()
            assert event(monitor) == zmq.EVENT_DISCONNECTED
            # Nor does the child hold the way back, to those who acknowledge.
            assert not psutil.Process(pid).net_connections("tcp")
        plain.disable_monitor()


def event(monitor):
    from zmq.utils.monitor import recv_monitor_message

    assert monitor.poll(10000)
    return recv_monitor_message(monitor)["event"]


@pytest.mark.slow
def test_what_is_the_users_stays_open(bus, tmp_path):
    """A child keeps the user's own sockets: on the same port by IPv6, on others, and to others."""
    config = own_config(bus)
    del config["endpoints"]["publisher"][1:]
    port = int(config["endpoints"]["publisher"][0].rpartition(":")[2])
    code = FORK + (
        "import socket\n"
        "six = socket.socket(socket.AF_INET6)\n"
        "six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)\n"
        "six.bind(('::', %d)); six.listen()\n"
        "own = socket.create_server(('127.0.0.1', 0))\n"
        "out = socket.create_connection(own.getsockname())\n"
        "publish()\n"
        "def check():\n"
        "    six.getsockname(); own.getsockname(); out.send(b'x')\n"
        "    return own.accept()[0].recv(1)\n"
        "reap(fork(check)); say(acks())" % port
    )
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    status, lines, errors = run(code, config, tmp_path)
    assert (status, errors) == (0, "") and "child: b'x'" in lines, lines


@pytest.mark.slow
def test_no_lock_is_held_in_a_child(bus, tmp_path):
    """Children forked while other threads publish at full speed have their messages confirmed."""
    code = FORK + (
        "over = threading.Event()\n"
        "def work():\n"
        "    while not over.is_set():\n"
        "        for call in (publish, lambda: publish(recipients=[], post_init_sleep=0)): call()\n"
        "publish(); threads = [threading.Thread(target=work) for _ in range(3)]\n"
        "[thread.start() for thread in threads]\n"
        "for _ in range(6): reap(fork(acks))\n"
        "over.set(); [thread.join() for thread in threads]; say(acks())"
    )

    status, lines, errors = run(code, own_config(bus), tmp_path, limit=120)
    assert status == 0 and "Error" not in errors, errors
    assert lines.count("child: ['alice']") == lines.count("status: 0") == 6, lines


@pytest.mark.slow
def test_what_is_outstanding_is_the_parents(bus, tmp_path):
    """A child that asks for the outcome of its parent's message is told at once; the parent gets it."""
    bus.slow("alice", 5.0)
    code = FORK + (
        "future = gilmsg.publish_async(topic='t', msg={}, recipients=['alice'], ack_timeout=20, **config)\n"
        "reap(fork(future.result)); say(list(future.result(30).acks))\n"
        "reap(fork(lambda: list(future.result().acks)))"
    )
    status, lines, errors = run(code, own_config(bus), tmp_path)
    assert (status, errors) == (0, "")
    assert lines[0].startswith("child: ListenerError") and "before it forked" in lines[0]
    assert lines[1:] == ["status: 0", "['alice']", "child: ['alice']", "status: 0"]


@pytest.mark.slow
def test_exec_inherits_nothing(bus, tmp_path):
    """A program started after a publish, even with close_fds off, has none of our descriptors."""
    code = FORK + (
        "publish()\n"
        "look = 'import os; print([os.readlink(\"/proc/self/fd/\" + n) for n in os.listdir(\"/proc/self/fd\")"
        " if os.path.exists(\"/proc/self/fd/\" + n)])'\n"
        "for close in (True, False):\n"
        "    found = subprocess.check_output([sys.executable, '-c', look], close_fds=close).decode()\n"
        "    say('leaks' if 'socket:' in found or 'eventpoll' in found or 'eventfd' in found else 'clean')"
    )
    assert run(code, own_config(bus), tmp_path) == (0, ["clean", "clean"], "")


@pytest.mark.slow
def test_a_child_of_a_tail_is_refused_and_harmless(bus, tmp_path):
    """A child cannot read its parent's tail, may open its own; the parent's goes on."""
    config = own_config(bus, name="carol")
    config["endpoints"]["carol"] = [bus.ports.endpoint(), bus.ports.endpoint()]
    code = FORK + (
        "tail = gilmsg.tail_messages(topic='org.example.dev.tests', **config)\n"
        "def child():\n"
        "    try: next(tail)\n"
        "    except gilmsg.ConfigurationError as error: say('refused: %s' % error)\n"
        "    tail.close(); gilmsg.tail_messages().close(); return 'done'\n"
        "reap(fork(child, sys.exit))\n"
        "say('there')\n"
        "say(next(tail)[2])\n"
    )
    with Child(code, config, tmp_path) as child:
        child.wait_for("there")
        before = own_config(bus, **{"gilmsg.head_start": 20.0})
        before["endpoints"]["carol"] = config["endpoints"]["carol"]
        assert gilmsg.publish(topic="t", msg={}, recipients=["carol"], ack_timeout=10, **before).acks
        assert child.end() == 0 and child.err() == ""
    assert child.lines[0].startswith("refused: this tail_messages() belongs to process")
    assert child.lines[1:] == ["child: done", "status: 0", "there", "org.example.dev.tests.t"]


FORKING = CONSUMERS + '''
import multiprocessing


def child(config):
    import gilmsg
    gilmsg.publish(topic="child", msg={}, recipients=["alice"], ack_timeout=10, **config)


class Forking(Base):
    def consume(self, message):
        if message["topic"].endswith(".tests.t"):
            config = dict(self.hub.config, name="forked")
            process = multiprocessing.get_context("fork").Process(target=child, args=(config,))
            process.start()
            process.join()
            say(str(process.exitcode), message)
'''


@pytest.mark.slow
def test_a_child_of_a_hub_publishes(bus, tmp_path):
    """consume() may fork a process that publishes by a port of its own; the hub goes on."""
    config = own_config(bus, name="carol")
    config["endpoints"]["forked"] = [config["endpoints"]["publisher"][-1]]
    config["certnames"]["forked"] = "publisher"
    with Hub(tmp_path / "hub", config, ["Forking"], FORKING) as hub:
        for number in (1, 2):
            gilmsg.publish(
                topic="t", msg={}, recipients=["carol"], ack_timeout=10.0,
                **own_config(bus, **{"gilmsg.head_start": 20.0})
            )
            _process.wait_for(lambda: len(hub.consumed()) == number, "it consumed")
        assert [line["who"] for line in hub.consumed()] == ["0", "0"]
        assert len(listening_ports(hub.pid)) == 1
