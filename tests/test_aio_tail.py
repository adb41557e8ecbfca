"""gilmsg.aio.tail_messages: what a tail is, on a thread beside an event loop."""

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import threading

import pytest

import gilmsg
import gilmsg.aio

from . import helpers, inside
from .conftest import own_config
from .helpers import announcement, bound, frames, in_a_child, in_threads, publish, publish_async, sign
from .processes import python, wait_for
from .test_aio import run, send, until

__all__ = ["run"]

PLACE = "org.example.dev.x.y"

FAILED = "it received the message, and its handler failed, as its NACK says"


@pytest.fixture
def carol(bus):
    """The configuration of a consumer named carol."""
    return own_config(bus, name="carol")


def plain(carol, number):
    """The frames of a message of alice's that names nobody."""
    return frames(sign(carol, "alice", helpers.compose(PLACE, {"n": number})))


@contextlib.asynccontextmanager
async def tailing(carol, **options):
    """A tail of carol's, set up, and the socket of a neighbour to whom she listens."""
    with bound(carol["endpoints"]["hostile"][0]) as neighbour:
        async with gilmsg.aio.tail_messages(**{"topic": "org.example.dev.x", **carol, **options}) as messages:
            wanted = announcement("org.example.dev.x", "carol")
            await asyncio.to_thread(helpers.heard, neighbour, wanted)
            yield messages, neighbour


async def acquainted(config):
    """Wait until the listener of the publisher *config* hears carol, whose port is new: an ACK may come to nothing before."""
    await asyncio.to_thread(publish, ["alice"], modname="other", **config)
    for kind in ("ack", "nack"):
        await until(lambda kind=kind: inside.asked_for("carol", f"org.example.dev.gilmsg.{kind}"), "it hears carol")


async def numbers(messages, count):
    """The numbers of the next *count* messages."""
    return [(await messages.__anext__())[3]["msg"]["n"] for _ in range(count)]


@pytest.mark.parametrize("acknowledge", ["before", "after"])
def test_it_acknowledges_what_names_us(config, carol, run, acknowledge):
    """The ACK has left when the item is there, or leaves when the next one is asked for; break answers nothing."""

    async def main():
        loop = asyncio.get_running_loop()
        got, config["ack_timeout"] = [], 60.0
        messages = gilmsg.aio.tail_messages(topic="org.example.dev.tests", acknowledge=acknowledge, **carol)
        async with messages:
            await acquainted(config)
            # By one thread: those of several leave in no order, while carol is waited for.
            three = lambda: [publish_async(["carol"], msg={"n": n}, **config) for n in range(3)]
            futures = await loop.run_in_executor(None, three)
            async for name, endpoint, topic, message in messages:
                got.append(message["msg"]["n"])
                assert (name, topic) == ("publisher", message["topic"]) and endpoint in config["endpoints"]["publisher"]
                acked = got[-1] + (acknowledge == "before")
                await until(lambda acked=acked: sum(f.done() for f in futures) >= acked, "their ACKs are here")
                assert acknowledge == "before" or not futures[got[-1]].done()
                if len(got) == 3:
                    break
        return got, [future.done() for future in futures]

    got, done = run(main)
    assert got == [0, 1, 2] and done == [True, True, acknowledge == "before"]
    gilmsg.destroy()


def test_what_is_rejected_is_a_nack(config, carol, run):
    """The publisher's Timeout quotes it. What owes none, or with "before", is as with the other tail."""
    config.update({"ack_timeout": 60.0, "fail_fast": True})

    async def main():
        messages = gilmsg.aio.tail_messages(topic="org.example.dev.tests", acknowledge="after", **carol)
        messages.reject("it has not begun")
        async with messages:
            messages.reject("there is none yet")
            await acquainted(config)
            publishing = asyncio.create_task(asyncio.to_thread(publish, ["carol"], **config))
            await messages.__anext__()
            messages.reject("too hot")
            with pytest.raises(gilmsg.Timeout) as raised:
                await publishing
            assert raised.value.missing == {"carol": FAILED}
            publishing = asyncio.create_task(asyncio.to_thread(publish, ["carol"], **config))
            await messages.__anext__()
            step = asyncio.ensure_future(messages.__anext__())
            await asyncio.sleep(0)
            step.cancel()
            messages.reject("the next one has been asked for, which acknowledges this")
            assert (await publishing).acks
        async with gilmsg.aio.tail_messages(**carol) as messages:
            with pytest.raises(gilmsg.ConfigurationError, match=r"reject\(\) needs"):
                messages.reject("too late")

    run(main)


UNUSABLE = [
    ({"certnames": {}}, "certnames"), ({"name": "nobody"}, "nobody"), ({"ca_cert_location": None}, "ca_cert_location"),
    ({"topic": None}, "topic must be text"), ({"acknowledge": "later"}, "acknowledge must be"), ({"acknowlege": "after"}, "is meant"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "named"), UNUSABLE)
def test_what_cannot_work_is_an_error_at_the_first_step(carol, run, wrong, named):
    """Not at the call; after it the iteration has ended, as that of a generator has."""

    async def main():
        messages = gilmsg.aio.tail_messages(**dict(carol, **wrong))
        with pytest.raises(gilmsg.ConfigurationError, match=named):
            await messages.__anext__()
        assert [item async for item in messages] == []
        gilmsg.destroy()
        with pytest.raises(gilmsg.ConfigurationError, match=named):
            async with gilmsg.aio.tail_messages(**dict(carol, **wrong)):
                pass

    run(main)


def test_a_flood_arrives_whole_and_in_order_beside_rubbish(carol, run):
    """What came before the loop looked, and while it was busy, is seen; rubbish ends nothing; no thread for each message."""

    async def main():
        async with tailing(carol) as (messages, neighbour):
            for number in range(400):  # the loop stands still meanwhile: it looks at its sockets afterwards
                neighbour.send_multipart([b"org.example.dev.x", b"rubbish"])
                neighbour.send_multipart(plain(carol, number))
            before = threading.active_count()
            assert await numbers(messages, 400) == list(range(400))
            waiting = asyncio.create_task(numbers(messages, 1))
            await asyncio.sleep(0.05)
            neighbour.send_multipart(plain(carol, 400))
            assert await waiting == [400]
            assert threading.active_count() <= before + 1

    run(main)


def test_a_cancelled_step_loses_no_message(carol, run):
    """Be it cancelled while it waits, while its message is being handled, or given up by wait_for."""

    async def main():
        async with tailing(carol) as (messages, neighbour):
            for number in range(100):
                neighbour.send_multipart(plain(carol, number))
            got, cancelled = [], 0
            while len(got) < 100:
                step = asyncio.ensure_future(numbers(messages, 1))
                for _ in range(cancelled % 7):
                    await asyncio.sleep(0)
                step.cancel()
                cancelled += 1
                try:
                    got += await step
                except asyncio.CancelledError:
                    with contextlib.suppress(asyncio.TimeoutError):
                        got += await asyncio.wait_for(numbers(messages, 1), 0.0001 * (cancelled % 50))
            assert got == list(range(100)) and cancelled >= 50
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(messages.__anext__(), 0.01)
            neighbour.send_multipart(plain(carol, 100))
            assert await numbers(messages, 1) == [100]

    run(main)


def test_a_step_cancelled_in_set_up_loses_it_not(carol, run):
    """The next step goes on with it; aclose() meanwhile leaves nothing open."""

    async def main():
        messages = gilmsg.aio.tail_messages(**carol)
        for _ in range(2):
            step = asyncio.ensure_future(messages.__anext__())
            await asyncio.sleep(0)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
        async with messages:
            pass
        other = gilmsg.aio.tail_messages(**carol)
        step = asyncio.ensure_future(other.__anext__())
        await asyncio.sleep(0)
        await other.aclose()
        with pytest.raises(StopAsyncIteration):
            await step
        with pytest.raises(RuntimeError, match="were closed"):
            async with other:
                pass

    run(main)
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("gilmsg-aio")], "the threads have ended")


async def _all(messages):
    return [item async for item in messages]


async def by_aclose(tail, heard):
    await tail().aclose()  # it was never begun
    messages = await tail().__aenter__()
    await heard()
    waiting = asyncio.create_task(_all(messages))
    await asyncio.sleep(0.01)
    await asyncio.gather(messages.aclose(), messages.aclose())
    assert await waiting == []


async def by_cancelling(tail, heard):
    task = asyncio.create_task(_all(tail()))
    await heard()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def by_dropping(tail, heard):
    messages = await tail().__aenter__()
    await heard()
    del messages


async def by_another_thread(tail, heard):
    """A garbage collection may come in any thread."""
    held = [await tail().__aenter__()]
    await heard()
    await asyncio.to_thread(held.clear)


async def by_nobody(tail, heard):
    """The loop ends, and is closed, with a tail that a cycle holds."""
    messages = await tail().__aenter__()
    messages.itself = messages
    await heard()


@pytest.mark.parametrize("how", [by_aclose, by_cancelling, by_dropping, by_another_thread, by_nobody])
def test_its_sockets_are_closed(carol, run, how):
    """However it ends, its publishers see it go, and its thread ends."""
    wanted = announcement("org.example.dev.x", "carol")

    def tail():
        return gilmsg.aio.tail_messages(topic="org.example.dev.x", **carol)

    with bound(carol["endpoints"]["hostile"][0]) as neighbour:

        def left():
            return neighbour.poll(50) and neighbour.recv() == b"\x00" + wanted

        async def main():
            await how(tail, functools.partial(asyncio.to_thread, helpers.heard, neighbour, wanted))
            if how is not by_nobody:
                await asyncio.to_thread(wait_for, left, "the neighbour sees it go")

        run(main)
        if how is by_nobody:
            in_threads(gc.collect)
            wait_for(left, "the neighbour sees it go")
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("gilmsg-aio")], "the threads have ended")


def test_a_forked_child_closes_nothing_of_its_parents(carol, run):
    """The child's garbage collection leaves the parent's tail alone."""

    async def main():
        async with tailing(carol) as (messages, neighbour):
            held = [await gilmsg.aio.tail_messages(**carol).__aenter__()]
            await asyncio.to_thread(helpers.heard, neighbour, announcement("", "carol"))
            assert in_a_child(lambda: held.clear() or gc.collect() and 0) == 0
            neighbour.send_multipart(plain(carol, 1))
            assert await numbers(held[0], 1) == await numbers(messages, 1) == [1]

    run(main)


def test_a_loop_that_has_stopped_acknowledges_nothing(config, carol):
    """What comes while a step is under way, and its loop stands still, waits; where the loop is closed it gets no ACK."""
    config["ack_timeout"] = 60.0
    loop, started = asyncio.new_event_loop(), []

    async def begin():
        messages = await gilmsg.aio.tail_messages(topic="org.example.dev.tests", **carol).__aenter__()
        await acquainted(config)
        started.append(asyncio.ensure_future(messages.__anext__()))
        await asyncio.sleep(0)  # then the thread has been asked

    loop.run_until_complete(begin())
    sent = publish_async(["carol"], msg={"n": 1}, **config)
    with pytest.raises(concurrent.futures.TimeoutError):
        sent.result(1.5)
    assert loop.run_until_complete(asyncio.wait_for(started.pop(), 60))[3]["msg"]["n"] == 1
    assert sent.result(60).acks
    loop.run_until_complete(begin())
    loop.close()
    with pytest.raises(gilmsg.Timeout):
        publish(["carol"], **{**config, "ack_timeout": 1.5})
    started.clear()
    gc.collect()
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("gilmsg-aio")], "the threads have ended")


def test_two_tasks_need_two_tails(carol, run):
    """A second task that asks is told so, and the first goes on."""

    async def main():
        async with tailing(carol) as (messages, neighbour):
            first = asyncio.ensure_future(numbers(messages, 1))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="by another task"):
                await messages.__anext__()
            neighbour.send_multipart(plain(carol, 1))
            assert await first == [1]

    run(main)


def test_another_loop_needs_a_tail_of_its_own(carol):
    """One that was opened in a loop is refused in another one, which would wait for ever; its own loop waits on."""
    messages = gilmsg.aio.tail_messages(**carol)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        first.run_until_complete(messages.__aenter__())
        with pytest.raises(gilmsg.ConfigurationError, match="another event loop"):
            second.run_until_complete(messages.__anext__())
        with pytest.raises(asyncio.TimeoutError):
            first.run_until_complete(asyncio.wait_for(messages.__anext__(), 0.05))
        first.run_until_complete(messages.aclose())
    finally:
        first.close()
        second.close()


def test_a_host_name_is_looked_up_beside_the_loop(carol, run, monkeypatch):
    """Where an endpoint's host is a name, it is connected when that resolves, and looked up again where that is due."""
    inside.look_up_often(monkeypatch)
    endpoint = carol["endpoints"]["hostile"][0]
    carol["endpoints"]["hostile"] = [carol["endpoints"]["hostile"][0].replace("127.0.0.1", "localhost")]
    carol["endpoints"]["lost"] = ["tcp://no-such-host.invalid:2000"]

    async def main():
        with bound(endpoint) as neighbour:
            async with gilmsg.aio.tail_messages(topic="org.example.dev.x", **carol) as messages:
                for number in range(2):
                    waiting = asyncio.create_task(numbers(messages, 1))
                    if not number:
                        await asyncio.to_thread(helpers.heard, neighbour, announcement("org.example.dev.x", "carol"))
                    neighbour.send_multipart(plain(carol, number))
                    assert await waiting == [number]

    run(main)


def test_it_publishes_within_its_loop(bus, config, carol, run):
    """A worker that answers each message by a confirmed one of its own, under the same name and from the same port."""
    config.update({"ack_timeout": 60.0})

    async def work(messages):
        async for *_, message in messages:
            if "answered" not in message["topic"]:
                return await send(carol, topic="answered")

    async def main():
        async with gilmsg.aio.tail_messages(topic="org.example.dev.tests", **carol) as messages:
            await acquainted(config)
            worker = asyncio.create_task(work(messages))
            receipt = await asyncio.to_thread(publish, ["carol"], **config)
            return receipt, await worker

    receipt, answered = run(main)
    assert list(receipt.acks) == ["carol"] and list(answered.acks) == ["alice"]


def test_it_ends_with_its_process(carol, tmp_path):
    """An interpreter that ends with an open tail, its loop never closed, ends in time, and says nothing."""
    source = (
        "import asyncio, gilmsg.aio\n"
        "loop = asyncio.new_event_loop()\n"
        f"messages = gilmsg.aio.tail_messages(**{carol!r})\n"
        "loop.run_until_complete(messages.__aenter__())\n"
        "print('up')\n"
    )
    done = python(source, tmp_path, flags=["-W", "ignore"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "up\n", "")
