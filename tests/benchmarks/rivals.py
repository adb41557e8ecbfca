"""Clients of others, in processes of their own: ``python -m tests.benchmarks.rivals``.

The first line on stdin says which (``what``) and where its server listens (``port``). One that publishes
answers each further line, a number of messages, with the seconds that each of them took.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from typing import Any, Callable

from tests.benchmarks.floor import TOPIC, compose, encode
from tests.benchmarks.members import say

QUEUE = "benchmark"
ADDRESS = "127.0.0.1"

#: Seconds after which an unanswered publish is a fault of the benchmark.
LIMIT = 30.0


def payload(number: int) -> bytes:
    """Return what gilmsg's message says, in bytes, without a signature."""
    return encode(compose(TOPIC, {"n": number}, number, "floor"))


def obey(publish: Callable[[int], Any]) -> None:
    """Publish as often as each line on stdin says."""
    say("ready")
    number = 0
    for line in sys.stdin:
        seconds = []
        for _ in range(json.loads(line)):
            number += 1
            began = time.perf_counter()
            publish(number)
            seconds.append(time.perf_counter() - began)
        say(seconds)


def nats_request(port: int) -> None:
    """A request, and the reply of one responder: it has received it, says whoever replies."""
    _nats(port, lambda client: lambda number: client.request("request", payload(number), LIMIT))


def nats_jetstream(port: int) -> None:
    """A publish to a stream on disk; the server says that it has it."""

    def publisher(client: Any) -> Callable[[int], Any]:
        stream = client.jetstream()
        return lambda number: stream.publish("stream.benchmark", payload(number), LIMIT)

    _nats(port, publisher)


def _nats(port: int, publisher: Callable[[Any], Callable[[int], Any]]) -> None:
    import nats

    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(nats.connect(f"nats://{ADDRESS}:{port}"))
    publish = publisher(client)
    obey(lambda number: loop.run_until_complete(publish(number)))


def nats_answers(port: int) -> None:
    """The responder; it also declares the stream."""
    import nats

    async def answer(message: Any) -> None:
        await message.respond(b"ack")

    async def begin() -> None:
        client = await nats.connect(f"nats://{ADDRESS}:{port}")
        await client.jetstream().add_stream(name="benchmark", subjects=["stream.>"])
        await client.subscribe("request", cb=answer)
        await client.flush()
        say("ready")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    loop.run_forever()


def rabbitmq_confirms(port: int) -> None:
    """A persistent message to a durable queue; the broker says that it is safe there."""
    import pika

    channel = _channel(port)
    channel.confirm_delivery()
    persistent = pika.BasicProperties(delivery_mode=2)
    obey(lambda n: channel.basic_publish("", QUEUE, payload(n), properties=persistent, mandatory=True))


def rabbitmq_consumes(port: int) -> None:
    """Takes from the queue, and acknowledges to the broker; no publisher hears of that."""
    channel = _channel(port)
    channel.queue_declare(QUEUE, durable=True)
    channel.queue_bind(QUEUE, "amq.topic", routing_key="#")
    channel.basic_consume(QUEUE, lambda of, method, *_: of.basic_ack(method.delivery_tag))
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    say("ready")
    channel.start_consuming()


def _channel(port: int) -> Any:
    import pika

    # Its port is open before it lets anybody in.
    where = pika.ConnectionParameters(ADDRESS, port, connection_attempts=30, retry_delay=1, heartbeat=0)
    return pika.BlockingConnection(where).channel()


def fedora_messaging_publish(port: int) -> None:
    """Its ``api.publish`` to the exchange from which the queue is fed."""
    from fedora_messaging import api, config, message

    config.conf.load_config(os.devnull)  # its defaults, whatever the machine is configured for
    config.conf["amqp_url"] = f"amqp://guest:guest@{ADDRESS}:{port}/%2F"
    topic = TOPIC.decode("ascii")
    obey(lambda number: api.publish(message.Message(topic=topic, body={"n": number}), timeout=LIMIT))


KINDS: dict[str, Callable[[int], None]] = {
    one.__name__: one
    for one in (
        nats_request, nats_jetstream, nats_answers, rabbitmq_confirms, rabbitmq_consumes,
        fedora_messaging_publish,
    )
}  # fmt: skip


def main() -> None:
    order = json.loads(sys.stdin.readline())
    KINDS[order["what"]](order["port"])
    os._exit(0)  # clients leave threads and loops that would keep us


if __name__ == "__main__":
    main()
