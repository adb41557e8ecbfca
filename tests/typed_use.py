"""The whole public interface as typed code uses it. mypy --strict reads this (.ci/lint); nothing runs it.

Each ``type: ignore`` is a wrong use: mypy must reject it, with that very code, or it complains of an
ignore that is not needed.
"""
from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import gilmsg
import gilmsg.aio
from gilmsg.errors import ConfigurationError, EndpointError, GilmsgError, ListenerError
from gilmsg.sandbox import Sandbox
from gilmsg.testing import Bus, Buses, PublishForbidden, forbidden


def receipts(config: dict[str, Any], either: str | list[str] | None) -> gilmsg.Receipt | None:
    """publish takes any iterable of names, or one; it returns a Receipt, or None if these are empty."""
    some = gilmsg.publish("topic", {"id": 7}, "modname", ("a", gilmsg.any_of("b", "c")), 3.0, print)
    gilmsg.publish(topic="t", msg={}, recipients="a", ack_timeout=3, fail_fast=True, **config)
    gilmsg.publish(topic="t", msg={}, recipients=(name for name in "ab"), pre_fire_hook=lambda message: None)
    gilmsg.send_message(topic="t", msg={}, recipients={"a"}, active=True)
    sure: dict[str, float] = gilmsg.publish(topic="t", msg={}, recipients=["a"]).acks
    sure = some.acks or gilmsg.send_message("t", {}, recipients={"a"}, ack_timeout=3).acks
    perhaps = gilmsg.publish(topic="t", msg={})  # the configuration may name recipients
    perhaps.acks  # type: ignore[union-attr]  # noqa: B018
    gilmsg.publish(topic="t", recipients=either).acks  # type: ignore[union-attr]  # noqa: B018
    gilmsg.publish(topic="t", recipients=()).acks  # type: ignore[attr-defined]  # noqa: B018
    del sure
    gilmsg.publish(topic=b"t", msg={})  # type: ignore[call-overload]
    gilmsg.publish(topic="t", msg={}, recipients=7)  # type: ignore[call-overload]
    gilmsg.publish(topic="t", msg={}, recipients=[b"a"])  # type: ignore[list-item]
    gilmsg.publish(topic="t", msg={}, ack_timeout="3")  # type: ignore[call-overload]
    gilmsg.publish(topic="t", msg={}, fail_fast="yes")  # type: ignore[call-overload]
    gilmsg.publish(topic="t", msg={}, pre_fire_hook=lambda: None)  # type: ignore[arg-type, misc]
    gilmsg.any_of("a", 1)  # type: ignore[arg-type]
    gilmsg.pubish(topic="t")  # type: ignore[attr-defined]
    gilmsg.config.load_config()  # fedmsg's modules are there, and untyped
    return some


def parts(receipt: gilmsg.Receipt) -> tuple[str, str, Mapping[str, float]]:
    """What a Receipt holds; it cannot be changed."""
    receipt.topic = "other"  # type: ignore[misc]
    receipt.missing  # type: ignore[attr-defined]  # noqa: B018
    wrong: dict[str, str] = receipt.acks  # type: ignore[assignment]
    del wrong
    return receipt.msg_id, receipt.topic, receipt.acks


async def later() -> gilmsg.Receipt:
    """publish_async returns a real Future of what publish returns."""
    future: Future[gilmsg.Receipt] = gilmsg.publish_async(topic="t", msg={}, recipients=["a"])
    perhaps: Future[gilmsg.Receipt | None] = gilmsg.publish_async(topic="t", msg={})
    plain: Future[None] = gilmsg.publish_async(topic="t", msg={}, recipients=())
    wrong: Future[str] = gilmsg.publish_async(topic="t", msg={})  # type: ignore[assignment]
    del wrong, perhaps, plain
    gilmsg.publish_async(topic="t", msg={}, recipients=[None])  # type: ignore[list-item]
    return await asyncio.wrap_future(future)


async def under_asyncio() -> tuple[gilmsg.Receipt, str]:
    """gilmsg.aio is publish as a coroutine, and tail_messages as an asynchronous iterator."""
    task = asyncio.create_task(gilmsg.aio.publish(topic="t", msg={}, recipients=["a"], ack_timeout=3.0, name="b"))
    perhaps = await gilmsg.aio.publish("t", {})
    perhaps.acks  # type: ignore[union-attr]  # noqa: B018
    gilmsg.aio.publish(topic="t", msg={}, recipients=["a"]).acks  # type: ignore[attr-defined]  # noqa: B018
    gilmsg.aio.publish(topic="t", msg={}, recipients=7)  # type: ignore[call-overload]
    async with gilmsg.aio.tail_messages("org.example", acknowledge="after", name="b") as messages:
        async for name, endpoint, topic, message in messages:
            messages.reject(name + endpoint + topic + message["msg_id"])
            messages.close()  # type: ignore[attr-defined]
    await messages.aclose()
    gilmsg.aio.tail_messages(acknowledge="later")  # type: ignore[arg-type]
    both: tuple[gilmsg.Receipt, str] = await asyncio.gather(task, asyncio.sleep(1, "a"))
    return both


def failures() -> tuple[Mapping[str, str], dict[str, float]]:
    """Each exception is what the documentation says it is, and Timeout tells what is known."""
    value_error: ValueError = ConfigurationError("x")
    io_error: IOError = EndpointError("x")
    ours: list[GilmsgError] = [ConfigurationError(), EndpointError(), ListenerError()]
    no_value_error: ValueError = ListenerError("x")  # type: ignore[assignment]
    del value_error, io_error, ours, no_value_error
    try:
        gilmsg.publish(topic="t", msg={}, recipients=["a"])
    except gilmsg.Timeout as timeout:
        text: str = timeout.msg_id + timeout.topic
        known = {(reason.code, reason.may_have_arrived, *reason.members) for reason in timeout.missing.values()}
        plain: list[dict[str, Any]] = [reason.as_dict() for reason in timeout.missing.values()]
        seconds: float = timeout.ack_timeout
        del text, seconds, known, plain
        return timeout.missing, timeout.acks
    except (gilmsg.ListenerError, gilmsg.EndpointError, gilmsg.ConfigurationError, gilmsg.GilmsgError) as error:
        error.missing  # type: ignore[attr-defined]  # noqa: B018
    fake = gilmsg.Timeout("id", "topic", 0.25, {"a": 0.1}, {"b": "never connected"}, 2)  # for a test of one's own
    gilmsg.Timeout("id")  # type: ignore[call-arg]
    return fake.missing, {}


def tail() -> Iterator[tuple[str, dict[str, Any]]]:
    """tail_messages is a generator of four, which can be closed."""
    messages = gilmsg.tail_messages(topic="org.example", passive=False, name="a")
    for name, endpoint, topic, message in messages:
        wrong: int = topic  # type: ignore[assignment]
        del name, endpoint, wrong
        yield topic, message
    messages.close()
    gilmsg.tail_messages(topic=7)  # type: ignore[arg-type]


def rejecting() -> None:
    """What tail_messages returns can reject its last message; it has a generator's methods, and can be entered."""
    with gilmsg.tail_messages("org.example", acknowledge="after") as messages:
        generator: Generator[tuple[str, str, str, dict[str, Any]], None, None] = messages
        _, _, topic, message = next(messages)
        messages.reject(topic + message["msg_id"])
        generator.throw(ValueError("too hot"))
        messages.reject()  # type: ignore[call-arg]
    gilmsg.tail_messages("org.example", False, "after")  # type: ignore[call-arg]
    gilmsg.tail_messages(acknowledge="later")  # type: ignore[arg-type]


class Consumer(gilmsg.GilmsgConsumer):
    """A consumer in fedmsg-hub."""

    topic = "org.example.prod.compose"
    config_key = "consumer.enabled"
    acknowledge = "after"

    def consume(self, message: dict[str, Any]) -> None:
        """Take a message."""
        print(message["topic"], message["body"]["msg"])


class Wrong(gilmsg.GilmsgConsumer):
    """One with a mistake."""

    acknowledge = "later"  # type: ignore[assignment]


def check() -> list[str]:
    """check answers with a Report."""
    report: gilmsg.Report = gilmsg.check(["a"], topic="org.example.prod.t", name="b")
    gilmsg.check(topic="org.example.prod", consumer=True, warn_days=30)
    gilmsg.check(topic=7)  # type: ignore[arg-type]
    plain: dict[str, Any] = report.as_dict()
    known = {name: (seen.endpoints, seen.reachable, seen.listening, seen.detail)
             for name, seen in report.recipients.items()}
    own: list[tuple[str, bool, str]] = [(line.check, line.ok, line.detail) for line in report.lines]
    sure: bool = report.recipients["a"].reachable  # type: ignore[assignment]  # it may be None
    del plain, known, own, sure
    return report.missing + report.failures() if not report.ok else []


def context() -> str:
    """init and destroy as in fedmsg."""
    gilmsg.init(name="a", active=True)
    gilmsg.destroy()
    gilmsg.init("a")  # type: ignore[call-arg]
    return gilmsg.__version__


def sandbox() -> dict[str, Any]:
    """A bus of one's own."""
    Sandbox(relay=1.5)  # type: ignore[arg-type]
    with Sandbox(["a", "b"], relay=True, topic_prefix="com.acme", on_event=lambda name, event: None) as bus:
        bus.silent("a")
        bus.slow("a", 0.5)
        bus.dead("a")
        bus.well("a")
        bus.slow("a")  # type: ignore[call-arg]
        bus.dead(["a"])  # type: ignore[arg-type]
        bus.forget()
        alive: bool = bus.is_alive("a")
        messages: list[dict[str, Any]] = bus.received("a")
        del alive, messages
        return dict(bus.config, directory=bus.directory, recipients=bus.recipients)


def a_test(gilmsg_bus: Bus, gilmsg_forbidden: None) -> None:
    """The fixtures of pytest, as types, and what is for other test runners."""
    gilmsg_bus.kill(gilmsg_bus.recipients[0])
    gilmsg_bus.silence(7)  # type: ignore[arg-type]
    got: list[dict[str, Any]] = gilmsg_bus.received["a"]
    gilmsg_bus.received["a"] = got  # type: ignore[index]
    buses = Buses()
    with buses.bus(["a"]) as bus:
        gilmsg_bus = bus
    buses.close()
    try:
        with forbidden():
            gilmsg.publish(topic="t", msg={})
    except PublishForbidden as error:
        is_assertion: AssertionError = error
        del is_assertion
