"""Tell whether a message to these recipients would be confirmed, without publishing one:
whether each recipient listens to us and can be reached, and whether our own configuration,
port, key, certificate, CA and CRL are in order. Everything that is wrong is told.

Run it as the user, on the host and with the --name of the service that publishes; --active
checks the way of gilmsg-logger, through the relay, and --consumer a service that only consumes.
Exit status: 0 if a publish is expected to succeed, 1 if not, 3 if nothing is known to be wrong
and not everything can be seen (as behind the relay), 2 for bad usage.

Examples::

    $ gilmsg-check --name bodhi.app01 --recipients backend01.example.com backend02.example.com
    $ gilmsg-check --name bodhi.app01 --topic org.example.prod.bodhi.update.request --json
    $ gilmsg-check --active --recipients backend01.example.com
    $ gilmsg-check --consumer --name backend01 --topic org.example.prod.bodhi
"""

from __future__ import annotations

import json
import logging
import sys

import gilmsg

from . import NOT_PROVEN, SUCCESS, UNKNOWN, option, parsed, print_config, script, tell

PROG = "gilmsg-check"

RECIPIENTS = "Common names that would have to confirm; CN,CN is a group, one of which will do."

#: The exit status for each state of a report.
STATUS = {"ok": SUCCESS, "warning": SUCCESS, "unknown": UNKNOWN, "fail": NOT_PROVEN}

#: Options of our own; those without a value leave the configuration as it is.
OPTIONS = [
    option("--recipients", metavar="CN", nargs="+", help=RECIPIENTS),
    option("--topic", help="The full topic. Without one: whether they listen to anything of ours."),
    option("--name", help="Publish under this name of endpoints."),
    option("--consumer", action="store_true", help="Check a consumer instead: as whom and from where it acknowledges."),
    option("--active", action="store_const", const=True, help="Through the relay, as gilmsg-logger does."),
    option("--cert-prefix", help="The certificate to sign with, as for gilmsg-logger (with --active: shell)."),
    option("--warn-days", type=float, metavar="DAYS", help="Warn of certificates that end so soon. Default: 14."),
    option("--json", action="store_true", help="Print the answer as JSON."),
]


@script(PROG)
def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    # What goes wrong is in the answer; logging would only say it twice, and on stderr.
    logging.getLogger().addHandler(logging.NullHandler())
    options, found = parsed(PROG, OPTIONS, __doc__ or "", arguments)
    given = {key: value for key, value in options.items() if value is not None}
    as_json = given.pop("json")
    if given.pop("print_config"):
        print_config({**found.config, **given})
    if given.get("active"):
        given = {"name": "relay_inbound", "cert_prefix": "shell", "mute": False, **given}
    report = gilmsg.check(given.pop("recipients", None), given.pop("topic", None), **given)
    tell(json.dumps(report.as_dict(), indent=2) if as_json else str(report))
    return STATUS[report.state]


if __name__ == "__main__":
    sys.exit(main())
