"""Programs that tests run: started, written to, read, waited for with deadlines, and ended for certain."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import psutil

from .inside import can_connect, say, wait_for

__all__ = ["say"]

REPOSITORY = pathlib.Path(__file__).parent.parent

#: Seconds. A process that ends promptly takes far less; a loaded machine is forgiven.
PROMPT = 15.0

#: Seconds for whatever must come true in the end.
LIMIT = 60.0


def port_of(endpoint):
    return int(endpoint.rpartition(":")[2])


def script(function):
    """A command that runs a console script's function (``module:name``) in this Python."""
    return [sys.executable, "-m", "tests.programs.script", function]


class Whole:
    """A context manager that is entered whole or not at all: what `_start` had begun when it failed is ended."""

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self


class Program(Whole):
    """*words* run as a process, the first of a session of its own; ended with the ``with`` block at the latest.

    It writes to files, not to pipes: it never waits for us, and nothing of what it wrote is missed or late.

    Args:
        words: the command.
        cwd: its working directory.
        env: added to our environment.
        prefix: put before the command, to run it elsewhere; it must become the command, as ``exec`` does.
        log: where both streams go, to a file that stays; without it they are kept apart, and go with us.
        streams: ``stdin``, ``stdout`` and ``stderr`` that are other than ours, as for Popen.
    """

    #: The signal that asks it to end with the ``with`` block; none does it the favour by default.
    ENDED_BY = signal.SIGKILL

    def __init__(self, words, cwd=".", env=None, prefix=(), log=None, **streams):
        self._written = {}
        self._files = {
            "stdout": open(str(log), "w+b") if log else tempfile.TemporaryFile(),  # noqa: SIM115  # closed by __exit__
            "stderr": tempfile.TemporaryFile(),  # noqa: SIM115
        }
        ours = dict(self._files, stdin=subprocess.PIPE)
        if log:
            ours["stderr"] = subprocess.STDOUT
        streams = dict(ours, **streams)
        self.process = subprocess.Popen(
            [*prefix, *words], cwd=str(cwd), env=environment(env), start_new_session=True, **streams
        )

    def __exit__(self, *_):
        if self.ENDED_BY != signal.SIGKILL:
            self.send(self.ENDED_BY)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PROMPT)
        self.kill()
        self.close_stdin()
        if not self._written:
            self._written = {name: self._text(name) for name in self._files}
        for stream in self._files.values():
            stream.close()

    def _start(self):
        self.wait_until_ready()

    def wait_until_ready(self):
        """Return when it is up, as far as that can be told."""

    def out(self):
        return self._text("stdout")

    def err(self):
        return self._text("stderr")

    @property
    def lines(self):
        """What it has written on stdout so far, in lines; without one that has no end yet."""
        return self.out().rpartition("\n")[0].splitlines()

    def _text(self, name):
        if self._written:
            return self._written[name]
        # It writes where the file's offset is, which is its own and ours: so that must not move.
        descriptor = self._files[name].fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "replace")

    def wait_for(self, *texts, limit=LIMIT, after=0):
        """Return once its stdout, the first *after* characters left out, holds all of *texts*; fail if it ends before."""

        def written():
            over = not self.alive
            found = all(text in self.out()[after:] for text in texts)
            assert found or not over, f"it ended without {texts}: {self}"
            return found

        wait_for(written, f"{texts}: {self}", limit)

    def wait_for_port(self, endpoint):
        """Return once something accepts connections at *endpoint*."""
        wait_for(lambda: can_connect(endpoint), f"it listens at {endpoint}: {self}")

    def __str__(self):
        return f"{self.out()[-4000:]} {self.err()[-4000:]}"

    @property
    def alive(self):
        return self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def tell(self, text):
        """Write *text* to its stdin; one that has ended hears nothing."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(text.encode())
            self.process.stdin.flush()

    def close_stdin(self):
        """Let it see the end of its stdin. Idempotent."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def send(self, number):
        self.process.send_signal(number)

    def end(self, limit=PROMPT):
        """Return its exit status; fail if it takes more than *limit* seconds from now to end."""
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self}") from None

    def family(self):
        """The processes that it has started, and theirs, in whatever session they are."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def kill(self):
        """End it at once, and all that it has started, whatever state they are in. Idempotent."""
        for one in self.family() if self.alive else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


def environment(extra=None):
    """An environment in which a child imports the gilmsg, and the tests, that run here."""
    paths = [str(REPOSITORY)] + [path for path in [os.environ.get("PYTHONPATH")] if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(extra or {})}


def run(words, cwd=".", text="", limit=60.0, **options):
    """Run *words* to the end, *text* on stdin; return a CompletedProcess, fail after *limit* seconds."""
    with Program(words, cwd, **options) as program:
        program.tell(text)
        program.close_stdin()
        status = program.end(limit)
        return subprocess.CompletedProcess(words, status, program.out(), program.err())


def python(code, cwd, *arguments, flags=(), **options):
    """Run *code* in a new Python with this gilmsg to its end, as `run` does."""
    return run([sys.executable, *flags, "-c", code, *arguments], cwd, **options)


def module(name, *arguments, flags=(), **options):
    """Run a module (``python -m``) to its end, as `run` does."""
    return run([sys.executable, *flags, "-m", name, *arguments], **options)


def program_words(name, *arguments, flags=()):
    """The command that runs tests/programs/*name*; what of *arguments* is no text is passed as JSON."""
    texts = [one if isinstance(one, str) else json.dumps(one) for one in arguments]
    return [sys.executable, *flags, "-m", "tests.programs." + name, *texts]


def program(name, *arguments, flags=(), **options):
    """Run tests/programs/*name* to its end, as `run` does."""
    return run(program_words(name, *arguments, flags=flags), **options)
