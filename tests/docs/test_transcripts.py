"""Transcripts are played: the tutorial as a whole, terminal by terminal, and what comes out is what is shown, times aside."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from .. import processes
from .pages import Block, shown, shown_all

#: What may differ: ids, times of day, durations, ports; "..." is anything, over lines too.
VARYING = (
    (r"\d{4}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", r"\d{4}-[0-9a-f-]{36}"),
    (r"\d\d:\d\d:\d\d", r"\d\d:\d\d:\d\d"),
    (r"127\.0\.0\.1:\d+", r"127\.0\.0\.1:\d+"),
    (r"\d+\.\d+ ?(ms|s)\b", r"[\d.]+ ?(ms|s)"),
    (r"\.\.\.", r"(?s:.)*?"),
)

#: Names that are not on a tester's PATH: each is this Python's, as if installed there; pip must not touch its environment.
FUNCTIONS = """
python() {{ {python} "$@"; }}
pytest() {{ {python} -m pytest -p pytest_gilmsg -p no:cacheprovider -p no:randomly --rootdir . "$@"; }}
pip() {{ {python} -m pip "$@" --quiet --no-index --no-deps --no-build-isolation --target "$HOME/site" >/dev/null; }}
fedmsg-hub() {{ {python} -m tests.programs.script fedmsg.commands.hub:hub; }}
{commands}
"""

COMMANDS = ("check", "demo", "logger", "outbox", "pki", "sandbox", "tail")


def typed(line):
    """The commands of a pipeline that are gilmsg's: (name, words)."""
    for part in line.split(" | "):
        words = shlex.split(part)
        yield words[0], words[1:]


def pattern(shown_text):
    """A regular expression for what is shown as output."""
    pieces = []
    for line in shown_text.splitlines():
        found, at = [], 0
        for match in re.finditer("|".join(f"(?P<v{n}>{what})" for n, (what, _) in enumerate(VARYING)), line):
            found += [re.escape(line[at:match.start()]), VARYING[int(match.lastgroup[1:]) if match.lastgroup else 0][1]]
            at = match.end()
        pieces.append("".join(found) + re.escape(line[at:]))
    return "\n".join(pieces)


class Terminal(processes.Program):
    """A shell in which one block after the other is typed; a mark follows each command that has ended."""

    ENDED_BY = signal.SIGINT

    def __init__(self, home):
        python = shlex.quote(sys.executable)
        commands = "\n".join(f'gilmsg-{one}() {{ from_module gilmsg.commands.{one} "$@"; }}' for one in COMMANDS)
        commands = f'from_module() {{ {python} -m "$@"; }}\n{commands}'
        env = {
            "HOME": str(home), "PYTHONUNBUFFERED": "1", "COLUMNS": "80", "PIP_CONFIG_FILE": os.devnull,
            "PYTHONPATH": os.pathsep.join([f"{home}/site", processes.environment()["PYTHONPATH"]]),
        }  # fmt: skip
        env.update({name: "" for name in os.environ if name.startswith("PYTEST_XDIST")})
        self.home, self.read = str(home), 0
        super().__init__(["bash", "--norc"], home, env, stderr=subprocess.STDOUT)
        self.tell(FUNCTIONS.format(python=python, commands=commands))

    def said(self):
        """What it has written and nobody has read yet, the home folder called as on the page."""
        return self.out()[self.read:].replace(self.home, "/home/you")

    def expect(self, text, what):
        """Wait until *text* is written, lines of somebody else's in between left aside; go on behind it."""
        wanted = re.compile(text + r"\n" if text else "")

        try:
            processes.wait_for(lambda: wanted.search(self.said()), what, limit=120)
        except TimeoutError:
            raise AssertionError(f"{what} did not print\n{text}\nbut\n{self.said()}") from None
        match = wanted.search(self.said())
        shift = self.said()[: match.end()].replace("/home/you", self.home)
        self.read += len(shift)
        return match

    def play(self, block):
        """Type what the block shows as typed, and compare what comes."""
        runs_on = "until Ctrl-C" in block.caption
        steps = [step.partition("\n") for step in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]]
        for number, (command, _, output) in enumerate(steps):
            self.tell(command + "\n")
            if runs_on and number == len(steps) - 1:
                self.expect(pattern(output.strip("\n")), command)
                return
            self.tell("echo \"-- $?\"\n")
            match = self.expect(r"((?s:.)*?)-- \d+", command)
            came = match[1].rstrip("\n")
            assert re.fullmatch(pattern(output.rstrip("\n")), came), f"{command}\n{came}\ninstead of\n{output}"


class Story:
    """A page that is played: its files are written where its terminals are, its terminals run to the end."""

    def __init__(self, home, stack):
        self.home, self.terminals, self._stack = home, {}, stack

    def terminal(self, caption):
        number = re.search(r"erminal (\d)|$", caption)[1] or "1"
        if number not in self.terminals:
            self.terminals[number] = self._stack.enter_context(Terminal(self.home))
        return self.terminals[number]

    def play(self, block: Block):
        name = re.match(r"# ([\w.]+)\n", block.text)
        terminal = self.terminal(block.caption)
        if name:
            (self.home / "bus" / name[1]).write_text(block.text + "\n")
        elif block.language == "console":
            terminal.play(block)
        elif block.caption.startswith("Type"):
            line, _, answer = block.text.partition("\n")
            terminal.tell(line + "\n")
            terminal.expect(pattern(answer), line)
        else:
            for line in block.text.splitlines():  # others may come in between
                terminal.expect(pattern(line), block.caption)


@pytest.mark.slow
def test_the_tutorial(tmp_path, story=shown_all("tutorial")):
    """Whoever types what it shows, and nothing else, sees what it shows: sandbox, publish, consumer, hub and test."""
    with contextlib.ExitStack() as stack:
        played = Story(tmp_path, stack)
        for block in story:
            played.play(block)


@pytest.mark.slow
def test_the_demo(tmp_path, transcript=shown("guides/terminal", "$ gilmsg-demo")):
    """gilmsg-demo prints what the page shows; open is who is first to acknowledge, and whether its end is seen before the send."""
    transcript = re.sub(r"backend0\d( +ACK)", r"...\1", transcript)
    transcript = transcript.replace("it was connected to us and has gone", "it ...has gone...")
    with Terminal(tmp_path) as terminal:
        terminal.play(Block("guides/terminal", "console", "", transcript))


def test_a_pattern_forgives_times_alone():
    """What is shown is compared word for word, but for ids, times and ports."""
    line = "2026-6f0c3fbb-cf26-46e4-a56e-ccfbdd0646e1 at 23:16:39 took 3.3 ms on tcp://127.0.0.1:3000, 5 of 7"
    assert re.fullmatch(pattern(line), line.replace("3.3", "12.5").replace("3000", "999").replace("6f0c", "aaaa"))
    assert not re.fullmatch(pattern(line), line.replace("5 of", "6 of"))
    assert re.fullmatch(pattern("a\n...\nd"), "a\nb\nc\nd")
