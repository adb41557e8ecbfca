"""Colours, where a person sees them: on a terminal, unless ``NO_COLOR`` is set."""

from __future__ import annotations

import os
from typing import TextIO

#: Parameters of the escape sequence that begins each (SGR); the one that ends all of them is 0.
_STYLES = {"faint": "2", "name": "36", "good": "32", "bad": "31", "strong": "1"}


def wanted() -> bool:
    """Return whether the user has nothing against colours (see no-color.org)."""
    return not os.environ.get("NO_COLOR")


class Paint:
    """Paints texts for *stream*; without one, and where colours are not seen or not wanted, leaves them as they are."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._on = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb" and wanted()

    def __call__(self, style: str, text: str) -> str:
        """Return *text* in *style*; there must be no escape sequence in it."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._on and text else text
