"""``gilmsg-tail``: watch the bus from the shell, and acknowledge what names us."""

import contextlib
import copy
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from typing import Any, Dict, Iterator, List, Optional

import fedmsg.encoding  # type: ignore[import-untyped]
from fedmsg.commands.tail import TailCommand  # type: ignore[import-untyped]

import gilmsg

from . import _common, _lines, _streams
from ._common import SUCCESS
from ._family import end_group
from ._usage import Unusable

PROG = "gilmsg-tail"

log = logging.getLogger(__name__)

#: Seconds that a command of --exec has to end after SIGTERM.
_STOP_LIMIT = 2.0

#: Seconds after which a signal is taken again that came where it could not end us.
_AGAIN = 0.02

DESCRIPTION = """
Watch all endpoints on the bus, acknowledge each message that names us, and print it.

The acknowledgement leaves before the message is printed, signed under the configured name
or --name; the messages are those that fedmsg-tail shows, and its options keep their meaning.
Ends with Ctrl-C, SIGTERM, or when nobody reads its output any more; the exit status is 0
then, and 2 for bad usage or configuration.

Examples::

    $ gilmsg-tail --topic org.example.prod.compose --really-pretty
    $ gilmsg-tail --name backend01 --exec 'jq .msg >> /var/log/messages.json'
"""

#: On top of all of fedmsg-tail's.
OPTIONS: List[Any] = [
    (
        ["--name"],
        {
            "dest": "name",
            "default": None,
            "help": "The name in endpoints and certnames under which to acknowledge.",
        },
    ),
    (
        ["--exec"],
        {
            "dest": "exec",
            "metavar": "CMD",
            "help": "Run CMD through the shell for each message shown, one after the other, with "
            "the message as JSON on its standard input. The next message is taken, and "
            "acknowledged, when CMD has ended.",
        },
    ),
]


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command; return the exit status."""
    return _common.run(PROG, lambda: _Command(_configuration(arguments)).run())


class _Command:
    """One run: the filters, how a message is shown, and what is run for it."""

    def __init__(self, config: Dict[str, Any]) -> None:
        self._topic = config.pop("topic") or ""
        self._exec = config.pop("exec")
        self._config = config
        self._wanted = _lines.wanted(config)
        self._line = _lines.formatter(config)

    def run(self) -> int:
        """Print messages until told to end; that is no failure."""
        _told.listen()
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        # Twice: on the way out there may come a second reason to end.
        ends = contextlib.suppress(KeyboardInterrupt, BrokenPipeError)
        try:
            with contextlib.suppress(KeyboardInterrupt), ends:
                self._watch()
        finally:
            _told.deaf()
            gilmsg.destroy()
            _streams.flush()
        return SUCCESS

    def _watch(self) -> None:
        # Closed here, where a signal may interrupt it: the garbage collector would print that.
        with contextlib.closing(gilmsg.tail_messages(topic=self._topic, **self._config)) as messages:
            _end_when_unread()
            for _, _, topic, message in messages:
                self._take(topic, message)

    def _take(self, topic: str, message: Dict[str, Any]) -> None:
        """Show one message and run the command for it; nothing in it, or of it, ends us."""
        with _logged(message):
            if not self._wanted(topic, message):
                return
            with _logged(message):
                # A copy: the formats of fedmsg-tail write into what they show.
                line = self._line(copy.deepcopy(message))
                if line:
                    print(line, flush=True)
            if self._exec:
                _execute(self._exec, message)


@contextlib.contextmanager
def _logged(message: Dict[str, Any]) -> Iterator[None]:
    """Log what goes wrong: a message may hold anything, and so may a plugin of fedmsg.meta."""
    try:
        yield
    except BrokenPipeError:
        raise
    except Exception as error:
        log.error("%s: %r", message.get("msg_id"), error)


def _execute(command: str, message: Dict[str, Any]) -> None:
    """Run *command* with *message* on its stdin; log it if it fails."""
    text = fedmsg.encoding.dumps(message).encode("utf-8")
    _told.held = True  # between its start and our "try" nothing may interrupt: nobody would end it
    try:
        # A session of its own: what we are sent to end us is not sent to a command half done.
        child = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, start_new_session=True)
        try:
            _told.release()
            child.communicate(text)
        except BaseException:
            end_group(child, _STOP_LIMIT)
            raise
    finally:
        _told.held = False
    if child.returncode:
        log.error("%s: --exec: exit status %d", message.get("msg_id"), child.returncode)


class _Told:
    """SIGTERM and Ctrl-C: the first one is a KeyboardInterrupt, at once or when it is released."""

    held = False
    _pending = False

    def listen(self) -> None:
        """Take both signals from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)
        sys.unraisablehook = self._lost

    def deaf(self) -> None:
        """Ignore both: we are ending."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)

    def _lost(self, what: Any) -> None:
        """Take again, a moment later, what came in a finalizer: nothing is raised out of those, Python prints it."""
        if what.exc_type is KeyboardInterrupt:
            signal.signal(signal.SIGALRM, self._take)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            sys.__unraisablehook__(what)

    def release(self) -> None:
        """Raise what was held back."""
        self.held = False
        if self._pending:
            raise KeyboardInterrupt

    def _take(self, number: int, frame: Any) -> None:
        self.deaf()
        self._pending = True
        if not self.held:
            raise KeyboardInterrupt


_told = _Told()


def _end_when_unread() -> None:
    """Have SIGTERM sent when stdout is a pipe that nobody reads any more, message or none."""
    poller = select.poll()
    try:
        poller.register(sys.stdout.fileno(), 0)  # errors only: the reader has gone
    except (OSError, ValueError):
        return

    def watch() -> None:
        poller.poll()  # what it tells unasked is the end: POLLERR of a pipe, POLLHUP of a socket
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="gilmsg-tail-stdout", daemon=True).start()


def _configuration(arguments: Optional[List[str]]) -> Dict[str, Any]:
    options = TailCommand.extra_args + OPTIONS
    config = _common.configuration(PROG, options, DESCRIPTION, arguments)
    if config.get("sign_messages", False) and not config.get("name"):
        raise Unusable("sign_messages is on, but there is no name to acknowledge under; give --name")
    _common.log_to_stderr(PROG)
    return config


if __name__ == "__main__":
    sys.exit(main())
