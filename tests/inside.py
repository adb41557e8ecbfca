"""All that tests ask of gilmsg's inside; the rest of tests/, but for a room's own folder, uses public names only."""

import collections
import math
import threading
import types

import zmq
from cryptography.hazmat.primitives import serialization

from gilmsg import _engine, _protocol, _settings, _trust
from gilmsg import _pki as pki
from gilmsg._client import acknowledge, receive
from gilmsg._client import context as _context
from gilmsg._client import message as _message
from gilmsg._client import publish as _publish
from gilmsg._engine import connections, ends, loop, mailbox, operations, sockets, waiting
from gilmsg._protocol import diagnosis, wire
from gilmsg._trust import verifying
from gilmsg.sandbox import Authority, folder
from gilmsg.sandbox.processes import can_connect, wait_for
from gilmsg.sandbox.standin import say

__all__ = ["can_connect", "pki", "say"]


#: Threads that stay for the life of the process, asleep, by design.
KEPT_THREADS = {"gilmsg-callbacks", "gilmsg-futures", "gilmsg-signing", "gilmsg-talker"}

#: The thread that hears ACKs.
ENGINE_THREAD = "gilmsg-engine"

#: The module that is a stand-in recipient: its first line on stdin is a configuration, each further one an order.
STAND_IN = "gilmsg.sandbox.standin"


# What this thread's publisher sees.


def _look(see, topic="org.example.dev.tests.t"):
    port = _context.port(_context.current())
    way = port.way(topic)
    return port.look(lambda: see(way))


def present(recipients, topic="org.example.dev.tests.t"):
    """Whether a publish to *recipients* from this thread would not have to wait for anybody."""
    return _look(lambda way: way.ready(recipients), topic)


def listens(common_name, topic=""):
    """Whether *common_name* is announced at this thread's publisher as a listener to *topic*."""
    return _look(lambda way: way.peers.listens_since(common_name, topic) is not None)


def topics(common_name):
    """The topics to which *common_name* is announced there."""
    return _look(lambda way: way.peers.topics(common_name))


def anyone():
    """Whether anybody at all is connected there."""
    return _look(lambda way: way.peers.anyone())


def subscribed_to_just(topic):
    """Whether somebody is subscribed there to *topic*, and not to its beginning or end."""
    return _look(lambda way: way.peers.asked_for(topic))


def asked_for(name, topic):
    """Whether somebody is subscribed to *topic* at the publisher that this process has under *name*."""
    [out] = [one for address, one in _engine._engine._outs.items() if address.name == name]
    return _engine._engine.ask(lambda: out.peers.asked_for(topic))


def endpoint():
    """The endpoint at which this thread's publisher is bound."""
    return _context.port(_context.current()).endpoint


# The engine of this process.


def _outs():
    engine = _engine._engine
    return [] if engine is None else list(engine._outs.values())


def _ears():
    engine = _engine._engine
    return [] if engine is None or engine.over else list(engine._ears.values())


def outstanding():
    """How many messages wait for ACKs in this process."""
    return sum(len(ear.delivery._entries) for ear in _ears())


def awaited():
    """The ids of the messages that wait for ACKs."""
    return [entry.msg_id for ear in _ears() for entry in ear.delivery._entries.values()]


def held():
    """How many messages wait to leave, for their head start say."""
    return sum(len(line) for out in _outs() for line in out.lines._lines.values())


def running():
    """How many publishers and listeners this process has."""
    return len(_outs()), len(_ears())


def engine():
    """What tells this engine from the one before; None while there is none."""
    return _engine._engine if _engine.running() else None


def connected(endpoint):
    """Whether some listener of this process is connected to *endpoint*."""
    return any(ear.connections.links.up(endpoint) for ear in _ears())


def connected_since(endpoint):
    """The moments since when listeners of this process are connected to *endpoint*: a new connection has a new one."""
    links = [ear.connections.links for ear in _ears()]
    found = [one._links[address].up_since for one in links for address in list(one._addresses.get(endpoint, ()))]
    return [moment for moment in found if moment is not None]


def ear(context, ack_topic, endpoints):
    """The socket by which the ACKs of a bus come in, without a thread that reads it."""
    book = types.SimpleNamespace(ack_topic=ack_topic, publishing={"all": endpoints}, key=ack_topic)
    return ends.Ear(context, book, {}, sockets.Names(lambda: None), collections.deque())


#: Steps of the engine thread, each of which may be made to fail: see `break_step`.
STEPS = {
    "a round": (loop.Engine, "_round"),
    "a frame": (_protocol.Delivery, "frame"),
    "a send": (ends.Out, "send"),
    "a success": (diagnosis, "Receipt"),
    "a Timeout": (diagnosis, "explain"),
    "an opening": (ends.Ear, "__init__"),
}


def break_step(patch, step, error):
    """Let *step*, of STEPS, fail with *error*."""

    def broken(*_, **__):
        raise error

    patch.setattr(*STEPS[step], broken)


def kill_engine(error):
    """Let the engine thread die of *error*, now."""

    class Deadly:
        def run(self, engine, now):
            raise error

        def fail(self, *_):
            pass

    dying = _engine._engine
    dying.put(Deadly())
    wait_for(lambda: not dying._thread.is_alive(), "the engine dies")


def count_no_more():
    """Have nothing counted for metrics any more, as before somebody registered."""
    _engine.counting.tally = None


def stop_time(patch, grace=0.05):
    """Let the engine keep no deadline, and callers lose patience with it in *grace* seconds."""
    patch.setattr(_protocol.Delivery, "expired", lambda self, now: [])
    patch.setattr(mailbox, "_GRACE", (grace,))


def be_patient(patch):
    """Let destroy() wait longer for the end of the engine than users are kept waiting."""
    patch.setattr(mailbox, "STOP_LIMIT", 30.0)


def refuse_threads(patch, fault, *names):
    """Let threads of these names not start, by *fault*: to use up the machine's would harm everybody else on it."""
    start = threading.Thread.start

    def refused(thread):
        if thread.name in names:
            raise fault
        start(thread)

    patch.setattr(threading.Thread, "start", refused)


def forget_workers(patch):
    """Let the threads of futures and callbacks be started anew by their next job."""
    for worker in (waiting.futures, waiting.callbacks):
        patch.setattr(worker, "_thread", None)


def replace_workers(patch):
    """Let publishers require workers that have no thread yet."""
    for name in ("signing", "futures", "callbacks"):
        patch.setattr(_engine, name, waiting.Worker(f"gilmsg-{name}"))


def look_up_often(patch):
    """Let host names be looked up again at once."""
    patch.setattr(connections, "_LOOK_UP_AGAIN", 0.05)
    patch.setattr(connections, "_LOOK_UP_ALL", 0.05)


def on_engine_thread(job):
    """Do *job* there; return what it returns."""
    return _context.port(_context.current()).look(job)


def resolve(patch, getaddrinfo):
    """Let host names be looked up by *getaddrinfo*."""

    class Faked:
        def __getattr__(self, name):
            return getattr(real, name)

    real, faked = sockets._socket, Faked()
    faked.getaddrinfo = getaddrinfo
    patch.setattr(sockets, "_socket", faked)


def quicken_heartbeats(patch, interval, timeout):
    """Set heartbeats to so many milliseconds for sockets made from here on: the real ones take 7 s."""
    quick = {zmq.HEARTBEAT_IVL: interval, zmq.HEARTBEAT_TIMEOUT: timeout}
    patch.setattr(sockets, "_HEARTBEATS", {**sockets._HEARTBEATS, **quick})


def spy(patch, see):
    """Call *see* with the parts of each frame that is looked at as an ACK, on the engine thread."""
    frame = _protocol.Delivery.frame

    def seen(delivery, parts, now):
        try:
            return frame(delivery, parts, now)
        finally:
            see(parts)

    patch.setattr(_protocol.Delivery, "frame", seen)


def spy_acks(note):
    """Call *note* with the id of each message whose ACK is about to leave this process, for the rest of its life."""
    acknowledger = acknowledge.Acknowledger
    send = acknowledger.acknowledge

    def noted(self, body):
        note(body["ack_msg_id"])
        send(self, body)

    acknowledger.acknowledge = noted


# What is kept for the life of the process.


def sizes():
    """How large is what is kept, by name."""
    return {
        "entries": outstanding() + held(),
        "deadlines": sum(len(ear.delivery._deadlines) for ear in _ears()),
        "outs": len(_outs()),
        "ears": len(_ears()),
        "handles": sum(len(end.users) for end in _outs() + _ears()),
        "names seen": sum(len(out.peers._ended) for out in _outs()),
    }  # fmt: skip


def kinds_of(objects):
    """How many of *objects* are of the kinds of which none is to stay."""
    kept = {"messages": (_protocol.Entry, operations.Held), "outcomes": (waiting.Outcome, waiting.CallbackFuture)}
    return {name: sum(issubclass(type(one), kinds) for one in objects) for name, kinds in kept.items()}


def fill_warnings():
    """Let as many topics be warned of as are remembered."""
    _publish._warned.update(f"filled {n}" for n in range(_publish._MOST_WARNED - len(_publish._warned)))


def bound_warnings(patch, most):
    """Let at most so many topics be remembered as warned of."""
    patch.setattr(_publish, "_MOST_WARNED", most)


def warnings():
    """How many topics are remembered as warned of."""
    return len(_publish._warned)


def listening_ports():
    """The ports on which this process listens."""
    return _engine.listening_ports()


def forget_keys():
    """Let keys and trust stores be read anew."""
    _trust._kept = _trust._Kept(0, {}, {})


def look_at_files():
    """Have keys, certificates, CA and CRL looked at by their next use, and not after 0.1 s at the latest."""
    for one in (*_trust._kept.signers.values(), *_trust._kept.verifiers.values()):
        one._looked = -math.inf


def forget_warnings():
    """Let what is warned of once in a process be warned of again."""
    _publish._warned.clear()
    _publish._loop_told = False


def callbacks_done():
    """Wait for what the threads of signing, futures and callbacks have in hand: log lines are this test's, not the next one's.

    A job that is being done is in no queue any more: so each thread that runs is asked.
    """
    for worker in (waiting.signing, waiting.futures, waiting.callbacks):  # in this order: each may give the next ones work
        if not worker._jobs.empty() or (worker._thread is not None and worker._thread.is_alive()):
            said = threading.Event()
            worker.run(said.set)
            wait_for(said.is_set, "what was queued is done", 30)


def workers_done():
    """Wait for what the threads of futures and callbacks have in hand, and for them to let go of it."""
    for worker in (waiting.futures, waiting.callbacks):  # in this order: the first may give the second work
        done = threading.Event()
        worker.run(done.set)
        assert done.wait(60), worker


# For the benchmarks.

#: Functions at which the profile by steps takes the time: owner, name, what begins with a call, what ends with it. In
#: brackets what the recipient does; see tests/benchmarks/steps.py.
PUBLISHER_POINTS = [
    (_message, "sealed", "sign", "signed"),
    (ends.Out, "send", None, "sent"),
    (_protocol.Delivery, "frame", "decode", "verified"),
]
RECIPIENT_POINTS = [
    (_protocol.Received, "of", "(decode)", None),
    (receive.Tail, "_checked", None, "(verified)"),
    (_message, "sealed", "(sign)", "(signed)"),
    (ends.Out, "send", None, "(sent)"),
]

#: Returns when the ACK of a recipient has left.
ACKNOWLEDGE = acknowledge.Acknowledger, "acknowledge"


def acknowledge_by(send):
    """Let each ACK leave by a call of *send* with its parts, on the thread of its tail; for the rest of the process."""
    _engine.Port.acknowledge = lambda port, parts, origin: send(parts)


# For those who aim at the parsers.

#: The pure core: whatever bytes come from the bus, it lets out BadFrame and Refused only.
protocol = _protocol
protocol_wire = wire


def bridge(patch, seconds):
    """Let a trust file that has become unreadable be bridged for so long by what was read before."""
    patch.setattr(verifying, "_BRIDGE", seconds)


def sealed(message, config, certname):
    """*message*, signed, the bytes that this covers, and those on the wire."""
    return _message.sealed(message, config, certname)


def verifier(config):
    """Who checks signatures by the CA and CRL of *config*; checked to be usable."""
    return _trust.verifier(config)


# The sandbox's means.


def authority(folder, **options):
    """A throw-away CA in *folder*."""
    return Authority(str(folder), **options)


def write_key(authority, path):
    """Write the private key of *authority* itself to *path*."""
    pki.write(path, pki.private_pem(authority._issuer.key))


def read_key(authority, path):
    """Let *authority* sign with the private key at *path*."""
    with open(path, "rb") as stream:
        authority._issuer.key = serialization.load_pem_private_key(stream.read(), None)


def signed_bus(*arguments, **options):
    """The configuration of a bus whose messages are signed and checked: see the sandbox."""
    return folder.signed_bus(*arguments, **options)


def free_ports():
    """Hands out free ports: see ``Sandbox.ports``."""
    return folder.Ports()


def stand_in(bus, common_name):
    """The process id of a stand-in."""
    return bus._processes[common_name][-1].pid


def keys():
    """gilmsg's own keys of the configuration, each with its default."""
    return {key: _settings.read(key, {}) for key in _settings.KEYS}
