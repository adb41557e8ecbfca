"""The listener dies: every waiter hears of it at once, with the cause; the next publish works.

Faults are injected by patching the listener's own methods, since nothing from outside can
make its loop fail: that is what it promises.
"""

import logging
import threading
import time

import pytest

import gilmsg
from gilmsg import _ack_socket, _callbacks, _ledger, _listener, _listeners, _outlets, _pending, _visibility, _wakeup

from ..conftest import own_config
from ..helpers import own_descriptors
from ..processes import PROMPT
from ..processes import wait_for
from .children import run

FAULTS = [OSError("injected"), MemoryError("injected"), SystemExit("injected"), KeyboardInterrupt("injected")]


def raiser(fault):
    def fail(*_):
        raise fault

    return fail


def count():
    return sum(len(one._ledger) for one in _listeners._listeners.values())


class Waiters:
    """Three threads in publish and three futures, all waiting for somebody who never answers."""

    def __init__(self, bus):
        self.failures = []
        call = dict(
            own_config(bus, **{"gilmsg.head_start": 0}), topic="t", msg={}, recipients=["nobody"],
            ack_timeout=3600,
        )  # fmt: skip

        def wait():
            try:
                gilmsg.publish(**call)
            except BaseException as error:
                self.failures.append(error)

        self.threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in self.threads:
            thread.start()
        self.futures = [gilmsg.publish_async(**call) for _ in range(3)]
        wait_for(lambda: count() == 6, "all wait")

    def errors(self):
        """What all six of them are told."""
        began = time.monotonic()
        for thread in self.threads:
            thread.join(PROMPT)
        found = self.failures + [future.exception(PROMPT) for future in self.futures]
        assert time.monotonic() - began < PROMPT and len(found) == 6
        return found


def wake_to_die():
    """Make each listener's thread go round its loop, in which it dies now.

    Again and again: the round before may take in a wake-up too, with what was not yet patched.
    """
    listeners = list(_listeners._listeners.values())
    wait_for(lambda: [one._wakeup.wake() for one in listeners] and not any(one.alive for one in listeners), "they die")


def patient(bus):
    return own_config(bus, **{"gilmsg.head_start": 20.0})


def refused(bus, match=""):
    """Publish to alice, which is a ListenerError; return that."""
    with pytest.raises(gilmsg.ListenerError, match=match) as raised:
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=3600, **patient(bus))
    return raised.value


def works_again(bus):
    gilmsg.publish(topic="next", msg={}, recipients=["alice"], ack_timeout=10, **patient(bus))
    assert [one.alive for one in _listeners._listeners.values()] == [True] and count() == 0


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_every_waiter_is_told_at_once(bus, monkeypatch, fault):
    """Whatever ends the loop, threads and futures get a ListenerError with it as the cause."""
    waiters = Waiters(bus)
    with monkeypatch.context() as patch:
        patch.setattr(_wakeup.Wakeup, "clear", raiser(fault))
        wake_to_die()
        errors = waiters.errors()
    assert all(isinstance(error, gilmsg.ListenerError) for error in errors)
    assert all(error.__cause__ is fault and "injected" in str(error) for error in errors)
    works_again(bus)


def test_death_while_recipients_are_waited_for(bus, monkeypatch):
    """Who waits for a recipient to come, before the message leaves, is told at once that the listener died."""
    fault, waiting, outcomes, hooked = OSError("injected"), threading.Event(), [], []

    def wait():
        with pytest.raises(gilmsg.ListenerError, match="nothing was sent") as raised:
            gilmsg.publish(topic="t", msg={}, recipients=["nobody"], pre_fire_hook=hooked.append, **patient(bus))
        outcomes.append(raised.value)

    thread = threading.Thread(target=wait)
    with monkeypatch.context() as patch:
        patch.setattr(_visibility._presence, "ready", lambda *_: waiting.set())
        thread.start()
        assert waiting.wait(PROMPT)
        patch.setattr(_wakeup.Wakeup, "clear", raiser(fault))
        wake_to_die()
        thread.join(PROMPT)
    assert [one.__cause__ for one in outcomes] == [fault] and hooked == []
    works_again(bus)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_death_at_the_start(bus, monkeypatch, fault):
    """A listener that dies while it starts is a ListenerError of that publish, with the cause."""
    with monkeypatch.context() as patch:
        patch.setattr(_ack_socket.AckSocket, "__init__", raiser(fault))
        error = refused(bus, "did not start")
    assert error.__cause__ is fault
    works_again(bus)


def test_no_thread_can_be_started(bus, monkeypatch):
    """Where the system gives no more threads, publish is a ListenerError that says so."""
    fault = RuntimeError("can't start new thread")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", raiser(fault))
        error = refused(bus, "new thread")
    assert error.__cause__ is fault
    works_again(bus)


def test_death_while_it_tells_a_success(bus, monkeypatch):
    """If telling a success fails, that very waiter and all the others get the ListenerError."""
    waiters = Waiters(bus)
    fault = MemoryError("injected")
    with monkeypatch.context() as patch:
        patch.setattr(_pending, "Receipt", raiser(fault))
        error = refused(bus)
        errors = waiters.errors()
    assert {one.__cause__ for one in errors + [error]} == {fault}
    works_again(bus)


def test_death_while_it_tells_a_timeout(bus, monkeypatch):
    """If telling a Timeout fails, that very waiter and all the others get the ListenerError."""
    waiters = Waiters(bus)
    fault = OSError("injected")
    late = dict(own_config(bus), topic="t", msg={}, recipients=["nobody"], ack_timeout=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(_visibility.Visibility, "missing", raiser(fault))
        with pytest.raises(gilmsg.ListenerError) as raised:
            gilmsg.publish(**late)
        errors = waiters.errors()
    assert {error.__cause__ for error in errors + [raised.value]} == {fault}
    works_again(bus)


def test_a_waiter_that_cannot_be_told_does_not_keep_others(bus, monkeypatch):
    """Of all the waiters, one that refuses the error leaves none of the others waiting."""
    waiters = Waiters(bus)
    first = waiters.futures[0]
    plain = type(first).settle

    def refuse(self, result, error):
        if self is first:
            raise RuntimeError("injected")
        plain(self, result, error)

    with monkeypatch.context() as patch:
        patch.setattr(type(first), "settle", refuse)
        patch.setattr(_ledger.Ledger, "expired", raiser(OSError("injected")))
        wake_to_die()
        for thread in waiters.threads:
            thread.join(PROMPT)
        assert len(waiters.failures) == 3
        assert all(isinstance(f.exception(PROMPT), gilmsg.ListenerError) for f in waiters.futures[1:])
    assert not first.done()
    works_again(bus)


def test_death_again_and_again_leaves_nothing(bus, monkeypatch):
    """Listeners that die one after the other leave no thread and no descriptor."""
    import psutil

    def left():
        return own_descriptors(), process.num_threads()

    works_again(bus)
    process = psutil.Process()
    before = left()
    for _ in range(5):
        with monkeypatch.context() as patch:
            patch.setattr(_listener.Listener, "_take_frames", raiser(OSError("injected")))
            with pytest.raises(gilmsg.ListenerError):
                gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=3600, **patient(bus))
        works_again(bus)
    within = lambda: all(now <= then for now, then in zip(left(), before))  # noqa: E731
    wait_for(within, "nothing more than %s is left" % (before,), 15)


def test_a_new_listener_is_given_time_to_connect(bus, monkeypatch):
    """However old the publisher is, after the listener's death the next publish is confirmed."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10, **patient(bus))
    for outlet in _outlets._outlets.values():
        outlet.born -= 3600  # it has been there for an hour
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(_listener.Listener, "_take_frames", raiser(OSError("injected")))
            with pytest.raises(gilmsg.ListenerError):
                gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=3600)
        assert gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=5).acks


CORE = """
if __debug__: sys.exit("asserts are not off")
fault = OSError("injected")

def fail(*_):
    raise fault

told = []

def wait():
    try: publish("nobody", ack_timeout=3600)
    except gilmsg.ListenerError as error: told.append(error.__cause__ is fault)

say(list(publish().acks))
threads = [threading.Thread(target=wait) for _ in range(3)]
[thread.start() for thread in threads]
until(lambda: sum(len(one._ledger) for one in _listeners._listeners.values()) == 3)
plain, _wakeup.Wakeup.clear = _wakeup.Wakeup.clear, fail
wake_until(lambda: not any(one.alive for one in list(_listeners._listeners.values())))
[thread.join(20) for thread in threads]
_wakeup.Wakeup.clear = plain
say(told)
say(list(publish().acks))
gilmsg.destroy()
say(list(publish().acks))
try: publish("nobody", ack_timeout=0.05)
except gilmsg.Timeout as error: say(sorted(error.missing))
try: publish("")
except gilmsg.ConfigurationError: say("refused")
say(list(gilmsg.publish_async(topic="t", msg={}, recipients=["alice"], ack_timeout=10).result(20).acks))
"""


def test_without_asserts_nothing_changes(bus, tmp_path):
    """Under python -O: success, Timeout, refusal, destroy, and the listener's death told."""
    config = own_config(bus, **{"gilmsg.head_start": 1.0})
    status, lines, errors = run(CORE, config, tmp_path, flags=["-O"])
    assert status == 0, errors
    assert lines == [
        "['alice']", "[True, True, True]", "['alice']", "['alice']", "['nobody']", "refused", "['alice']",
    ]  # fmt: skip


def test_a_report_without_a_thread_to_make_it_harms_no_waiter(bus, monkeypatch):
    """Where no more threads can be started, a Timeout that should be logged leaves the others waiting."""
    late = gilmsg.publish_async(
        topic="t", msg={}, recipients=["alice"], ack_timeout=10, **patient(bus)
    )
    late.result(10)
    bus.silent("alice")
    waiting = gilmsg.publish_async(topic="t", msg={}, recipients=["alice"], ack_timeout=3600)
    with monkeypatch.context() as patch:
        # A mock: using up the machine's threads for real would harm everybody else on it.
        patch.setattr(_callbacks.callbacks, "start", lambda: False)
        patch.setattr(_callbacks.futures, "start", lambda: False)
        short = gilmsg.publish_async(topic="t", msg={}, recipients=["alice"], ack_timeout=0.05)
        assert isinstance(short.exception(10), gilmsg.Timeout)
    assert [listener.alive for listener in _listeners._listeners.values()] == [True]
    assert not waiting.done()


def test_an_interrupt_while_it_starts(bus, monkeypatch):
    """Ctrl-C in the midst of starting the thread leaves no listener that nobody serves: the next publish works."""
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", raiser(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=3600, **patient(bus))
    assert not any(listener.alive for listener in _listeners._listeners.values())
    works_again(bus)


def hanging(go_on):
    """A listener's start that comes no further until *go_on* is set."""
    plain = _ack_socket.AckSocket.__init__

    def hang(*arguments):
        assert go_on.wait(60)
        plain(*arguments)

    return hang


def test_a_listener_that_takes_too_long_to_start(bus, monkeypatch):
    """Who waits for the start is told after a limit, the listener given up; the next publish works."""
    go_on = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(_listener, "START_LIMIT", 0.05)
        patch.setattr(_ack_socket.AckSocket, "__init__", hanging(go_on))
        with pytest.raises(gilmsg.ListenerError, match="did not start within 0.05 s"):
            gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=3600, **patient(bus))
        [late] = _listeners._listeners.values()
        go_on.set()
        late.stop()
    works_again(bus)


def test_destroy_while_a_listener_starts(bus, monkeypatch):
    """Who waits for a start that takes long is told at once that destroy() has stopped it."""
    go_on, errors = threading.Event(), []
    with monkeypatch.context() as patch:
        patch.setattr(_ack_socket.AckSocket, "__init__", hanging(go_on))
        patch.setattr(_listener, "START_LIMIT", 3600.0)
        patch.setattr(_listener, "STOP_LIMIT", 0.05)
        thread = threading.Thread(target=lambda: errors.append(refused(bus, r"stopped by destroy\(\); nothing was")))
        thread.start()
        wait_for(lambda: any(one._launched for one in _listeners._listeners.values()), "it starts")
        [late] = _listeners._listeners.values()
        gilmsg.destroy()
        thread.join(PROMPT)
        go_on.set()
        late._thread.join()
    assert len(errors) == 1
    works_again(bus)


def test_a_listener_that_keeps_no_deadline(bus, monkeypatch):
    """Who waits in vain for the Timeout is told so in the end; the next publish works, by another listener."""
    with monkeypatch.context() as patch:
        patch.setattr(_pending, "_GRACE", (0.05,))
        patch.setattr(_listener.Listener, "_expire", lambda self: None)
        with pytest.raises(gilmsg.ListenerError, match="does not keep its deadlines"):
            gilmsg.publish(
                topic="t", msg={}, recipients=["nobody"], ack_timeout=0.05,
                **own_config(bus, **{"gilmsg.head_start": 0}),
            )
        assert [listener.alive for listener in _listeners._listeners.values()] == [False]
    works_again(bus)


def test_death_after_it_has_told_a_success(bus, monkeypatch, caplog):
    """What was told stands: whoever has the Receipt gets no ListenerError on top; the next publish works."""
    caplog.set_level(logging.DEBUG, "gilmsg._pending")
    with monkeypatch.context() as patch:
        patch.setattr(_callbacks.callbacks, "run", raiser(MemoryError("injected")))
        future = gilmsg.publish_async(topic="t", msg={}, recipients=["alice"], ack_timeout=3600, **patient(bus))
        assert future.result(PROMPT).acks
        [listener] = _listeners._listeners.values()
        wait_for(lambda: not listener.alive, "the listener dies")
        listener.stop()
    works_again(bus)


class Destroyer(logging.Handler):
    """Destroys everything whenever somebody logs an error."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.threads = []

    def emit(self, record):
        gilmsg.destroy()
        self.threads.append(threading.current_thread().name)


def test_destroy_on_the_listeners_own_thread(bus, monkeypatch):
    """A logging handler that calls destroy() for what the dying listener logs does not make it wait for itself."""
    works_again(bus)
    handler, began = Destroyer(), time.monotonic()
    logging.getLogger("gilmsg._listener").addHandler(handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(_wakeup.Wakeup, "clear", raiser(OSError("injected")))
            wake_to_die()
            wait_for(lambda: handler.threads, "it is called")
    finally:
        logging.getLogger("gilmsg._listener").removeHandler(handler)
    assert handler.threads == ["gilmsg-listener"] and time.monotonic() - began < PROMPT
    assert not _listeners._listeners
    works_again(bus)
