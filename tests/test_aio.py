"""gilmsg.aio.publish: what a publish is, while the other tasks of its loop go on."""

import asyncio
import functools
import gc
import logging
import threading

import pytest
import uvloop

import gilmsg
import gilmsg.aio
from gilmsg.testing import PublishForbidden, forbidden

from . import inside
from .conftest import own_config
from .helpers import Inbox, in_a_child, in_threads, publish
from .processes import python, wait_for


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """asyncio.run, by the loop of the standard library and by uvloop's; what a loop has to complain of is an error."""

    def run(main):
        complaints = []
        loop = asyncio.new_event_loop() if request.param == "asyncio" else uvloop.new_event_loop()
        loop.set_exception_handler(lambda loop, context: complaints.append(context))
        try:
            return loop.run_until_complete(asyncio.wait_for(main(), 100))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            gc.collect()
            assert complaints == []

    return run


def send(config, recipients=("alice",), **options):
    """gilmsg.aio.publish an empty message on the topic "t"; *options* win."""
    return gilmsg.aio.publish(**{"topic": "t", "msg": {}, "recipients": recipients, "ack_timeout": 60.0, **config, **options})


async def until(condition, what):
    """Wait until *condition*() holds, while other tasks go on."""
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"in vain: {what}")


def test_the_receipt_is_awaited_and_the_caller_is_who_called(config, run):
    """The awaitable may be made a task, or gathered: topic and name are guessed from the call, not from asyncio's frames."""
    outer = {"gilmsg": gilmsg, "__name__": "somebody.else"}
    call = "lambda config: gilmsg.aio.publish(topic='t', msg={}, recipients=['alice'], ack_timeout=60.0, **config)"

    async def main():
        others = eval(call, outer)(config)  # a caller in another module
        tasks = [asyncio.ensure_future(send(config)), asyncio.create_task(send(config))]
        return [await send(config), *await asyncio.gather(others, send(config), *tasks)]

    receipts = run(main)
    assert all(list(receipt.acks) == ["alice"] for receipt in receipts)
    modules = [receipt.topic.split(".")[-2] for receipt in receipts]
    assert modules == ["tests", "somebody", "tests", "tests", "tests"]


COUNTS = [300, pytest.param(1000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
def test_many_at_once_leave_in_order_and_need_no_threads(bus, config, run, count):
    """All are confirmed, in the order in which they were started, while other tasks of the loop have their turns."""
    turns, inbox = [], Inbox(bus, "many")

    async def others():
        while True:
            await asyncio.sleep(0)
            turns.append(threading.active_count())

    async def main():
        await send(config)
        other = asyncio.create_task(others())
        receipts = await asyncio.gather(*(send(config, topic="many", msg={"n": number}) for number in range(count)))
        other.cancel()
        return receipts

    before = threading.active_count() + 4  # engine, signing, futures, callbacks
    receipts = run(main)
    assert len({receipt.msg_id for receipt in receipts}) == count
    assert [got["msg"]["n"] for got in inbox.messages()] == list(range(count))
    assert len(turns) > 10 and max(turns) <= before


def test_the_loop_waits_neither_for_the_first_use_nor_for_a_hook(config, run):
    """What a hook waits for, on gilmsg's own thread, another task does meanwhile; the hook sees the task's context variables."""
    import contextvars

    who, done, seen = contextvars.ContextVar("who"), threading.Event(), []

    def hook(message):
        assert done.wait(60)
        seen.append((who.get(), threading.current_thread().name))

    async def main():
        who.set("me")
        task = asyncio.create_task(send(config, pre_fire_hook=hook))
        await asyncio.sleep(0.01)
        done.set()
        return await task

    assert run(main).acks
    assert seen == [("me", "gilmsg-signing")]


def test_the_context_is_that_of_the_loops_thread(bus, config, run):
    """One that is there is used, whatever the keywords say; one that is made is there afterwards, for fedmsg too."""

    async def main():
        await send(config)
        made = getattr(gilmsg, "__local").__context
        receipts = [await gilmsg.aio.publish(topic="t", msg={}, recipients=["alice"])]
        receipts += [await asyncio.to_thread(publish, ["alice"], **own_config(bus, name="carol"))]
        assert getattr(gilmsg, "__local").__context is made
        gilmsg.destroy()
        gilmsg.init(**dict(config, environment="stg"))
        with pytest.raises(gilmsg.Timeout) as raised:  # alice listens to everything, and expects her own prefix
            await send(config, ack_timeout=0.2, **{"gilmsg.head_start": 0.0})
        return receipts, raised.value.topic

    receipts, topic = run(main)
    assert all(receipt.acks for receipt in receipts)
    assert topic == "org.example.stg.tests.t"


BAD = [
    ({"recipients": 7}, "recipients"), ({"ack_timeout": -1}, "ack_timeout"), ({"msg": []}, "msg"), ({"certnames": {}}, "certnames"),
    ({"name": "nobody"}, "nobody"), ({"recipient": ["alice"]}, "'recipients' is meant"), ({"pre_fire_hook": 7}, "pre_fire_hook"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "named"), BAD)
def test_errors_come_at_the_await(config, run, wrong, named):
    """The call itself raises nothing but Python's own TypeError; the loop can publish afterwards."""

    async def main():
        awaitable = send(config, **wrong)
        with pytest.raises(gilmsg.ConfigurationError, match=named):
            await awaitable
        if "name" not in wrong and "certnames" not in wrong:  # these two have made the context
            assert (await send(config)).acks

    run(main)
    with pytest.raises(TypeError):
        gilmsg.aio.publish("t", {}, "tests", ["alice"], 1.0, None, None, "too many")


def test_a_hooks_own_exception_comes_out(config, run):
    """Also one that asyncio's futures refuse to carry; and nothing is sent."""

    async def main():
        for error, told in ((KeyError("x"), KeyError), (StopIteration(), RuntimeError), (asyncio.CancelledError(), asyncio.CancelledError)):

            def hook(message, error=error):
                raise error

            with pytest.raises(told):
                await send(config, pre_fire_hook=hook)

    run(main)


def test_a_timeout_is_told_and_logged(bus, config, run, caplog):
    """It comes out of the await, as a TimeoutError, and the log has its line."""
    config["certnames"]["nick"] = "bob"
    bus.dead("alice")

    async def main():
        with pytest.raises(TimeoutError) as raised:
            await send(config, ["alice", "nick"], ack_timeout=0.1, **{"gilmsg.head_start": 0.0})
        return raised.value

    timeout = run(main)
    assert isinstance(timeout, gilmsg.Timeout) and set(timeout.missing) == {"alice", "nick"}
    assert "its common name is 'bob'" in timeout.missing["nick"]
    inside.callbacks_done()
    assert [r.getMessage() for r in caplog.records if r.name == "gilmsg.publish"] == [str(timeout)]


def test_what_is_forbidden_is_forbidden(config, run):
    """gilmsg_forbidden holds here, too: at the await."""

    async def main():
        with forbidden(), pytest.raises(PublishForbidden):
            await send(config)

    run(main)


def test_without_recipients_it_sends_as_fedmsg_does(bus, config, run, caplog):
    """The result is None, the warning is logged, and the message has left when it is awaited."""
    inbox = Inbox(bus, "plain")

    async def main():
        await send(config)
        assert await send(config, [], topic="plain") is None
        assert (await send(config, topic="plain")).acks

    run(main)
    assert len(inbox.messages()) == 2
    assert "plain is published without recipients" in caplog.text


def test_what_is_cancelled_before_it_leaves_never_leaves(bus, config, run):
    """Be it not begun, in the hands of the signing thread, or held for a recipient that is not there yet."""
    inbox, entered, go_on = Inbox(bus, "cancelled"), threading.Event(), threading.Event()

    def hook(message):
        entered.set()
        assert go_on.wait(60)

    async def main():
        await send(config)
        mine = functools.partial(send, config, topic="cancelled")
        held = asyncio.create_task(mine(["alice", "carol"]))  # carol is not there, and our publisher is young
        await until(lambda: inside.held() == 1, "it waits for carol")
        held.cancel()
        tasks = [asyncio.create_task(mine(pre_fire_hook=hook))]
        tasks += [asyncio.create_task(mine(to)) for to in (["alice"], [])]
        await until(entered.is_set, "the signing thread has the first")
        tasks.append(asyncio.create_task(mine()))
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(held, *tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError] * 5
        go_on.set()
        assert (await mine(msg={"last": True}, **{"gilmsg.head_start": 0.0})).acks

    run(main)
    assert [got["msg"].get("last") for got in inbox.messages()] == [True]
    assert inside.outstanding() == 0


def test_what_is_cancelled_while_it_is_looked_at_never_leaves(bus, config, run):
    """The recipients come from a generator, which gilmsg's thread reads."""
    inbox, entered, go_on = Inbox(bus, "slowly"), threading.Event(), threading.Event()

    def recipients():
        entered.set()
        assert go_on.wait(60)
        yield "alice"

    async def main():
        task = asyncio.create_task(send(config, recipients(), topic="slowly"))
        await until(entered.is_set, "it is being looked at")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        go_on.set()
        await send(config, topic="slowly", msg={"last": True})

    run(main)
    assert [got["msg"].get("last") for got in inbox.messages()] == [True]


def test_a_plain_message_holds_back_nobody_and_is_cancelled_while_it_waits(bus, config, run):
    """It waits behind a message of its loop for the head start; the signing thread goes on, and cancelled it never leaves."""
    inbox = Inbox(bus, "plain")
    config = {**config, "gilmsg.head_start": 3600.0}

    async def main():
        await send(config)
        held = asyncio.create_task(send(config, ["alice", "nobody"]))
        await until(lambda: inside.held() == 1, "it waits for nobody")
        tasks = [asyncio.create_task(send(config, [], topic="plain")) for _ in range(2)]
        await until(lambda: inside.held() == 3, "both wait behind it: the signing thread has handed over the second, too")
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        held.cancel()
        assert await tasks[1] is None
        await send(config, topic="plain")

    run(main)
    assert len(inbox.messages()) == 2


def test_a_loop_is_held_back_by_its_own_messages_only(bus, config, run):
    """One that waits for its head start does not hold back those of another loop."""
    config = {**config, "gilmsg.head_start": 3600.0}

    async def main():
        await send(config)
        held = asyncio.create_task(send(config, ["alice", "nobody"]))
        await until(lambda: inside.held() == 1, "it waits for nobody")
        there = await asyncio.to_thread(lambda: asyncio.run(send(config)))
        held.cancel()
        return there

    assert list(run(main).acks) == ["alice"]


@pytest.mark.parametrize("name", ["gilmsg-signing", "gilmsg-futures", "gilmsg-callbacks", "gilmsg-aio"])
def test_without_a_thread_there_is_an_error(bus, config, run, name):
    """A system that has no more threads is told of at the await: nothing waits for ever."""

    async def main():
        with pytest.MonkeyPatch.context() as patch:
            inside.replace_workers(patch)
            inside.refuse_threads(patch, RuntimeError("can't start new thread"), name)
            with pytest.raises(gilmsg.ListenerError, match=f"there is no thread {name[:10]}"):
                if name == "gilmsg-aio":
                    await gilmsg.aio.tail_messages(**own_config(bus, name="carol")).__aenter__()
                await send(config)
        assert (await send(config)).acks

    run(main)


def test_destroy_within_a_hook_ends_the_context_of_the_loops_thread(config, run):
    """That message fails; the next one begins anew."""

    async def main():
        await send(config)
        with pytest.raises(gilmsg.GilmsgError):
            await send(config, pre_fire_hook=lambda message: gilmsg.destroy())
        assert (await send(config)).acks

    run(main)


@pytest.mark.parametrize("close", ["loop.close()", "pass"])
def test_an_interpreter_ends_with_a_message_that_is_waited_for(bus, config, tmp_path, close):
    """However its loop was left: it ends, in time."""
    source = (
        "import asyncio, gilmsg.aio\n"
        "async def start():\n"
        "    global task\n"
        f"    task = asyncio.ensure_future(gilmsg.aio.publish(topic='x', msg={{}}, recipients=['bob'], ack_timeout=600.0, **{config!r}))\n"
        "    await asyncio.sleep(0.5)\n"
        "loop = asyncio.new_event_loop()\n"
        "loop.run_until_complete(start())\n"
        f"{close}\n"
        "print('the end')\n"
    )
    bus.silent("bob")
    done = python(source, tmp_path, flags=["-W", "ignore"])
    assert (done.returncode, done.stdout) == (0, "the end\n"), done.stderr


def test_destroy_ends_all_at_once(bus, config, run):
    """Each gets its ListenerError, but for one that is cancelled just then."""

    async def main():
        await send(config)
        bus.slow("alice", 600.0)
        tasks = [asyncio.create_task(send(config)) for _ in range(120)]
        await until(lambda: inside.outstanding() == 120, "all are on their way")
        gilmsg.destroy()
        inside.callbacks_done()  # the ends have been told to the loop
        tasks[0].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError, *[gilmsg.ListenerError] * 119]

    run(main)


def test_what_is_cancelled_after_it_left_is_no_longer_waited_for(bus, config, run, caplog):
    """Cancelled, or given up by wait_for: the others are confirmed, and nobody complains."""
    caplog.set_level(logging.ERROR)

    async def main():
        await send(config)
        bus.slow("alice", 600.0)
        tasks = [asyncio.create_task(send(config)) for _ in range(30)]
        await until(lambda: inside.outstanding() == 30, "all are on their way")
        for task in tasks[::3]:
            task.cancel()
        for task in tasks[1::3]:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(task, 0.001)
        await until(lambda: inside.outstanding() == 10, "the others are waited for")
        await asyncio.to_thread(bus.slow, "alice", 0.0)
        return await asyncio.gather(*tasks[2::3])

    assert all(list(receipt.acks) == ["alice"] for receipt in run(main))
    assert caplog.records == []


def test_a_loop_that_ends_meanwhile_harms_nobody(bus, config, run, caplog):
    """A message of a loop that was closed before the ACK came has left; the next loop publishes as ever."""
    run(lambda: send(config))
    bus.silent("alice")
    loop = asyncio.new_event_loop()
    task = loop.create_task(send(config, ack_timeout=0.5))

    async def outstanding():
        await until(lambda: inside.outstanding() == 1, "it is on its way")

    loop.run_until_complete(outstanding())
    loop.close()
    wait_for(lambda: inside.outstanding() == 0, "it has timed out")
    task._log_destroy_pending = False
    del task
    gc.collect()
    bus.well("alice")
    assert run(lambda: send(config)).acks
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_what_nobody_awaits_is_not_sent_and_python_says_so(bus, config, run):
    """The warning names it as its author knows it."""
    inbox = Inbox(bus, "unawaited")

    async def main():
        with pytest.warns(RuntimeWarning, match=r"coroutine 'gilmsg\.aio\.publish' was never awaited"):
            send(config, topic="unawaited")
        await send(config, topic="unawaited", msg={"awaited": True})

    run(main)
    assert [got["msg"] for got in inbox.messages()] == [{"awaited": True, "gilmsg": inbox.messages()[0]["msg"]["gilmsg"]}]


def test_two_loops_and_a_forked_child(bus, config, run):
    """Each thread's loop has its thread's context; a child that is forked from here has its own thread that signs."""
    other = own_config(bus, name="carol")

    def loop(config):
        return run(lambda: send(config))

    for receipt in in_threads(lambda: loop(config), lambda: loop(other)):
        assert receipt.acks
    spare = dict(config, endpoints=dict(config["endpoints"], publisher=[*config["endpoints"]["publisher"], bus.ports.endpoint()]))
    gilmsg.destroy()
    assert in_a_child(lambda: 0 if loop(spare).acks else 1) == 0


def test_a_blocking_publish_within_a_running_loop_is_told_once(config, run, caplog):
    """One WARNING in a process; none outside of a loop, nor in a thread beside it."""

    def warnings():
        return [r.getMessage() for r in caplog.records if r.name == "gilmsg.publish" and "event loop" in r.getMessage()]

    async def main():
        await asyncio.to_thread(publish, ["alice"], **config)
        await send(config)
        assert warnings() == []
        publish(["alice"], **config)
        publish(["alice"], **config)

    publish(["alice"], **config)
    run(main)
    [told] = warnings()
    assert "gilmsg.publish() was called within a running event loop" in told and "gilmsg.aio.publish" in told
