"""Watch all endpoints on the bus, acknowledge each message that names us, and print it.

The acknowledgement leaves before the message is printed, signed under the configured name
or --name; the messages are those that fedmsg-tail shows, and its options keep their meaning.
Ends with Ctrl-C, SIGTERM, or when nobody reads its output any more; the exit status is 0
then, and 2 for bad usage or configuration.

Examples::

    $ gilmsg-tail --topic org.example.prod.compose --really-pretty
    $ gilmsg-tail --name backend01 --exec 'jq .msg >> /var/log/messages.json'
    $ gilmsg-tail --json | jq .msg_id
"""

from __future__ import annotations  # noqa: I001  those of the face are sorted, but packed

import contextlib
import json
import logging
import os
import pprint
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import fedmsg.encoding
import fedmsg.meta
import fedmsg.utils
from fedmsg.commands.tail import TailCommand

import gilmsg

from .._meta import answers, sentence, who
from .._protocol import MARKER, on_ack_topic, unmarked
from . import (
    METRICS_PORT, PLAIN, SUCCESS, Paint, Signals, colours_wanted, configuration, log_to_stderr, option, parsed, printable,
    printable_line, running, script, serve_metrics,
)  # fmt: skip

PROG = "gilmsg-tail"

log = logging.getLogger(__name__)

Message = dict[str, Any]

#: Seconds that a command of --exec has to end after SIGTERM.
_STOP_LIMIT = 2.0

EXEC = """Run CMD through the shell for each message shown, one after the other, with the message as JSON on its
standard input. The next message is taken, and acknowledged, when CMD has ended."""

#: On top of all of fedmsg-tail's.
OPTIONS = [
    option("--name", dest="name", default=None, help="The name in endpoints and certnames under which to acknowledge."),
    option("--exec", metavar="CMD", help=EXEC),
    option("--json", action="store_true", help="Print each message as JSON, whole, one a line."),
    METRICS_PORT,
]


@script(PROG)
def main(arguments: list[str] | None = None) -> int:
    config = configuration(parsed(PROG, OPTIONS, __doc__, arguments, TailCommand.extra_args))
    if config.get("sign_messages", False) and not config.get("name"):
        raise gilmsg.ConfigurationError("sign_messages is on, but there is no name to acknowledge under; give --name")
    log_to_stderr(PROG, logging.WARNING)
    topic, command = config.pop("topic") or "", config.pop("exec")
    serve_metrics(config.pop("metrics_port"))
    view = View(config, config.pop("json"), Paint(sys.stdout))
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # Closed here: what a signal interrupts in the garbage collector would be printed.
    with running() as signals, contextlib.closing(gilmsg.tail_messages(topic=topic, **config)) as messages:
        _end_when_unread()
        while True:
            wanted, text = False, ""
            with signals.raised():
                _, _, full_topic, message = next(messages)
                with _logged(message):
                    wanted = view.wanted(full_topic, message)
                    text = view.text(message) if wanted else ""
                if text:
                    print(text, flush=True)
            if wanted and command:
                with _logged(message):
                    _execute(command, message, signals)
    return SUCCESS


def _end_when_unread() -> None:
    """Have SIGTERM sent when stdout is a pipe that nobody reads any more, message or none."""
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)  # errors only: the reader has gone

    def watch() -> None:
        poller.poll()  # what it tells unasked is the end: POLLERR of a pipe, POLLHUP of a socket
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="gilmsg-tail-stdout", daemon=True).start()


@contextlib.contextmanager
def _logged(message: Message) -> Iterator[None]:
    """Log what goes wrong: a message may hold anything, and so may a plugin of fedmsg.meta."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  see above
        log.error("%s: %r", message.get("msg_id"), error)


def _execute(command: str, message: Message, signals: Signals) -> None:
    """Run *command* with *message* on its stdin; log it if it fails."""
    # A session of its own: what we are sent to end us is not sent to a command half done.
    child = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, start_new_session=True)
    try:
        with signals.raised():
            child.communicate(fedmsg.encoding.dumps(message).encode("utf-8"))
    except BaseException:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # it has ended; it takes its time
                os.killpg(child.pid, number)
                child.wait(_STOP_LIMIT)
        raise
    if child.returncode:
        log.error("%s: --exec: exit status %d", message.get("msg_id"), child.returncode)


class View:
    """The messages that fedmsg-tail's options choose, and their formats; without one a line for people, or *as_json*."""

    def __init__(self, config: dict[str, Any], as_json: bool = False, paint: Paint = PLAIN) -> None:
        self._config, self._json, self._paint = config, as_json, paint
        formats = ("query", "pretty", "really_pretty", "cowsay", "terse")
        others = [f"--{key.replace('_', '-')}" for key in formats if config[key]]
        if as_json and others:
            raise gilmsg.ConfigurationError(f"--json is a format of its own, and so is {others[0]}: choose one")
        self._exclude = _pattern(config, "--exclude", "exclusive_regexp")
        self._include = _pattern(config, "--include", "inclusive_regexp")
        self._users, self._packages = (
            {name.strip() for name in config[key].split(",")} if config[key] else set() for key in ("users", "packages")
        )
        if self._users or self._packages or config["terse"] or config["cowsay"]:
            fedmsg.meta.make_processors(**config)

    def wanted(self, topic: str, message: Message) -> bool:
        """Whether *message* is to be shown."""
        if self._exclude.search(topic) or not self._include.search(topic):
            return False
        if self._users and not self._users & set(fedmsg.meta.msg2usernames(message, **self._config)):
            return False
        return not self._packages or bool(self._packages & set(fedmsg.meta.msg2packages(message, **self._config)))

    def text(self, message: Message) -> str:
        """Return the text of *message*; the last option wins, as in fedmsg."""
        if self._json:
            return str(fedmsg.encoding.dumps(message))
        config, shown = self._config, one_line(message, self._paint)
        if config["pretty"]:
            message = {**message, "timestamp": time.ctime(message["timestamp"])}
        if config["pretty"] or config["really_pretty"]:
            message = {key: value for key, value in message.items() if key not in ("signature", "certificate")}
            shown = "\n" + pprint.pformat(message)
        if config["really_pretty"]:
            from pygments import formatters, highlight, lexers

            formatter = formatters.TerminalFormatter() if colours_wanted() else formatters.NullFormatter()
            shown = "\n" + highlight(fedmsg.encoding.pretty_dumps(message), lexers.JavascriptLexer(), formatter).strip()
        if config["query"]:
            found = dict(fedmsg.utils.dict_query(message, config["query"]))
            shown = printable(", ".join(str(value) for value in found.values()))
        if config["terse"]:
            shown = "\n" + printable(fedmsg.meta.msg2repr(message, **config))
        if config["cowsay"]:
            shown = "\n" + _cowsay(printable(fedmsg.meta.msg2subtitle(message, **config)))
        return shown


def _pattern(config: dict[str, Any], name: str, key: str) -> re.Pattern[str]:
    try:
        return re.compile(config[key])
    except re.error as error:
        raise gilmsg.ConfigurationError(f"{name}: {config[key]!r} is no regular expression: {error}") from None


def _cowsay(text: str) -> str:
    # By stdin: fedmsg puts the text, from the bus, into a shell command.
    try:
        return subprocess.run(["cowsay"], input=text, text=True, stdout=subprocess.PIPE, check=False).stdout
    except OSError as error:
        return f"cowsay cannot be run: {error}"


def one_line(message: Message, paint: Paint = PLAIN) -> str:
    """Return time, topic, id, who signed, for whom, and the body: one line."""
    try:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(message["timestamp"]))
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        when = "(no time)"
    topic, msg_id = (printable_line(str(message.get(key))) for key in ("topic", "msg_id"))
    head = f"{paint('faint', when)} {paint('strong', topic)} {paint('faint', msg_id)}"
    body, signer = message.get("msg"), printable_line(who(message))
    if answers(message):
        told = printable_line(sentence(signer, message))
        return f"{head} {paint('good' if on_ack_topic(message['topic']) else 'bad', told)}"
    marker = body.get(MARKER) if isinstance(body, dict) else None
    recipients = ""
    if isinstance(marker, dict) and isinstance(marker.get("recipients"), list):
        recipients = printable_line(" ".join(map(str, marker["recipients"])))
        body = unmarked(body)
    named = f" for {paint('name', recipients)}" if recipients else ""
    return f"{head} from {paint('name', signer)}{named}: {printable_line(json.dumps(body, default=str))}"


if __name__ == "__main__":
    sys.exit(main())
