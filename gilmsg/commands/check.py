"""Tell whether a message to these recipients would be confirmed, without publishing one:
whether each recipient listens to us and can be reached, and whether our own configuration,
port, key, certificate, CA and CRL are in order. Everything that is wrong is told.

Run it as the user, on the host and with the --name of the service that publishes; --active
checks the way of gilmsg-logger, through the relay, and --consumer a service that only consumes.
Exit status: 0 if a publish is expected to succeed, 1 if not, 3 if nothing is known to be wrong
and not everything can be seen (as behind the relay), 2 for bad usage.

With --watch it goes on until Ctrl-C or SIGTERM (exit status 0) and prints a line for each
change. With --nagios it prints one line, for monitoring: exit status 0 is OK, 1 WARNING,
2 CRITICAL, 3 UNKNOWN (bad usage, too).

Examples::

    $ gilmsg-check --name bodhi.app01 --recipients backend01.example.com backend02.example.com
    $ gilmsg-check --name bodhi.app01 --topic org.example.prod.bodhi.update.request --json
    $ gilmsg-check --active --recipients backend01.example.com
    $ gilmsg-check --consumer --name backend01 --topic org.example.prod.bodhi
    $ gilmsg-check --name bodhi.app01 --recipients backend01.example.com --watch 10
    $ gilmsg-check --name bodhi.app01 --topic org.example.prod.bodhi.update.request --nagios
"""

from __future__ import annotations  # noqa: I001  those of the face are sorted, but packed

import contextlib
import json
import logging
import sys
import threading
import time
from typing import Any

import gilmsg

from .. import _check
from . import (
    NOT_PROVEN, SUCCESS, UNKNOWN, completed, number, option, parsed, print_config, printable_line, running, script, tell,
)  # fmt: skip

PROG = "gilmsg-check"

RECIPIENTS = "Common names that would have to confirm; CN,CN is a group, one of which will do."

#: The exit status for each state of a report.
STATUS = {"ok": SUCCESS, "warning": SUCCESS, "unknown": UNKNOWN, "fail": NOT_PROVEN}

#: The same of a Nagios plugin, and the word for it.
NAGIOS = {"ok": (0, "OK"), "warning": (1, "WARNING"), "fail": (2, "CRITICAL"), "unknown": (3, "UNKNOWN")}


_SECONDS = number("positive number of seconds", lambda seconds: 0 < seconds <= threading.TIMEOUT_MAX)

#: Options of our own; those without a value leave the configuration as it is.
OPTIONS = [
    option("--recipients", metavar="CN", nargs="+", help=RECIPIENTS),
    option("--topic", help="The full topic. Without one: whether they listen to anything of ours."),
    option("--name", help="Publish under this name of endpoints."),
    option("--consumer", action="store_true", help="Check a consumer instead: as whom and from where it acknowledges."),
    option("--active", action="store_const", const=True, help="Through the relay, as gilmsg-logger does."),
    option("--cert-prefix", help="The certificate to sign with, as for gilmsg-logger (with --active: shell)."),
    option("--warn-days", type=float, metavar="DAYS", help="Warn of certificates that end so soon. Default: 14."),
    option("--json", action="store_true", help="Print the answer as JSON; with --watch an object for each change."),
    option("--watch", type=_SECONDS, metavar="SECONDS", help="Check again every so many seconds, and print what changes."),
    option("--nagios", action="store_true", help="Print one line, and end with the exit status of a Nagios plugin."),
]


@script(PROG)
def main(arguments: list[str] | None = None) -> int:
    # What goes wrong is in the answer; logging would only say it twice, and on stderr.
    logging.getLogger().addHandler(logging.NullHandler())
    words = sys.argv[1:] if arguments is None else arguments
    if any(word.startswith("--nag") and "--nagios".startswith(word) for word in words):  # argparse takes it abbreviated
        return _for_nagios(arguments)
    given, as_json, seconds = _given(arguments)
    if seconds is not None:
        return _watch(given, as_json, seconds)
    report = gilmsg.check(**given)
    tell(json.dumps(report.as_dict(), indent=2) if as_json else str(report))
    return STATUS[report.state]


def _given(arguments: list[str] | None) -> tuple[dict[str, Any], bool, float | None]:
    """Return what to check, whether the answer is to be JSON, and after how many seconds to check again."""
    options, found = completed(parsed(PROG, OPTIONS, __doc__, arguments))
    given = {key: value for key, value in options.items() if value is not None}
    as_json, seconds, nagios = given.pop("json"), given.pop("watch", None), given.pop("nagios")
    if nagios and (as_json or seconds is not None):
        raise gilmsg.ConfigurationError("--nagios prints one line, once: it goes with neither --json nor --watch")
    if given.pop("print_config"):
        print_config({**found.config, **given})
    if given.get("active"):
        given = {"name": "relay_inbound", "cert_prefix": "shell", "mute": False, **given}
    return given, as_json, seconds


def _watch(given: dict[str, Any], as_json: bool, seconds: float) -> int:
    """Print what changes until a signal comes, or nobody reads it any more."""
    with running() as signals, contextlib.closing(_check.watch(**given)) as watch, signals.raised():
        while True:
            for change in watch.look():
                now = time.strftime("%Y-%m-%d %H:%M:%S")
                line = f"{now} {change.name} {change.what}: {change.detail}"
                print(json.dumps({"time": now, **change._asdict()}) if as_json else printable_line(line), flush=True)
            time.sleep(seconds)
    return SUCCESS


def _for_nagios(arguments: list[str] | None) -> int:
    """Print the one line of a plugin; whatever keeps us from checking is UNKNOWN."""
    try:
        given, _, _ = _given(arguments)
        report = gilmsg.check(**given)
    except Exception as error:  # noqa: BLE001  a traceback, or another exit status, would say something else
        status, word, told = *NAGIOS["unknown"], [str(error) or repr(error)]
    else:
        status, word = NAGIOS[report.state]
        told = report.failures() or report.unknowns() or report.warnings()
        told = told or [f"recipients that can be reached: {len(report.recipients)}" if report.recipients else "all is in order"]
    # What follows a bar would be performance data.
    tell(printable_line(f"GILMSG {word}: {' '.join('; '.join(told).split())}").replace("|", "/"))
    return status


if __name__ == "__main__":
    sys.exit(main())
