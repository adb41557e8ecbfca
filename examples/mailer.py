"""The mailer: an asyncio worker that writes a letter for each order, and acknowledges when it is written.

Run it by ``python mailer.py``, as the service that ``name`` in fedmsg.d says. Letters go into the folder of the
environment variable LETTERS. It may be killed at any time: what it has not acknowledged comes again.
"""

import asyncio
import contextlib
import os
import pathlib

import gilmsg.aio

TOPIC = "org.example.dev.shop.order.placed"


def write_letter(folder, order):
    """Write the letter. An order that comes again has the same letter: so nothing need be remembered here."""
    text = f"Dear {order['customer']}, {order['item']} is on its way to you.\n"
    (folder / f"order-{int(order['id'])}.txt").write_text(text, encoding="utf-8")


async def work(folder):
    """Handle one order after the other, for ever."""
    async with gilmsg.aio.tail_messages(topic=TOPIC, acknowledge="after") as messages:
        async for _, _, _, message in messages:
            try:
                await asyncio.to_thread(write_letter, folder, message["msg"])
            except (KeyError, TypeError, ValueError, OSError) as error:
                messages.reject(repr(error))  # the outbox sends it again, later and later


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work(pathlib.Path(os.environ["LETTERS"])))
