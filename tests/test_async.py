"""publish_async: thousands on their way at once, asyncio that gives up, callbacks that misbehave."""

import asyncio
import concurrent.futures
import logging
import threading

import pytest

import gilmsg

from . import inside
from .helpers import Inbox, publish, publish_async
from .processes import wait_for


def send(config, number=0, recipient="alice", topic="t", ack_timeout=60.0):
    return publish_async([recipient], topic=topic, msg={"n": number}, **dict(config, ack_timeout=ack_timeout))


def test_it_is_a_running_future(bus, config):
    """It is a Future of Receipt or Timeout that cannot be cancelled; its callbacks run on their own thread."""
    future, called, names = send(config), threading.Event(), []
    assert isinstance(future, concurrent.futures.Future) and not future.cancel()
    future.add_done_callback(lambda f: (names.append(threading.current_thread().name), called.set()))
    assert list(future.result(60).acks) == ["alice"]
    assert called.wait(10) and names == ["gilmsg-callbacks"]
    bus.dead("alice")
    assert isinstance(send(dict(config, **{"gilmsg.head_start": 0}), ack_timeout=0.1).exception(10), gilmsg.Timeout)


def test_without_recipients_it_is_done_at_once(config):
    """Without recipients it sends as fedmsg does, and the Future's result is None."""
    future = publish_async([], **dict(config, post_init_sleep=0))
    assert future.done() and future.result() is None


#: 5,000 are some 15 MB: more than the kernel keeps for a connection, so the rest must be in our queues.
AT_ONCE = [500, pytest.param(5000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", AT_ONCE)
def test_all_that_is_sent_in_one_go_to_a_slow_recipient_is_confirmed(bus, config, count):
    """However many are outstanding at once, each is confirmed in the end; no queue drops any, no thread waits."""
    publish(["alice"], **config)
    bus.slow("alice", 600.0)  # it takes the first, and then none until it is told otherwise
    inbox = Inbox(bus, "flood")
    futures = [send(config, 0, topic="flood", ack_timeout=300.0)]
    threads = threading.active_count()
    futures += [send(config, number, topic="flood", ack_timeout=300.0) for number in range(1, count)]
    wait_for(lambda: inside.outstanding() == count, "all are on their way")
    assert not any(future.done() for future in futures)
    assert threading.active_count() <= threads
    bus.slow("alice", 0.0005)
    receipts = [future.result(300) for future in futures]
    assert len({receipt.msg_id for receipt in receipts}) == count
    assert all(list(receipt.acks) == ["alice"] for receipt in receipts)
    assert [got["msg"]["n"] for got in inbox.messages()] == list(range(count))
    bus.forget()
    assert inside.outstanding() == 0


def test_asyncio_that_gives_up_harms_nobody(bus, config, caplog):
    """Of many awaited at once some are cancelled and some given up; the futures go on, the others are confirmed."""
    caplog.set_level(logging.ERROR)
    complaints = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: complaints.append(context))
        publish(["alice"], **config)
        bus.slow("alice", 600.0)
        futures = [send(config, number) for number in range(30)]
        tasks = [asyncio.ensure_future(asyncio.wrap_future(one)) for one in futures]
        for task in tasks[::3]:
            task.cancel()
        for task in tasks[1::3]:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(task, 0.001)
        assert all(future.running() and not future.cancelled() for future in futures)
        await loop.run_in_executor(None, bus.slow, "alice", 0.0)  # without the loop: it must be free to hear of the rest
        return futures, await asyncio.gather(*tasks[2::3])

    futures, receipts = asyncio.run(main())
    assert [receipt.msg_id for receipt in receipts] == [one.result(60).msg_id for one in futures[2::3]]
    assert all(list(future.result(60).acks) == ["alice"] for future in futures)
    assert complaints == [] and caplog.records == []


def test_callbacks_that_block_or_raise_delay_no_ack(config, caplog):
    """While one callback blocks and others raise, messages are confirmed and time out; then all callbacks run."""
    caplog.set_level(logging.CRITICAL, "gilmsg")
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
        assert publish(["alice"], ack_timeout=60.0).acks
        assert ran == []
    finally:
        blocked.set()
    wait_for(lambda: len(ran) == 51, "every callback has run")
    assert set(map(id, ran)) == set(map(id, futures + [lost]))


def test_a_future_is_as_any_other(bus, config):
    """A wait for it has its limit, alone and among others; one that its owner has settled harms nobody."""
    bus.slow("alice", 600.0)
    mine, waited = send(config), send(config, ack_timeout=0.2)
    for ask in (mine.result, mine.exception):
        with pytest.raises(concurrent.futures.TimeoutError):
            ask(0.01)
    mine.set_result("mine")
    assert list(concurrent.futures.as_completed([waited], 60)) == [waited]
    assert isinstance(waited.exception(), gilmsg.Timeout)
    bus.well("alice")
    assert send(config).result(60).acks
    assert mine.result() == "mine"
