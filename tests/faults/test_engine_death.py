"""The engine thread dies: every waiter hears of it at once, with the cause; the next publish works.

Nothing from outside can make its loop fail: that is what it promises. So faults are injected; see tests/inside.py.
"""

import logging
import threading
import time

import psutil
import pytest

import gilmsg

from .. import inside
from ..conftest import own_config
from ..helpers import in_threads, own_descriptors, until_present
from ..processes import PROMPT, wait_for
from .children import run

FAULTS = [OSError("injected"), MemoryError("injected"), SystemExit("injected"), KeyboardInterrupt("injected")]


class Waiters:
    """Three threads in publish and three futures that wait for nobody, and one of each that has not left yet."""

    def __init__(self, bus):
        self.failures = []
        call = dict(own_config(bus), topic="t", msg={}, recipients=["nobody"], ack_timeout=3600)
        sent, held = (dict(call, **{"gilmsg.head_start": seconds}) for seconds in (0, 3600.0))
        self.threads = [threading.Thread(target=self._wait, args=(one,)) for one in (sent, sent, sent, held)]
        for thread in self.threads:
            thread.start()
        self.futures = [gilmsg.publish_async(**sent) for _ in range(3)]
        # On a thread of its own: it holds back what its thread publishes next.
        self.futures += in_threads(lambda: gilmsg.publish_async(**held))
        wait_for(lambda: (inside.outstanding(), inside.held()) == (6, 2), "all wait")

    def _wait(self, call):
        try:
            gilmsg.publish(**call)
        except BaseException as error:  # noqa: BLE001  whatever it is, it is told
            self.failures.append(error)

    def require_told(self, fault):
        """All eight of them were told at once, of that *fault*, and whether anything was sent."""
        began = time.monotonic()
        for thread in self.threads:
            thread.join(PROMPT)
        found = self.failures + [future.exception(PROMPT) for future in self.futures]
        assert time.monotonic() - began < PROMPT
        assert all(isinstance(error, gilmsg.ListenerError) and error.__cause__ is fault for error in found)
        assert sum("nothing was sent" in str(error) for error in found) == 2
        assert sum("whether the message was received is unknown" in str(error) for error in found) == 6


@pytest.fixture
def call(bus):
    """The arguments of a call to alice, who may be on her way."""
    return dict(
        own_config(bus, **{"gilmsg.head_start": 20.0}), topic="t", msg={}, recipients=["alice"], ack_timeout=10.0
    )


def refused(call, fault, match="died", **more):
    """Publish, which is a ListenerError at once."""
    began = time.monotonic()
    with pytest.raises(gilmsg.ListenerError, match=match) as raised:
        gilmsg.publish(**{**call, "ack_timeout": 3600, **more})
    assert raised.value.__cause__ is fault and time.monotonic() - began < PROMPT


def works_again(call):
    assert gilmsg.publish(**call).acks
    assert inside.running() == (1, 1) and inside.outstanding() == 0


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_every_waiter_is_told_at_once(bus, call, fault):
    """Whatever ends the thread, threads and futures get a ListenerError with it as the cause."""
    waiters = Waiters(bus)
    inside.kill_engine(fault)
    waiters.require_told(fault)
    works_again(call)


@pytest.mark.parametrize("step", ["a round", "a frame", "a send", "a success"])
def test_whatever_step_it_dies_in(bus, call, monkeypatch, step):
    """Who is just being served is told as well, by the same error."""
    fault = OSError("injected")
    works_again(call)
    waiters = Waiters(bus)
    with monkeypatch.context() as patch:
        inside.break_step(patch, step, fault)
        refused(call, fault)
        waiters.require_told(fault)
    works_again(call)


def test_death_while_it_tells_a_timeout(bus, call, monkeypatch):
    """If telling a Timeout fails, that very waiter and all the others get the ListenerError."""
    fault = OSError("injected")
    waiters = Waiters(bus)
    with monkeypatch.context() as patch:
        inside.break_step(patch, "a Timeout", fault)
        refused(dict(call, recipients=["nobody"], **{"gilmsg.head_start": 0}), fault, ack_timeout=0.01)
        waiters.require_told(fault)
    works_again(call)


def test_death_while_recipients_are_waited_for(call):
    """A publish with a hook that waits for its recipients is told at once, and its hook not called."""
    fault, told, hooked = OSError("injected"), [], []
    late = dict(call, recipients=["nobody"], pre_fire_hook=hooked.append, **{"gilmsg.head_start": 3600.0})

    def wait():
        with pytest.raises(gilmsg.ListenerError, match="nothing was sent") as raised:
            gilmsg.publish(**late)
        told.append(raised.value)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_for(inside.held, "it waits")
    inside.kill_engine(fault)
    thread.join(PROMPT)
    assert [one.__cause__ for one in told] == [fault] and hooked == []
    works_again(call)


def test_death_after_it_has_told_a_success(call, monkeypatch):
    """What was told stands: whoever has the Receipt gets no ListenerError on top; the next publish works."""
    future = gilmsg.publish_async(**call)
    assert future.result(PROMPT).acks
    inside.kill_engine(OSError("injected"))
    assert future.result(0).acks
    works_again(call)


def test_a_socket_that_cannot_be_opened(call, monkeypatch):
    """It is an error of that publish; the thread lives on."""
    works_again(call)
    gilmsg.destroy()
    fault = OSError("injected")
    with monkeypatch.context() as patch:
        inside.break_step(patch, "an opening", fault)
        with pytest.raises(OSError, match="injected"):
            gilmsg.publish(**call)
        engine = inside.engine()
    works_again(call)
    assert inside.engine() is engine


@pytest.mark.parametrize("fault", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_a_thread_that_cannot_start(call, monkeypatch, fault):
    """Where the system gives no more threads publish is a ListenerError that says so; Ctrl-C stays what it is."""
    with monkeypatch.context() as patch:
        inside.refuse_threads(patch, fault, inside.ENGINE_THREAD)
        if isinstance(fault, RuntimeError):
            refused(call, fault, "new thread")
        else:
            with pytest.raises(KeyboardInterrupt):
                gilmsg.publish(**call)
    assert inside.engine() is None
    works_again(call)


def test_a_report_without_a_thread_to_make_it_harms_no_waiter(bus, call, monkeypatch):
    """Where no more threads can be started, a future is refused, a Timeout told, and the others go on waiting."""
    works_again(call)
    bus.slow("alice", 600.0)  # until she is told otherwise
    with monkeypatch.context() as patch:
        fault = RuntimeError("can't start new thread")
        inside.refuse_threads(patch, fault, "gilmsg-callbacks", "gilmsg-futures")
        inside.forget_workers(patch)
        with pytest.raises(gilmsg.ListenerError, match="new thread"):
            gilmsg.publish_async(**call)
        with pytest.raises(gilmsg.Timeout):
            gilmsg.publish(**dict(call, ack_timeout=0.05))
    bus.slow("alice", 0)
    waiting = gilmsg.publish_async(**call)
    assert waiting.result(30).acks
    works_again(call)


def test_an_engine_that_keeps_no_deadline(bus, call, monkeypatch):
    """Who waits in vain for the Timeout is told so in the end; the next publish works, by another engine."""
    gilmsg.init(**own_config(bus, **{"gilmsg.head_start": 0}))
    until_present("alice")
    # Without a head start: whoever may be held behind another's is patient for so long.
    works_again({**call, "gilmsg.head_start": 0})
    with monkeypatch.context() as patch:
        inside.stop_time(patch)
        with pytest.raises(gilmsg.ListenerError, match="does not keep its deadlines"):
            gilmsg.publish(**dict(call, recipients=["nobody"], ack_timeout=0.05, **{"gilmsg.head_start": 0}))
    works_again(call)


def test_a_new_engine_is_given_time_to_connect(call):
    """However old the process is, after the engine's death the next publish is confirmed."""
    for _ in range(3):
        assert gilmsg.publish(**call).acks
        inside.kill_engine(OSError("injected"))
    works_again(call)


def test_death_again_and_again_leaves_nothing(call):
    """Engines that die one after the other leave no thread and no descriptor."""
    works_again(call)
    inside.workers_done()
    process = psutil.Process()
    left = lambda: (own_descriptors(), process.num_threads())
    before = left()
    for _ in range(5):
        inside.kill_engine(OSError("injected"))
        works_again(call)
    wait_for(lambda: all(map(int.__le__, left(), before)), f"nothing more than {before} is left", 30)


class Destroyer(logging.Handler):
    """Destroys everything whenever somebody logs an error."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.threads = []

    def emit(self, record):
        gilmsg.destroy()
        self.threads.append(threading.current_thread().name)


def test_destroy_for_what_the_dying_engine_logs(call):
    """A logging handler may call destroy(), or publish, for what is logged of the death: it runs on another thread."""
    works_again(call)
    handler, began = Destroyer(), time.monotonic()
    logging.getLogger("gilmsg.listener").addHandler(handler)
    try:
        inside.kill_engine(OSError("injected"))
        wait_for(lambda: handler.threads, "it is called")
    finally:
        logging.getLogger("gilmsg.listener").removeHandler(handler)
    assert handler.threads == ["gilmsg-callbacks"] and time.monotonic() - began < PROMPT
    works_again(call)


def test_a_call_on_the_engine_thread_is_refused(call):
    """What a ``__del__`` does on the engine thread would wait for itself: it is told to do that elsewhere."""
    works_again(call)
    for job in (lambda: gilmsg.publish(**call), lambda: gilmsg.publish_async(**call), gilmsg.destroy):
        with pytest.raises(gilmsg.ConfigurationError, match="do it on a thread of its own"):
            inside.on_engine_thread(job)
    works_again(call)


@pytest.mark.slow
def test_without_asserts_nothing_changes(bus, tmp_path):
    """Under python -O: success, Timeout, refusal, destroy, and the engine's death told."""
    status, lines, errors = run("optimized", "work", own_config(bus), tmp_path, flags=["-O"])
    assert status == 0, errors
    assert lines == [
        "['alice']", "[True, True, True]", "['alice']", "['alice']", "['nobody']", "refused", "['alice']",
    ]  # fmt: skip
