"""A fedmsg-relay as a child: started, asked whether it listens, stopped."""

import subprocess
import tempfile

from . import _process

#: Bytes of its last words that are told.
_SHOWN = 600


class Relay:
    """A running ``fedmsg-relay``; it ends when we do, in whatever way.

    Args:
        cwd: its working directory: it is configured by the ``fedmsg.d`` there.
    """

    def __init__(self, cwd: str) -> None:
        # A file: nobody reads while it runs, and a pipe would be full one day.
        self._errors = tempfile.TemporaryFile()
        try:
            command = _process.script("fedmsg.commands.relay:relay", tied=True)
            self._process = _process.start(command, cwd, stdin=subprocess.PIPE, stderr=self._errors)
        except BaseException:
            self._errors.close()
            raise

    def listens(self, endpoint: str) -> bool:
        """Whether it accepts connections at *endpoint*.

        Raises:
            TimeoutError: it has ended; with its exit status and its last words.
        """
        status = self._process.poll()
        if status is not None:
            raise TimeoutError("fedmsg-relay ended with exit status %d: %s" % (status, self._last_words()))
        return _process.can_connect(endpoint)

    def stop(self, limit: float = _process.STOP_LIMIT) -> None:
        """Close its stdin, which ends it; after *limit* seconds, kill it. Idempotent."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        _process.stop(self._process, limit)
        self._errors.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        words = self._errors.read()[-_SHOWN:].decode("utf-8", "replace").strip()
        return words or "it said nothing"
