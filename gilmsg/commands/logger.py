"""``gilmsg-logger``: publish from the shell, through the relay, and know that it arrived."""

import argparse
import logging
import logging.config
import sys
import warnings
from typing import Any, Dict, Iterator, List, NoReturn, Optional

import fedmsg.config  # type: ignore[import-untyped]
import fedmsg.encoding  # type: ignore[import-untyped]
from fedmsg.commands.logger import LoggerCommand  # type: ignore[import-untyped]

import gilmsg

PROG = "gilmsg-logger"

SUCCESS, NOT_PROVEN, UNUSABLE = 0, 1, 2

DESCRIPTION = """
Publish messages through the fedmsg-relay, and wait until every recipient has confirmed.

The messages are the lines of standard input, or --message. Exit status: 0 if every
message was confirmed, 1 if one was not, 2 for bad usage, input or configuration.

Examples::

    $ echo testing | gilmsg-logger --recipients shell-value01.example.com --ack-timeout 3
    $ echo '{"a": 1}' | gilmsg-logger --json-input --recipients backend01,backend02
    $ gilmsg-logger --message "Hello." --modname git --topic repo.update --recipients backend01
"""

#: On top of all of fedmsg-logger's.
OPTIONS: List[Any] = [
    (
        ["--recipients"],
        {
            "dest": "recipients",
            "metavar": "CN",
            "nargs": "+",
            "help": "Common names that must confirm; CN,CN is a group, one of which will do.",
        },
    ),
    (
        ["--ack-timeout"],
        {
            "dest": "ack_timeout",
            "metavar": "SECONDS",
            "type": float,
            "help": "Seconds to wait for the confirmations of each message.",
        },
    ),
    (
        ["--verbose"],
        {"dest": "verbose", "action": "store_true", "help": "Print a line per message."},
    ),
]


class Unusable(Exception):
    """Bad usage, input or configuration, in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Unusable("%s (see %s --help)" % (message, PROG))


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command; return the exit status."""
    warnings.simplefilter("ignore")
    try:
        return _Logger(_configuration(arguments)).run()
    except (Unusable, ValueError, KeyError, OSError) as error:
        _complain(error)
        return UNUSABLE
    except KeyboardInterrupt:
        return 130


class _Logger:
    """One run: each input is published by itself, and one that fails does not stop the next."""

    def __init__(self, config: Dict[str, Any]) -> None:
        self._config = config
        self._options = {key: config.pop(key, None) for key in ("recipients", "ack_timeout")}
        # As fedmsg-logger: through the relay, under the certificate of --cert-prefix.
        config.update(active=True, name="relay_inbound", mute=False)
        self._warned = False

    def run(self) -> int:
        gilmsg.init(**self._config)
        statuses = {self._publish(body) for body in self._bodies()}
        return max(statuses, default=SUCCESS)

    def _publish(self, body: Any) -> int:
        try:
            receipt = gilmsg.publish(
                topic=self._config["topic"],
                msg=body,
                modname=self._config["modname"],
                **self._options,
            )
        except (gilmsg.Timeout, gilmsg.ListenerError) as failure:
            _complain(failure)
            return NOT_PROVEN
        if receipt is None:
            self._warn()
        elif self._config["verbose"]:
            acks = ", ".join("%s (%.1f ms)" % (cn, s * 1000) for cn, s in sorted(receipt.acks.items()))
            print("%s %s confirmed by %s" % (receipt.topic, receipt.msg_id, acks), flush=True)
        return SUCCESS

    def _warn(self) -> None:
        if not self._warned:
            _complain("no recipients: the messages are published, nobody confirms them")
        self._warned = True

    def _bodies(self) -> Iterator[Any]:
        """Yield what is to be published."""
        message = self._config.get("logger_message")
        if message:
            yield _decode(message) if self._config["json_input"] else {"log": message}
        elif self._config["json_input"]:
            yield from _json_bodies(sys.stdin.read())
        else:
            for line in sys.stdin:
                yield {"log": line.strip()}


def _json_bodies(text: str) -> Iterator[Any]:
    """Yield *text* as one JSON document, as fedmsg does; if it is none, each line as one."""
    try:
        bodies = [fedmsg.encoding.loads(text)]
    except ValueError:
        bodies = [_decode(line) for line in text.splitlines() if line.strip()]
    if not bodies:
        raise Unusable("--json-input: standard input is empty")
    yield from bodies


def _decode(text: str) -> Any:
    try:
        return fedmsg.encoding.loads(text)
    except ValueError as error:
        raise Unusable("--json-input: %r is not JSON: %s" % (text[:80], error)) from None


def _configuration(arguments: Optional[List[str]]) -> Dict[str, Any]:
    """Return fedmsg's configuration with the command line's options in it."""
    config = dict(fedmsg.config.load_config([], None))
    options = _parse(config, arguments)
    if options["config_filename"]:
        config = dict(
            fedmsg.config.load_config(
                [], None, filenames=[options["config_filename"]], invalidate_cache=True
            )
        )
        options = _parse(config, arguments)
    config.update(options)
    if config["print_config"]:
        print(fedmsg.encoding.pretty_dumps(config))
        sys.exit(SUCCESS)
    logging.config.dictConfig(config.get("logging") or {"version": 1})
    # What goes wrong is told in lines of our own; logging configured for us stays in force.
    logging.getLogger("gilmsg").addHandler(logging.NullHandler())
    return config


def _parse(config: Dict[str, Any], arguments: Optional[List[str]]) -> Dict[str, Any]:
    declared = [(list(names), dict(options)) for names, options in LoggerCommand.extra_args]
    parser = _with_our_errors(
        fedmsg.config.build_parser(declared + OPTIONS, DESCRIPTION, config, prog=PROG)
    )
    return dict(vars(parser.parse_args(arguments)))


def _with_our_errors(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Make fedmsg's parser raise on bad usage, instead of printing its whole usage."""
    parser.__class__ = _Parser
    return parser


def _complain(what: object) -> None:
    """Print one line on stderr."""
    line = " ".join(str(what).split()) or repr(what)
    print("%s: %s" % (PROG, line), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
