"""Who called us: the top-level module of the first frame that is neither fedmsg's nor ours."""

import sys

_OWN = frozenset(["fedmsg", "gilmsg"])


def calling_module(default: str = "fedmsg") -> str:
    """Return what fedmsg would guess, had the caller called fedmsg.

    ``fedmsg.utils.guess_calling_module`` knows only its own frames, so through a wrapper it
    finds the wrapper; it also reads the source lines of the whole stack.
    """
    frame = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if name not in _OWN:
            return name
        frame = frame.f_back  # type: ignore[assignment]
    return default
