"""The console scripts, one module each, and what all of them share: options, configuration, streams, signals.

A module is a thin program: argparse, what it asks of gilmsg, and printing.
"""

from __future__ import annotations  # noqa: I001  those of the face are sorted, but packed

import contextlib
import copy
import functools
import logging
import logging.config
import os
import random
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Callable, TextIO

import gilmsg

from .. import _settings
from ..errors import ConfigurationError, GilmsgError
from .parsing import (
    Format, Parser, add_options, command_parser, completed, number, option, parsed, print_config,
)  # fmt: skip

if TYPE_CHECKING:
    from ..outbox import Outbox

__all__ = [
    "Format", "Parser", "add_options", "command_parser", "completed", "number", "option", "parsed", "print_config",
]  # fmt: skip

SUCCESS, NOT_PROVEN, UNUSABLE, UNKNOWN, INTERRUPTED = 0, 1, 2, 3, 130

#: Control characters but for tab and line feed, and those that turn the direction of a text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BREAK = re.compile("[\t\n\u2028\u2029]")

#: Parameters of the escape sequence that begins each style (SGR); the one that ends all of them is 0.
_STYLES = {"faint": "2", "name": "36", "good": "32", "bad": "31", "strong": "1"}

#: The environment variable that says where the outbox is; ``ps`` shows it to its own user only.
OUTBOX_VARIABLE = _settings.VARIABLES[_settings.DATABASE]

log = logging.getLogger(__name__)


class Failed(Exception):
    """The reason why what was asked could not be done, in one line."""


def script(prog: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a console script of a function of the arguments: whatever goes wrong becomes one line and a status."""

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def main(arguments: list[str] | None = None) -> int:
            _open_closed()
            warnings.simplefilter("ignore")
            try:
                return command(arguments)
            except (GilmsgError, Failed) as error:  # before OSError, which a Timeout may be as well
                complain(prog, error)
                return UNUSABLE if isinstance(error, ConfigurationError) else NOT_PROVEN
            except (ValueError, OSError) as error:
                complain(prog, error)
            except KeyboardInterrupt:
                return INTERRUPTED
            except Exception as error:  # a defect of ours, or of a plugin: people get one line
                log.debug("%s failed", prog, exc_info=True)
                complain(prog, f"unexpected failure: {error!r} (a traceback is logged at level DEBUG)")
            finally:
                _flush()
            return UNUSABLE

        return main

    return decorate


def configuration(typed: dict[str, Any]) -> dict[str, Any]:
    """Return fedmsg's configuration with what is *typed* in it, its key ``logging`` in force."""
    given, found = completed(typed)
    if found.problems:
        raise ConfigurationError(f"the fedmsg configuration cannot be loaded: {'; '.join(found.problems)}")
    _settings.keep(dict(found.config))  # what it says is all there is, for gilmsg.init too
    config = {**found.config, **given}
    if config["print_config"]:
        print_config(config)
    wanted = copy.deepcopy(config.get("logging")) or {"version": 1}  # dictConfig takes apart what it gets
    try:
        # The loggers that exist already are ours.
        logging.config.dictConfig({"disable_existing_loggers": False, **wanted})
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise ConfigurationError(f"logging: {config['logging']!r} cannot be used: {error}") from None
    return config


def outbox_place(given: str | None, config: Mapping[str, Any] | None = None) -> str:
    """Return where the outbox is: what is *given*, or the environment says, or the configuration.

    Without a *config* its files are read, and only if they are needed.
    """
    found: str | None = given if given is not None else os.environ.get(OUTBOX_VARIABLE) or None
    passed_over: tuple[str, ...] = ()
    if found is None:
        if config is None:
            said = _settings.read_files(_settings.found_in())
            if said.problems:
                raise ConfigurationError(f"the fedmsg configuration cannot be loaded: {'; '.join(said.problems)}")
            config, passed_over = said.config, tuple(said.passed_over)
        found = _settings.read(_settings.DATABASE, config)
    if found is None:
        unknown = f"it is not known where the outbox is; name it on the command line, in {OUTBOX_VARIABLE}, or by the key"
        raise ConfigurationError("; ".join([f"{unknown} {_settings.DATABASE} in fedmsg.d", *passed_over]))
    return found


@contextlib.contextmanager
def opened_outbox(where: str, create: bool) -> Iterator[Outbox]:
    """Give the outbox at *where*, made if it is not there and this is to *create* it; what its database refuses is Failed."""
    try:
        from sqlalchemy.exc import SQLAlchemyError

        from ..outbox import Outbox
    except ImportError:
        raise ConfigurationError("an outbox needs SQLAlchemy: pip install 'gilmsg[outbox]'") from None
    try:
        with contextlib.closing(Outbox(where, create)) as box:
            yield box
    except SQLAlchemyError as error:
        # The first line of what the driver says: further ones may quote a row.
        told = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise Failed(f"the database of the outbox cannot be used: {told}") from error


#: Of the commands that run for long.
METRICS_PORT = option(
    "--metrics-port", metavar="[ADDRESS:]PORT", help="Serve metrics for Prometheus there; on loopback without an ADDRESS."
)  # fmt: skip


def serve_metrics(where: str | None) -> None:
    """Serve metrics at *where*, if that is given."""
    if where is not None:
        try:
            from ..metrics import serve
        except ImportError:
            raise ConfigurationError("--metrics-port needs prometheus_client: pip install 'gilmsg[metrics]'") from None
        _settings.listening(where, "--metrics-port")  # names the option in its error
        serve(where)


def log_to_stderr(prog: str, level: int) -> None:
    """Have gilmsg's log lines from *level* on told on stderr, unless the configuration says where they go."""
    logger = logging.getLogger("gilmsg")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(prog + ": %(message)s"))
        handler.setLevel(level)
        logger.addHandler(handler)
        logger.setLevel(min(level, logger.getEffectiveLevel()))


def _open_closed() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed: our own sockets would take their place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  open to the end


def printable(text: str) -> str:
    """Return *text* without what a terminal might obey, line breaks and tabs excepted: anybody may write on the bus."""
    return _CONTROL.sub("?", text)


def printable_line(text: str) -> str:
    """Return *text* as one line without what a terminal might obey."""
    return printable(_BREAK.sub("?", text))


def complain(prog: str, what: object) -> None:
    """Print one line on stderr, under the name of the command; no matter if nobody reads it."""
    with contextlib.suppress(OSError):
        tell(f"{prog}: {' '.join(str(what).split()) or repr(what)}", sys.stderr)


def tell(text: str, stream: TextIO | None = None) -> None:
    """Print *text* on stdout, or *stream*, at once and whole; no matter if it is a pipe that nobody reads any more."""
    stream = stream or sys.stdout
    with contextlib.suppress(BrokenPipeError):
        stream.write(text + "\n")
        stream.flush()


def _flush() -> None:
    """Write what stdout and stderr still hold, or send it to nowhere: the interpreter would fail at it as it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


class Ended(KeyboardInterrupt):
    """A signal asks us to end: its number is the argument."""


class Signals:
    """The first signal of *numbers*: raised as Ended within ``raised``, elsewhere only noted. For the main thread."""

    def __init__(self, *numbers: int) -> None:
        self._first, self._raises = 0, False
        for one in numbers:
            signal.signal(one, self._take)
        sys.unraisablehook = functools.partial(self._swallowed, sys.unraisablehook)

    def _take(self, number: int, _: object) -> None:
        self._first = self._first or number
        if self._raises:
            self._hold()  # what cleans up now is not interrupted by the next one
            raise Ended(self._first)

    def _hold(self) -> None:
        self._raises = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _swallowed(self, otherwise: Callable[[Any], object], what: Any) -> None:  # typeshed's type is no class at run time
        """Python swallows what is raised within a destructor (cryptography has many): then SIGALRM follows until it is heard."""
        if isinstance(what.exc_value, Ended):
            signal.signal(signal.SIGALRM, self._take)
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.005, 0.015), 0.01)  # out of step with destructors
            # A destructor that raised Ended runs within ``raised``. This comes last: what is raised before is swallowed, too.
            self._raises = True
        else:
            otherwise(what)

    def check(self) -> None:
        """Raise Ended if a signal was noted."""
        if self._first:
            raise Ended(self._first)

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Have signals raised at once in this block, and now what was noted before."""
        self._raises = True
        try:
            self.check()
            yield
        finally:
            self._hold()


@contextlib.contextmanager
def running() -> Iterator[Signals]:
    """Give the signals by which a command ends that runs for long; so it does when nobody reads its output any more."""
    try:
        yield Signals(signal.SIGTERM, signal.SIGINT)
    except (Ended, BrokenPipeError):
        pass
    finally:
        gilmsg.destroy()


class Paint:
    """Paints texts for *stream*; without one, and where colours are not seen or not wanted, leaves them as they are."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._on = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb" and colours_wanted()

    def __call__(self, style: str, text: str) -> str:
        """Return *text* in *style*; there must be no escape sequence in it."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._on and text else text


PLAIN = Paint()


def colours_wanted() -> bool:
    """Return whether the user has nothing against colours (see no-color.org)."""
    return not os.environ.get("NO_COLOR")
