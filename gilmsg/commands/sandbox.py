"""Run a small, signed bus with stand-in recipients on this machine until Ctrl-C.

DIR gets a fedmsg.d and throw-away keys: a program started there publishes on this bus. Each
message and ACK is shown as it happens. Type at it:

    silent CN         CN receives, and acknowledges nothing
    slow CN SECONDS   CN waits before each ACK; what comes meanwhile waits its turn
    dead CN           CN's process is killed
    well CN           CN acknowledges at once, started anew if it is dead

With COMMAND, stdin and stdout are COMMAND's, and what is shown goes to stderr. Exit status:
COMMAND's own (128 + n if signal n ended it, 127 if it is not found, 126 if it cannot be run);
without one 0 after Ctrl-C; 1 if the bus did not come up; 2 for bad usage.

Examples::

    $ gilmsg-sandbox
    $ gilmsg-sandbox ~/bus --recipients backend01 backend02 --relay
    $ gilmsg-sandbox --recipients backend01 -- python3 /path/to/my_producer.py
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from gilmsg.errors import ConfigurationError
from gilmsg.sandbox import Sandbox

from .._protocol import is_answer, unmarked
from . import PLAIN, SUCCESS, Ended, Paint, Signals, command_parser, complain, printable_line, script, tell

PROG = "gilmsg-sandbox"

#: Exit statuses beyond those that all commands share.
DID_NOT_COME_UP, CANNOT_RUN, NOT_FOUND = 1, 126, 127

#: Seconds: that COMMAND has to end after Ctrl-C; in which what was killed is gone; between looks at a stdin at its end.
PATIENCE, _REAP_LIMIT, _LOOK_AGAIN = 1.0, 0.5, 0.5

#: Characters of a payload that are shown.
SHOWN = 300

USAGE = (
    "%(prog)s [DIR] [--recipients CN [CN ...]] [--relay] [--topic-prefix P] [-- COMMAND ...]\n"
    "       (DIR first, or last after an option other than --recipients)"
)

#: What can be typed, and what is done then.
LINES = "silent CN | slow CN SECONDS | dead CN | well CN"

ANSWERS = {"silent": "receives now, and acknowledges nothing", "dead": "is dead", "well": "is well"}


@script(PROG)
def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    command = options.pop("command")
    stream = sys.stderr if command else sys.stdout
    stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # Raised only where we wait for what is typed, or for COMMAND: a process half started would be left running.
    signals = Signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    paint = Paint(stream)

    def show(name: str, event: dict[str, Any]) -> None:
        if line := event_line(name, event, paint):
            tell(line, stream)

    try:
        # Programs that run meanwhile find within a moment what was dead and is well again.
        with Sandbox(on_event=show, on_wait=signals.check, zmq_reconnect_ivl_max=200, **options) as bus:
            tell(f"A signed bus is running in {bus.directory}\nIts recipients: {', '.join(bus.recipients)}", stream)
            if command:
                return _run(command, bus.directory, signals)
            tell(guide(bus, "relay" in options))
            for line in _typed(signals):
                tell(obey(bus, line))
    except TimeoutError as error:
        complain(PROG, error)
        return DID_NOT_COME_UP
    except Ended as end:
        if command:
            return 128 + int(end.args[0])
    # Ctrl-C is how a sandbox without a command is meant to end.
    return SUCCESS


def parse(arguments: list[str]) -> dict[str, Any]:
    """Return the options that are given; what follows the first ``--`` is the command."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = command_parser(PROG, __doc__, usage=USAGE, allow_abbrev=False)
    where = "where fedmsg.d and the keys go, and stay; a temporary folder by default"
    parser.add_argument("directory", metavar="DIR", nargs="?", help=where)
    parser.add_argument("--recipients", metavar="CN", nargs="+", help="common names of the stand-ins; two by default")
    parser.add_argument("--relay", action="store_true", help="run a fedmsg-relay too, for gilmsg-logger")
    parser.add_argument("--topic-prefix", metavar="P", help="of the bus; org.example by default")
    # Intermixed, or an older argparse fails to see DIR after an option.
    options = vars(parser.parse_intermixed_args(arguments[:at]))
    if options["directory"] == "":
        parser.error("argument DIR: it is empty")
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", "P" if options["topic_prefix"] is None else options["topic_prefix"]):
        parser.error(f"argument --topic-prefix: {options['topic_prefix']!r} is not words joined by dots")
    if arguments[at:] == ["--"]:
        raise ConfigurationError("there is no COMMAND after --")
    return {**{key: value for key, value in options.items() if value}, "command": arguments[at + 1 :]}


def _typed(signals: Signals) -> Iterator[str]:
    """Yield each line typed, until a signal comes: the end of stdin does not end us."""
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # a job in the background cannot read the terminal
    while True:
        line = b""
        with signals.raised():
            with contextlib.suppress(OSError):
                line = sys.stdin.buffer.readline()
            if not line:
                time.sleep(_LOOK_AGAIN)
        if line:
            yield line.decode("utf-8", "replace")


def obey(sandbox: Sandbox, line: str) -> str:
    """Do what a typed *line* says; return the answer."""
    verb, _, rest = line.strip().partition(" ")
    name = rest.strip()
    try:
        if verb == "slow":
            name, _, text = (one.strip() for one in name.rpartition(" "))
            seconds = _seconds(text)
            sandbox.slow(name, seconds)
            return f"{name} waits {seconds:g} s now before each ACK"
        if verb not in ANSWERS:
            raise ValueError(f"{verb!r} is not understood")
        getattr(sandbox, verb)(name)
        return f"{name} {ANSWERS[verb]}"
    except (ConfigurationError, TimeoutError, ValueError) as error:
        return f"{error}. Type one of: {LINES} (CN is one of: {', '.join(sandbox.recipients)})"


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number of seconds") from None


def event_line(common_name: str, event: dict[str, Any], paint: Paint = PLAIN) -> str:
    """Return one line on what the stand-in *common_name* reports, nothing if it concerns no reader."""
    if event["event"] == "ack":
        told = paint("good", f"ACK       {printable_line(event['msg_id'])}")
    elif event["event"] != "message" or is_answer(event["topic"]):
        return ""
    else:
        message = event["message"]
        text = json.dumps(unmarked(message.get("msg")), ensure_ascii=False)
        text = text if len(text) <= SHOWN else text[:SHOWN] + "..."
        asked = "" if event["due"] else paint("faint", "  (no ACK asked of it)")
        msg_id, topic, text = (printable_line(str(one)) for one in (message.get("msg_id"), event["topic"], text))
        told = f"received  {msg_id}  {paint('strong', topic)}  {text}{asked}"
    return f"{paint('faint', time.strftime('%H:%M:%S'))}  {paint('name', f'{common_name:12}')}  {told}"


def guide(sandbox: Sandbox, relay: bool) -> str:
    """Return what to do next, in lines to be copied."""
    call = f'topic="hello", msg={{"text": "hi"}}, recipients={json.dumps(sandbox.recipients)}, ack_timeout=5'
    code = shlex.quote(f"import gilmsg; print(gilmsg.publish({call}))")
    python = shlex.quote(sys.executable)
    lines = ["", "In another shell:", f"    cd {shlex.quote(sandbox.directory)}", f"    {python} -c {code}"]
    if relay:
        logger = f"{python} -m gilmsg.commands.logger"
        lines.append(f"    echo testing | {logger} --recipients {shlex.join(sandbox.recipients)} --ack-timeout 5")
    return "\n".join([*lines, "", f"Type here: {LINES}. Ctrl-C ends it.", ""])


def _run(words: list[str], directory: str, signals: Signals) -> int:
    """Run COMMAND, and end all that it has started; return its exit status, 128 + n if signal n ended it.

    On a terminal it stays in our process group, so that it may read what is typed, and Ctrl-C reaches it without our
    doing. Elsewhere it has a session of its own and we pass signals on.
    """
    terminal, ours = os.isatty(0), _children()
    # We become the parent of what its processes leave behind, whatever session it has moved to.
    if sys.platform == "linux":  # pragma: no branch  there is no other here
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    try:
        process = subprocess.Popen(words, cwd=directory, start_new_session=not terminal)
    except OSError as error:
        complain(PROG, f"cannot run {words[0]} in {directory}: {error.strerror}")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
    try:
        with signals.raised():
            status = process.wait()
    except Ended as end:
        number = int(end.args[0])
        if not terminal:
            _signal_group(process.pid, number)
        elif number != signal.SIGINT:
            process.send_signal(number)
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            status = -number
    finally:
        _signal_group(process.pid, signal.SIGKILL)
        process.kill()
        _kill_all_but(ours)
    return status if status >= 0 else 128 - status


def _signal_group(pid: int, number: int) -> None:
    """Send the signal *number* to what is left of the process group that *pid* leads or led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended
        os.killpg(pid, number)


def _children() -> set[int]:
    """Return the process ids of our children; none where there is no /proc."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as stream:
        return set(map(int, stream.read().split()))
    return set()


def _kill_all_but(ours: set[int]) -> None:
    deadline = time.monotonic() + _REAP_LIMIT
    while (left := _children() - ours) and time.monotonic() < deadline:
        for pid in left:  # once they have ended, their children are ours
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)


if __name__ == "__main__":
    sys.exit(main())
