"""Processes that talk in JSON lines: each line on stdout is an event; each on stdin, an order."""

import json
import os
import sys

from ..processes import LIMIT, PROMPT, Program, wait_for


class Talker(Program):
    """A module, run as a process that ends with its stdin; its *first* line there is what it starts with."""

    def __init__(self, module, first, cwd=".", prefix=()):
        super().__init__([sys.executable, "-m", module], cwd, prefix=prefix)
        self.order(first)

    def order(self, what):
        """Send it one line; one that has ended hears nothing."""
        self.tell(json.dumps(what) + "\n")

    def events(self):
        """All it has said so far."""
        return [json.loads(line) for line in self.lines]

    def said(self, kind, after=0):
        """Its first event of *kind*, the first *after* events left out, or None."""
        return next((event for event in self.events()[after:] if event["event"] == kind), None)

    def hear(self, kind, after=0, limit=LIMIT):
        """Wait for that; return it."""
        def heard():
            over = not self.alive
            event = self.said(kind, after)
            assert event or not over, f"it ended before it said {kind!r}: {self}"
            return event

        return wait_for(heard, f"it says {kind!r}: {self}", limit)

    def stop(self):
        """Let it end by itself; end it for certain."""
        self.close_stdin()
        try:
            self.end(PROMPT)
        finally:
            self.__exit__()

    # `kill` and the end of a ``with`` block end it at once.


def say(event, **fields):
    """Report an event, in one step: no other thread's is mixed into it."""
    os.write(1, (json.dumps(dict(fields, event=event)) + "\n").encode("ascii"))
