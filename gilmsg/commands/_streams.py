"""stdin, stdout and stderr as a shell may leave them to us: closed, a pipe that nobody reads, a terminal."""

import os
import re
import sys
from typing import Any

#: Control characters but for tab and line feed, and those that turn the direction of a text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BREAK = re.compile("[\t\n\u2028\u2029]")


def open_closed() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed.

    The descriptors first: our own files and sockets would take their place. Then Python's own
    objects, which are None there: ``print`` to a stderr that is None goes to stdout.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            break
        os.set_inheritable(descriptor, True)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def printable(text: str) -> str:
    """Return *text* without what a terminal might obey, line breaks and tabs excepted: anybody may write on the bus."""
    return _CONTROL.sub("?", text)


def printable_line(text: str) -> str:
    """Return *text* as one line without what a terminal might obey."""
    return printable(_BREAK.sub("?", text))


def complain(prog: str, what: object) -> None:
    """Print one line on stderr, under the name of the command; no matter if nobody reads it."""
    line = " ".join(str(what).split()) or repr(what)
    try:
        print("%s: %s" % (prog, line), file=sys.stderr, flush=True)
    except OSError:
        forget(sys.stderr)


def forget(stream: Any) -> None:
    """Send what *stream* still holds, and all to come, to nowhere: nobody reads it any more.

    Otherwise the interpreter would try again as it ends, and complain.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def tell(text: str) -> None:
    """Print *text* on stdout; no matter if it is a pipe that nobody reads any more.

    Raises:
        OSError: it cannot be written for another reason.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        forget(sys.stdout)


def flush() -> None:
    """Write what is still held, or forget it: as it ends, the interpreter must have nothing left to fail at."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            forget(stream)
