"""The warning for whoever waits where a running event loop has to wait with him."""

from __future__ import annotations

import logging
import sys

_log = logging.getLogger("gilmsg.publish")

#: Whether the one warning of this process was given.
_warned = False


def warn() -> None:
    """Log one WARNING in a process if an event loop of asyncio's runs in the calling thread."""
    global _warned
    if _warned:
        return
    # Not imported: who runs a loop has loaded it, and others are spared a tenth of what ``import fedmsg`` takes.
    running = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    if running is not None and running() is not None:
        _warned = True
        _log.warning(
            "gilmsg.publish() was called within a running event loop, whose other tasks stand still until it returns; "
            "use `await gilmsg.aio.publish(...)` there (said once)"
        )
