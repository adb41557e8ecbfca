"""gilmsg under asyncio: ``await gilmsg.aio.publish(...)``, ``async for ... in gilmsg.aio.tail_messages(...)``.

Theory of operation
-------------------
The event loop never waits. What may take a while, or block, is done on threads beside it:

- *publish*: one thread of the process, ``gilmsg-signing``, makes contexts, ports and listeners, signs, and hands over to
  the engine, in the order in which the coroutines started. The ends of messages come back by the thread of
  ``futures``, in batches, and a loop is woken once for each batch. No thread waits for an ACK.
- *tail_messages*: one thread of each iteration, ``gilmsg-aio``, runs the generator of :func:`gilmsg.tail_messages`, one step
  for each message that is asked for. A step that nobody waits for any more is interrupted before it takes a message.

The context is that of the loop's thread (as everywhere, fedmsg keeps one for each), which is lent to these threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tailing import Messages, tail_messages

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from .._client.overloads import Publish
    from .._protocol import Receipt

    publish: Publish[Coroutine[Any, Any, Receipt], Coroutine[Any, Any, Receipt | None], Coroutine[Any, Any, None]]
else:
    from .publishing import publish

__all__ = ["Messages", "publish", "tail_messages"]
