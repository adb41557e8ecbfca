"""What gilmsg-logger is to publish: a text, lines, or JSON. What is no good is told, with its line.

``--json-input`` takes one document over any number of lines, as fedmsg-logger does, or one a
line. Which of them is seen by the first line: is it a document by itself, then every line is
one, and each is handed out as it comes.
"""

import json
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, TextIO

import fedmsg.encoding  # type: ignore[import-untyped]

from ._usage import Unusable

#: Characters of bad input that are shown.
_SHOWN = 80


class Input(NamedTuple):
    """One thing to publish, or why it cannot be."""

    #: Where it comes from, for people: "line 3: ", or nothing.
    where: str
    body: Any = None
    problem: Optional[str] = None


class _Line(NamedTuple):
    """A line of stdin."""

    number: int
    text: str

    @property
    def where(self) -> str:
        return "line %d: " % self.number


def inputs(config: Dict[str, Any], stdin: TextIO) -> Iterator[Input]:
    """Yield what *config* (``--message``, ``--json-input``) asks for.

    Raises:
        Unusable: there should be a JSON document, and stdin is empty.
    """
    message = config.get("logger_message")
    if message:
        yield _json("", message) if config["json_input"] else _text("", message)
        return
    # What is no text must not end us: it is recognized, and told, line by line.
    stdin.reconfigure(errors="surrogateescape")  # type: ignore[attr-defined]
    lines = (_Line(number, text) for number, text in enumerate(stdin, 1))
    if config["json_input"]:
        yield from _documents(line for line in lines if line.text.strip())
    else:
        yield from (_text(line.where, line.text.strip()) for line in lines)


def _text(where: str, text: str) -> Input:
    problem = _not_text(text)
    return Input(where, problem=problem) if problem else Input(where, {"log": text})


def _json(where: str, text: str) -> Input:
    try:
        return Input(where, _loads(text))
    except _NotJson as error:
        return Input(where, problem="%r is not JSON: %s" % (_short(text), error))
    except UnicodeEncodeError:
        return Input(where, problem=_not_text(text))


def _documents(lines: Iterator[_Line]) -> Iterator[Input]:
    head = next(lines, None)
    if head is None:
        raise Unusable("--json-input: standard input is empty")
    first = _document(head)
    if first.problem is not None:
        rest = list(lines)
        whole = _whole([head] + rest)
        # A lone bracket is how a document over several lines begins: a fragment of it is none.
        if whole.problem is None or head.text.strip() in ("{", "["):
            yield whole
            return
        lines = iter(rest)
    yield first
    yield from map(_document, lines)


def _document(line: _Line) -> Input:
    return _json(line.where, line.text.strip())


class _NotJson(ValueError):
    """Why a text is not JSON, and in which of its lines that is seen."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.line = line


def _loads(text: str) -> Any:
    text.encode("utf-8")
    try:
        return fedmsg.encoding.loads(text)
    except RecursionError:
        raise _NotJson("it is nested too deeply", 1) from None
    except json.JSONDecodeError as error:
        # Its own text tells of "line 1", which is not the input's.
        raise _NotJson("%s at column %d" % (error.msg, error.colno), error.lineno) from None


def _whole(lines: List[_Line]) -> Input:
    """Return all lines as one document."""
    text = "".join(line.text for line in lines)
    try:
        return Input("", _loads(text))
    except UnicodeEncodeError:
        return next(Input(line.where, problem=_not_text(line.text)) for line in lines if _not_text(line.text))
    except _NotJson as error:
        # Blank lines were left out; and the end of the document may be missed after its last line.
        seen = lines[min(error.line, len(lines)) - 1]
        about = "%r: the document that begins in line %d is not JSON: %s"
        return Input(seen.where, problem=about % (_short(seen.text.strip()), lines[0].number, error))


def _not_text(text: str) -> Optional[str]:
    """Return what is wrong with *text* if it comes of bytes that are no text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "%r is not text in this locale's encoding" % _short(text.strip()).encode("utf-8", "surrogateescape")
    return None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
