"""What a running sandbox shows: what to do next, each message, each ACK."""

import json
import os
import shlex
import sys
import sysconfig
import threading
import time
from typing import Any, Dict, Optional

from gilmsg import _acks
from gilmsg.sandbox import Sandbox

from ._streams import forget, printable_line

#: What can be typed at it.
LINES = "silent CN | slow CN SECONDS | dead CN | well CN"

#: Characters of a payload that are shown.
SHOWN = 300


class Display:
    """Prints lines, from any thread; when nobody reads them any more, it stops."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream or open(os.devnull, "w")
        self._lock = threading.Lock()
        # What this terminal cannot show must not end us.
        self._stream.reconfigure(errors="backslashreplace")

    def text(self, text: str) -> None:
        """Print *text*, or nothing once nobody reads it."""
        with self._lock:
            try:
                print(text, file=self._stream, flush=True)
            except OSError:
                forget(self._stream)

    def event(self, common_name: str, event: Dict[str, Any]) -> None:
        """Print what the stand-in *common_name* reports, if it concerns a reader."""
        line = described(event)
        if line is not None:
            self.text("%s  %-12s  %s" % (time.strftime("%H:%M:%S"), common_name, line))


def described(event: Dict[str, Any]) -> Optional[str]:
    """Return one line on what a stand-in reports, None for what concerns no reader."""
    if event["event"] == "ack":
        return "ACK       %s" % event["msg_id"]
    if event["event"] != "message" or _acks.on_ack_topic(event["topic"]):
        return None
    message = event["message"]
    text = json.dumps(_acks.unmarked(message.get("msg")), ensure_ascii=False)
    text = text if len(text) <= SHOWN else text[:SHOWN] + "..."
    return printable_line("received  %s  %s  %s%s" % (
        message.get("msg_id"), event["topic"], text, "" if event["due"] else "  (no ACK asked of it)"
    ))


def heading(sandbox: Sandbox) -> str:
    """Return where the bus is and who is on it."""
    return "A signed bus is running in %s\nIts recipients: %s" % (
        sandbox.directory, ", ".join(sandbox.recipients)
    )


def guide(sandbox: Sandbox, relay: bool) -> str:
    """Return what to do next, in lines to be copied."""
    call = 'gilmsg.publish(topic="hello", msg={"text": "hi"}, recipients=%s, ack_timeout=5)'
    code = "import gilmsg; print(%s)" % (call % json.dumps(sandbox.recipients))
    lines = [
        "",
        "In another shell:",
        "    cd %s" % shlex.quote(sandbox.directory),
        "    %s -c %s" % (shlex.quote(sys.executable), shlex.quote(code)),
    ]
    if relay:
        words = " ".join(shlex.quote(name) for name in sandbox.recipients)
        lines.append("    echo testing | %s --recipients %s --ack-timeout 5" % (_logger(), words))
    return "\n".join(lines + ["", "Type here: %s. Ctrl-C ends it." % LINES, ""])


def _logger() -> str:
    """Return how gilmsg-logger is called on this machine, on the PATH or not."""
    installed = os.path.join(sysconfig.get_path("scripts"), "gilmsg-logger")
    if os.path.exists(installed):
        return shlex.quote(installed)
    return "%s -m gilmsg.commands.logger" % shlex.quote(sys.executable)
