"""What gilmsg-logger reads: a text, lines, one JSON document or many."""

import io
import os

import pytest

from gilmsg.commands.logger import inputs
from gilmsg.errors import ConfigurationError


def given(text, **config):
    stdin = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8")
    return list(inputs({"json_input": True, **config}, stdin))


@pytest.mark.parametrize(
    "text, expected",
    [
        (b'{"a": 1}', [{"a": 1}]),
        (b'\n{"a": 1}\n\n{"b": 2}\n', [{"a": 1}, {"b": 2}]),
        (b'{\n "a": 1,\n\n "b": 2\n}\n', [{"a": 1, "b": 2}]),
        (b'{"a":\n1}', [{"a": 1}]),
        (b'{"a": 1}\n\nx\n{"b": 2}', [{"a": 1}, "line 3: 'x' is not JSON: Expecting value at column 1", {"b": 2}]),
        (b'x\n{"b": 2}', ["line 1: 'x' is not JSON: Expecting value at column 1", {"b": 2}]),
        (b'{"a": 1\n{"b": 2}', ["line 1: '{\"a\": 1' is not JSON: Expecting ',' delimiter at column 8", {"b": 2}]),
        # Nothing of a document over several lines is published if it is none.
        (b'[\n{"a": 1},\n\n{"b": 2}\n}\n', [("line 5: '}': the document that begins in line 1 is not JSON: "
                                             "Expecting ',' delimiter at column 1")]),
        (b'{\n', ["line 1: '{' is not JSON: Expecting property name enclosed in double quotes at column 2"]),
        (
            b'{"a": 1}\n{"b": "\xff"}\n{}',
            [{"a": 1}, "line 2: b'{\"b\": \"\\xff\"}' is not text in this locale's encoding", {}],
        ),
        (b'[\n"\xff"]', ["line 2: b'\"\\xff\"]' is not text in this locale's encoding"]),
        (b"[" * 200000, ["line 1: '%s...' is not JSON: it is nested too deeply" % ("[" * 80)]),
    ],
)
def test_json_input_is_told_line_by_line(text, expected):
    """One document, or one a line; what is none is told with its line, and hides none of the others."""
    assert [one.body if one.problem is None else one.where + one.problem for one in given(text)] == expected


def test_a_number_of_any_length_ends_nothing():
    """Python refuses to read one of thousands of digits: that is bad input like other."""
    assert [one.body for one in given(5000 * b"1" + b"\n{}")][1:] == [{}]


def test_there_must_be_json():
    """With --json-input an empty standard input is bad usage."""
    with pytest.raises(ConfigurationError, match="standard input is empty"):
        given(b"\n")


@pytest.mark.parametrize("json_input, line", [(True, b'{"a": 1}\n'), (False, b"a\n")])
def test_lines_are_handed_out_as_they_come(json_input, line):
    """A line is published when it comes, not when the input ends: it may be a log that is followed."""
    reader, writer = os.pipe()
    with os.fdopen(reader, encoding="utf-8") as stdin, os.fdopen(writer, "wb", 0) as end:
        end.write(line)
        assert next(inputs({"json_input": json_input}, stdin)).problem is None


def test_what_is_no_text_is_told():
    """Bytes that are no text are told with their line, whatever the locale makes of them."""
    first, bad, last = given(b"a\n\xffb\nc\n", json_input=False)
    assert (first.body, last.body) == ({"log": "a"}, {"log": "c"})
    assert bad.where + bad.problem == "line 2: b'\\xffb' is not text in this locale's encoding"
    for json_input in (False, True):
        assert "is not text" in given(b"", json_input=json_input, logger_message="\udcff")[0].problem
