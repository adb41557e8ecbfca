"""``gilmsg-check``: would a publish succeed? Told without publishing anything."""

import json
import logging
import sys
from typing import Any, Dict, List, Optional, Tuple

import fedmsg.encoding  # type: ignore[import-untyped]

import gilmsg

from . import _common
from ._common import NOT_PROVEN, SUCCESS
from ._streams import tell

PROG = "gilmsg-check"

DESCRIPTION = """
Tell whether a message to these recipients would be confirmed, without publishing one:
whether each recipient listens to us and can be reached, and whether our own configuration,
port, key, certificate, CA and CRL are in order. Everything that is wrong is told.

Run it as the user, on the host and with the --name of the service that publishes; --active
checks the way of gilmsg-logger, through the relay. Exit status: 0 if a publish is expected to
succeed, 1 if not, 2 for bad usage.

Examples::

    $ gilmsg-check --name bodhi.app01 --recipients backend01.example.com backend02.example.com
    $ gilmsg-check --name bodhi.app01 --topic org.example.prod.bodhi.update.request --json
    $ gilmsg-check --active --recipients backend01.example.com
"""

#: Options of our own; those without a value leave the configuration as it is.
OPTIONS: List[Any] = [
    (
        ["--recipients"],
        {
            "dest": "recipients",
            "metavar": "CN",
            "nargs": "+",
            "help": "Common names that would have to confirm; CN,CN is a group, one of which will do.",
        },
    ),
    (
        ["--topic"],
        {
            "dest": "topic",
            "metavar": "TOPIC",
            "help": "The full topic. Without one: whether they listen to anything of ours.",
        },
    ),
    (
        ["--name"],
        {"dest": "name", "metavar": "NAME", "help": "Publish under this name of endpoints."},
    ),
    (
        ["--active"],
        {
            "dest": "active",
            "action": "store_const",
            "const": True,
            "help": "Through the relay, as gilmsg-logger does.",
        },
    ),
    (
        ["--cert-prefix"],
        {
            "dest": "cert_prefix",
            "metavar": "CERT_PREFIX",
            "help": "The certificate to sign with, as for gilmsg-logger (with --active: shell).",
        },
    ),
    (
        ["--json"],
        {"dest": "as_json", "action": "store_true", "help": "Print the answer as JSON."},
    ),
]


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command; return the exit status."""
    # What goes wrong is in the answer; logging would only say it twice, and on stderr.
    logging.getLogger().addHandler(logging.NullHandler())
    return _common.run(PROG, lambda: _run(arguments))


def _run(arguments: Optional[List[str]]) -> int:
    options = _options(arguments)
    as_json = options.pop("as_json")
    report = gilmsg.check(options.pop("recipients", None), options.pop("topic", None), **options)
    if as_json:
        tell(json.dumps(report.as_dict(), indent=2))
    else:
        tell("\n".join(table(report)))
    return SUCCESS if report else NOT_PROVEN


def _options(arguments: Optional[List[str]]) -> Dict[str, Any]:
    """Return what the command line asks for; the rest is the configuration's."""
    options, found = _common.parsed(PROG, OPTIONS, DESCRIPTION, arguments)
    given = {key: value for key, value in options.items() if value is not None}
    if given.pop("print_config"):
        print(fedmsg.encoding.pretty_dumps(dict(found.config, **given)))
        sys.exit(SUCCESS)
    if given.get("active"):
        given = dict({"name": "relay_inbound", "cert_prefix": "shell"}, mute=False, **given)
    return given


def table(report: gilmsg.Report) -> List[str]:
    """Return the answer for people, as lines."""
    own = [("ok" if line.ok else "FAIL", line.check, line.detail) for line in report.lines]
    theirs = [
        ("ok" if seen.ok else "FAIL" if name in report.missing else "-", name, _about(seen))
        for name, seen in report.recipients.items()
    ]
    lines = ["ourselves"] + _rows(own) + ["recipients"] + _rows(theirs or [("-", "none", "")])
    wrong = len(report.failures())
    if report:
        return lines + ["ok: a publish is expected to succeed"]
    return lines + ["not ok: %d of these lines failed" % wrong]


def _rows(rows: List[Tuple[str, str, str]]) -> List[str]:
    width = max(len(name) for _, name, _ in rows)
    return [
        ("  %-4s  %-*s  %s" % (mark, width, name, " ".join(detail.split()))).rstrip()
        for mark, name, detail in rows
    ]


def _about(seen: Any) -> str:
    return "%s%s" % (seen.detail, " (%s)" % ", ".join(seen.endpoints) if seen.endpoints else "")


if __name__ == "__main__":
    sys.exit(main())
