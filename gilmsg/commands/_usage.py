"""Bad usage, in one line: also of the commands that do without fedmsg's configuration."""

import argparse
from typing import NoReturn


class Unusable(Exception):
    """Bad usage, input or configuration, in one line."""


class Parser(argparse.ArgumentParser):
    """A parser that raises on bad usage, instead of printing its whole usage."""

    def error(self, message: str) -> NoReturn:
        """Raise Unusable with *message*, and where to read on."""
        raise Unusable("%s (see %s --help)" % (message, self.prog))
