"""publish_async: thousands on their way at once, asyncio that gives up, callbacks that misbehave."""

import _thread
import asyncio
import concurrent.futures
import logging
import os
import signal
import threading

import pytest

import gilmsg
from gilmsg import _callbacks, _listeners, _outlets
from gilmsg._uninterrupted import here, uninterrupted

from .helpers import Inbox
from .processes import PROMPT
from .talking import wait_for


def send(config, number=0, recipient="alice", topic="t", ack_timeout=60.0):
    return gilmsg.publish_async(
        topic=topic, msg={"n": number}, recipients=[recipient], ack_timeout=ack_timeout, **config
    )


#: 5,000 are some 15 MB: more than the kernel keeps for a connection, so the rest must be in our queues.
AT_ONCE = [500, pytest.param(5000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", AT_ONCE)
def test_all_that_is_sent_in_one_go_to_a_slow_recipient_is_confirmed(bus, config, count):
    """However many are outstanding at once, each is confirmed in the end; no queue drops any, no thread waits."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
    bus.slow("alice", 600.0)  # it takes the first, and then none until it is told otherwise
    threads = threading.active_count()
    inbox = Inbox(bus, "flood")
    futures = [send(config, number, topic="flood", ack_timeout=300.0) for number in range(count)]
    assert [len(one._ledger) for one in _listeners._listeners.values()] == [count]
    assert not any(future.done() for future in futures)
    assert threading.active_count() <= threads
    bus.slow("alice", 0.0005)
    receipts = [future.result(300) for future in futures]
    assert len({receipt.msg_id for receipt in receipts}) == count
    assert all(list(receipt.acks) == ["alice"] for receipt in receipts)
    assert [got["msg"]["n"] for got in inbox.messages()] == list(range(count))
    bus.forget()
    assert [len(one._ledger) for one in _listeners._listeners.values()] == [0]


def test_asyncio_that_gives_up_harms_nobody(bus, config, caplog):
    """Of many awaited at once some are cancelled and some given up; the futures go on, the others are confirmed."""
    caplog.set_level(logging.ERROR)
    complaints = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
        bus.slow("alice", 600.0)
        futures = [send(config, number) for number in range(30)]
        cancelled, given_up, awaited = (
            [asyncio.ensure_future(asyncio.wrap_future(one)) for one in futures[start::3]] for start in range(3)
        )
        for task in cancelled:
            task.cancel()
        for task in given_up:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(task, 0.001)
        assert all(task.cancelled() for task in cancelled + given_up)
        assert all(future.running() and not future.cancelled() for future in futures)
        # Without the loop: it must be free to hear of the rest.
        await asyncio.get_running_loop().run_in_executor(None, bus.slow, "alice", 0.0)
        return futures, await asyncio.gather(*awaited)

    futures, receipts = asyncio.run(main())
    assert [receipt.msg_id for receipt in receipts] == [one.result(60).msg_id for one in futures[2::3]]
    assert all(list(future.result(60).acks) == ["alice"] for future in futures)
    assert complaints == [] and caplog.records == []


def test_callbacks_that_block_or_raise_delay_no_ack(bus, config, caplog):
    """While one callback blocks and others raise, messages are confirmed and time out; then all callbacks run."""
    caplog.set_level(logging.CRITICAL, "gilmsg._callbacks")
    blocked, entered, ran = threading.Event(), threading.Event(), []

    def block(future):
        entered.set()
        assert blocked.wait(60)

    def leave(future):
        ran.append(future)
        raise SystemExit("a callback's own business")

    first = send(config)
    first.add_done_callback(block)
    try:
        assert first.result(60).acks and entered.wait(60)
        futures = [send(config, number) for number in range(50)]
        lost = send(dict(config, **{"gilmsg.head_start": 0}), recipient="nobody", ack_timeout=0.1)
        for future in futures + [lost]:
            future.add_done_callback(leave)
        assert all(future.result(60).acks for future in futures)
        assert isinstance(lost.exception(60), gilmsg.Timeout)
        assert gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=60.0).acks
        assert ran == []
    finally:
        blocked.set()
    wait_for(lambda: len(ran) == 51, "every callback has run")
    assert set(map(id, ran)) == set(map(id, futures + [lost]))


def test_the_outcome_is_the_parents(bus, config):
    """A forked child that asks for what was open at the fork is told at once; the parent gets it, may pass it on."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
    bus.slow("alice", 600.0)
    future = send(config)
    assert in_a_child(future.result) == 1
    bus.slow("alice", 0.0)
    assert list(future.result(60).acks) == ["alice"]
    assert in_a_child(future.result) == 0


def test_a_child_that_was_forked_while_a_future_was_settled(bus, config):
    """Whatever lock of the future's another thread held just then, the child is told, and hangs nowhere."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
    settled, awaited = send(config), send(config, recipient="nobody")
    settled.result(60)
    for future, outcome in ((settled, 0), (awaited, 1)):
        held, done = threading.Event(), threading.Event()
        holder = threading.Thread(target=lambda: hold(future, held, done))
        holder.start()
        assert held.wait(60)
        assert in_a_child(lambda: (repr(future), future.done(), future.result())) == outcome
        done.set()
        holder.join()


def test_a_child_that_was_forked_by_who_looks_at_the_future(bus, config):
    """A signal handler may fork over a frame that holds the future's lock: the child returns to that frame."""
    future = send(config, recipient="nobody")
    with future._condition:
        future.orphan()  # what the fork does in the child
        assert future._condition._is_owned()
        assert in_a_child(future.result) == 1


def test_a_wait_for_a_future_has_its_limit(config):
    """result and exception end after so many seconds, as for any Future; what its owner has set is told as it is."""
    future, error = send(config, recipient="nobody"), concurrent.futures.TimeoutError("mine")
    for ask in (future.result, future.exception):
        with pytest.raises(concurrent.futures.TimeoutError):
            ask(0.01)
    future.set_exception(error)
    with pytest.raises(concurrent.futures.TimeoutError) as raised:
        future.result(60)
    assert raised.value is error and future.exception(60) is error


def hold(future, held, done):
    with future._condition:
        held.set()
        done.wait(60)


def in_a_child(job):
    """Fork; 0 if *job* returns there, 1 if it raises ListenerError."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # so that one that hangs ends
        try:
            job()
            os._exit(0)
        except gilmsg.ListenerError as error:
            os._exit(1 if "before it forked" in str(error) else 2)
        finally:
            os._exit(3)
    return os.WEXITSTATUS(os.waitpid(child, 0)[1])


def test_a_worker_that_finds_itself_in_a_child_ends():
    """A callback that forks leaves its child without a worker: that thread ends with the job, and another can start."""
    worker, ran = _callbacks.Worker("gilmsg-tested"), []
    worker.run(worker.forget)  # what the fork does in the child
    thread = worker._thread
    if thread is not None:  # it may have forgotten even that by now
        thread.join(30)
    wait_for(lambda: not any(one.name == "gilmsg-tested" for one in threading.enumerate()), "it has ended")
    worker.run(lambda: ran.append(1))
    worker.jobs.put(worker.forget)
    wait_for(lambda: ran == [1], "the next one works")


def test_a_worker_is_started_once():
    """Who comes while it is being started, or just after, leaves it at that: there is one thread."""
    worker, ran = _callbacks.Worker("gilmsg-tested"), []
    with worker._starting:  # somebody is about to start it, perhaps a frame below us
        assert worker.start() and worker._thread is None
    worker.run(lambda: ran.append(1))
    thread = worker._thread
    assert worker._start() and worker._thread is thread
    worker.jobs.put(worker.forget)
    wait_for(lambda: ran == [1] and not thread.is_alive(), "it has done its work and ended")


def test_without_a_thread_a_job_waits_for_the_next_one(monkeypatch, caplog):
    """Where no thread can be started that is logged, nobody hears of it otherwise, and the job is done later."""
    worker, ran = _callbacks.Worker("gilmsg-tested"), []

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        # A mock: using up the machine's threads for real would harm everybody else on it.
        patch.setattr(threading.Thread, "start", refuse)
        worker.run(lambda: ran.append(1))
    assert ran == []
    _callbacks.callbacks.run(lambda: None)
    wait_for(lambda: "can't start new thread" in caplog.text, "it is logged")
    worker.run(lambda: ran.append(2))
    worker.jobs.put(worker.forget)
    wait_for(lambda: ran == [1, 2], "both are done")


def test_a_future_is_settled_at_once_unless_somebody_looks_at_it(bus, config):
    """The listener does it itself; one whose lock is held, or that is waited for among others, is left to a thread."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
    _callbacks.futures.jobs.put(_callbacks.futures.forget)
    _callbacks.futures.start()
    wait_for(lambda: _callbacks.futures._thread is None, "there is no thread that settles futures")
    assert send(config).result(60).acks and _callbacks.futures._thread is None
    bus.silent("alice")
    waited = send(config, ack_timeout=0.2)
    assert list(concurrent.futures.as_completed([waited], 60)) == [waited]
    assert isinstance(waited.exception(), gilmsg.Timeout) and _callbacks.futures._thread is not None
    held = send(config, ack_timeout=0.2)
    other = send(config, ack_timeout=0.4)
    with held._condition:
        assert isinstance(other.exception(60), gilmsg.Timeout)  # the listener waited for nobody
        assert held.running()
    assert isinstance(held.exception(60), gilmsg.Timeout)


def test_a_future_is_settled_where_no_thread_can_be_started(bus, config, monkeypatch):
    """The listener waits, for once, rather than leave it unsettled."""
    bus.silent("alice")
    held = send(config, ack_timeout=0.2)
    # A mock: using up the machine's threads for real would harm everybody else on it.
    monkeypatch.setattr(_callbacks.futures, "start", lambda: False)
    began = threading.Event()
    with held._condition:
        monkeypatch.setattr(held, "done", lambda: began.set() or held._state == "FINISHED")
        threading.Timer(0.5, began.set).start()
        assert began.wait(60)
    assert isinstance(held.exception(60), gilmsg.Timeout)


def test_a_future_that_its_owner_has_settled_harms_nobody(bus, config):
    """An ACK for it is no news, and the others are confirmed."""
    bus.slow("alice", 600.0)
    mine = send(config)
    mine.set_result("mine")
    bus.well("alice")
    assert send(config).result(60).acks
    assert mine.result() == "mine"


def test_without_a_thread_the_caller_does_it_itself(monkeypatch):
    """Where no thread can be started, work that should bear no interrupt is done all the same."""

    def refuse(work, arguments):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        # A mock: using up the machine's threads for real would harm everybody else on it.
        patch.setattr(_thread, "start_new_thread", refuse)
        assert uninterrupted(threading.get_ident) == threading.get_ident()
    assert uninterrupted(threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize(
    "call",
    [
        lambda config: gilmsg.publish(topic="t", msg={}, recipients=["alice"], **config),
        lambda config: gilmsg.destroy(),
        lambda config: gilmsg.tail_messages(**dict(config, mute=True)),
    ],
    ids=["publish", "destroy", "tail"],
)
def test_a_call_on_a_thread_that_somebody_waits_for_is_refused(config, call):
    """A __del__ that the garbage collector runs while gilmsg makes something, a lock in hand, is no deadlock."""
    refused = []

    def make():
        with pytest.raises(gilmsg.ConfigurationError, match="__del__ .* interrupted gilmsg itself"):
            call(config)
        refused.append(True)

    # Of threading's, which a logging on it does not leave in its list of threads.
    thread = threading.Thread(target=lambda: here(make), daemon=True)
    with _outlets._outlets.lock, _listeners._listeners.lock:
        thread.start()
        thread.join(PROMPT)
    assert refused == [True]
