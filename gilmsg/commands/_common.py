"""What the commands share: fedmsg's configuration and options, and how they fail: in one line."""

import copy
import logging
import logging.config
import sys
import warnings
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import fedmsg.config  # type: ignore[import-untyped]
import fedmsg.encoding  # type: ignore[import-untyped]

from .. import _config_files
from ..errors import GilmsgError
from . import _streams
from ._streams import complain
from ._usage import Parser, Unusable

SUCCESS, NOT_PROVEN, UNUSABLE = 0, 1, 2

#: What a shell makes of Ctrl-C.
INTERRUPTED = 130

log = logging.getLogger(__name__)

#: As fedmsg's commands declare them in ``extra_args``: (names, keywords of ``add_argument``).
Options = Sequence[Tuple[Sequence[str], Dict[str, Any]]]


def run(prog: str, command: Callable[[], int]) -> int:
    """Return the exit status of *command*; whatever goes wrong becomes one line and a status."""
    _streams.open_closed()
    warnings.simplefilter("ignore")
    try:
        return command()
    except (Unusable, ValueError, OSError) as error:  # ConfigurationError is a ValueError
        complain(prog, error)
        return UNUSABLE
    except GilmsgError as error:
        complain(prog, error)
        return NOT_PROVEN
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        # A defect of ours, of a plugin or a configuration: people are told, who wants more logs DEBUG.
        log.debug("%s failed", prog, exc_info=True)
        complain(prog, "unexpected failure: %r (a traceback is logged at level DEBUG)" % (error,))
        return UNUSABLE
    finally:
        _streams.flush()


def parser(prog: str, options: Options, description: str, config: Dict[str, Any]) -> Parser:
    """Return fedmsg's parser with *options* on top; what *config* holds is the default."""
    # A copy: fedmsg writes those defaults into what it is given.
    declared = copy.deepcopy(list(options))
    built: Parser = fedmsg.config.build_parser(declared, description, config, prog=prog)
    built.__class__ = Parser
    return built


def parsed(
    prog: str, options: Options, description: str, arguments: Optional[List[str]]
) -> Tuple[Dict[str, Any], _config_files.Loaded]:
    """Return what the command line says, and the configuration (``--config-filename``) that gives its defaults.

    Raises:
        Unusable: bad usage.
        ConfigurationError: ``--config-filename`` is no file.
    """
    found = _config_files.load({})
    given = vars(parser(prog, options, description, found.config).parse_args(arguments))
    if given["config_filename"]:
        found = _config_files.load({"config_filename": given["config_filename"]})
        given = vars(parser(prog, options, description, found.config).parse_args(arguments))
    return given, found


def configuration(
    prog: str, options: Options, description: str, arguments: Optional[List[str]]
) -> Dict[str, Any]:
    """Return fedmsg's configuration with the command line's options in it.

    Raises:
        Unusable: bad usage, or a configuration that cannot be loaded.
        ConfigurationError: ``--config-filename`` is no file.
        SystemExit: ``--help`` or ``--print-config`` was given; they work without configuration.
    """
    given, found = parsed(prog, options, description, arguments)
    if found.problems:
        raise Unusable("the fedmsg configuration cannot be loaded: %s" % "; ".join(found.problems))
    _config_files.keep(dict(found.config))  # what it says is all there is, for gilmsg.init too
    config = found.config
    config.update(given)
    if config["print_config"]:
        print(fedmsg.encoding.pretty_dumps(config))
        sys.exit(SUCCESS)
    _log_as_configured(config.get("logging"))
    return config


def _log_as_configured(wanted: Any) -> None:
    """Follow the key ``logging`` of fedmsg.d.

    Loggers that exist already are ours: what goes wrong must not fall silent.
    """
    given = copy.deepcopy(wanted) or {"version": 1}  # dictConfig takes apart what it gets
    try:
        logging.config.dictConfig(dict({"disable_existing_loggers": False}, **given))
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise Unusable("logging: %r cannot be used: %s" % (wanted, error)) from None


def log_to_stderr(prog: str) -> None:
    """Have gilmsg's warnings told on stderr, unless the configuration says where they go."""
    ours = logging.getLogger("gilmsg")
    if not ours.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(prog + ": %(message)s"))
        handler.setLevel(logging.WARNING)
        ours.addHandler(handler)
