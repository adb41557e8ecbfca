"""Make and look after the keys of a bus: a CA, its CRL (what it has revoked), and the keys and
certificates that fedmsg and gilmsg sign with, in files of the names that these look for.

FOLDER is the CA's, and stays on one machine, with mode 0700: whoever can read ca.key in it can
speak for anybody on the bus. What belongs on the hosts is copied from there; each command says
what, and where to. A NAME is a certificate's common name, by which recipients are named, and
the name of its files: SERVICE-HOST.DOMAIN by fedmsg's custom, or any other. Nothing is
overwritten but by renew; two at once on one folder wait for each other.

Exit status: 0 if it is done; 1 if what is named is there already, is not there, or is revoked,
or a certificate would outlive the CA, or FOLDER of init is not empty, and then nothing has
changed; 2 for bad usage, or a FOLDER that cannot be used; 130 after Ctrl-C.

Examples::

    $ gilmsg-pki init ~/bus-ca
    $ gilmsg-pki issue ~/bus-ca bodhi-app01.example.com backend01.example.com
    $ gilmsg-pki list ~/bus-ca
    $ gilmsg-pki renew ~/bus-ca backend01.example.com
    $ gilmsg-pki renew ~/bus-ca --crl
    $ gilmsg-pki revoke ~/bus-ca backend01.example.com
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any, Callable

from cryptography import x509

from .. import _pki
from ..errors import ConfigurationError
from . import SUCCESS, Format, Parser, command_parser, complain, printable_line, script, tell

PROG = "gilmsg-pki"

#: Of what is made without --days: the CA, a certificate, the CRL.
_CA_DAYS, _DAYS, _CRL_DAYS = 3650.0, 365.0, 30.0

#: A century.
_MOST_DAYS = 36525

BITS = (2048, 3072, 4096)

#: Where fedmsg looks without ssldir, and a custom.
_SSLDIR = "/etc/pki/fedmsg"

_opened = functools.partial(_pki.opened, complain=functools.partial(complain, PROG))


@script(PROG)
def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if not given.directory:
        raise ConfigurationError("argument FOLDER: it is empty")
    given.names = list(dict.fromkeys(getattr(given, "names", ())))
    for line in given.action(given):
        tell(line)
    return SUCCESS


class _Intermixed(Parser):
    """A subcommand whose NAMEs may follow an option: argparse by itself would take FOLDER for all that is named."""

    _within = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, but for that."""
        if self._within:
            return super().parse_known_args(args, namespace)
        self._within = True  # what follows asks this method twice
        return self.parse_known_intermixed_args(args, namespace)


def _parser() -> Parser:
    parser = command_parser(PROG, __doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Intermixed)

    def add(name: str, action: Callable[[argparse.Namespace], Iterable[str]], told: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, description=told, help=told, formatter_class=Format, allow_abbrev=False)
        one.add_argument("directory", metavar="FOLDER", help="The folder of the CA.")
        one.set_defaults(action=action)
        return one

    def add_names(one: argparse.ArgumentParser, count: str) -> None:
        told = "The common name of the certificate, and the name of its files."
        one.add_argument("names", metavar="NAME", nargs=count, help=told)

    def add_days(one: argparse.ArgumentParser, what: str, default: str) -> None:
        one.add_argument("--days", type=_days, metavar="DAYS", help=f"How long {what} is valid, in days. Default: {default}.")

    def add_bits(one: argparse.ArgumentParser, default: int | None, told: str) -> None:
        one.add_argument("--bits", type=int, choices=BITS, metavar="BITS", default=default, help=told)

    init = add("init", _init, "Make a CA and an empty CRL, in a FOLDER that is empty or not there.")
    add_days(init, "the CA's certificate", f"{_CA_DAYS:g}")
    told = f"How long each CRL is valid, in days; renew it before. Default: {_CRL_DAYS:g}."
    init.add_argument("--crl-days", type=_days, default=_CRL_DAYS, metavar="DAYS", help=told)
    add_bits(init, 4096, "Size of the CA's RSA key: 2048, 3072 or 4096. Default: 4096.")
    init.add_argument("--name", default="gilmsg CA", help='The CA\'s common name. Default: "gilmsg CA".')
    issue = add("issue", _issue, "Make a key and a certificate for each NAME.")
    add_names(issue, "+")
    add_days(issue, "each certificate", f"{_DAYS:g}")
    told = "Size of each RSA key: 2048, 3072 or 4096. Default: 2048; with 4096 each signature takes ten times as long."
    add_bits(issue, 2048, told)
    told = "Make new certificates before the old ones end: of each NAME, for the key that it has; or the CRL, or the CA's."
    renew = add("renew", _renew, told)
    add_names(renew, "*")
    renew.add_argument("--crl", action="store_true", help=f"Renew the CRL. It is valid for {_CRL_DAYS:g} days by default: let a timer do this.")
    renew.add_argument("--ca", action="store_true", help="Renew the CA's certificate. What it has issued stays valid.")
    renew.add_argument("--new-key", action="store_true", help="Make a new key for each NAME, too.")
    add_days(renew, "what is renewed", f"{_DAYS:g}; of the CA {_CA_DAYS:g}; of the CRL as before")
    add_bits(renew, None, "Size of each new RSA key: 2048, 3072 or 4096. Default: 2048.")
    told = "Put all certificates of each NAME on the CRL, and remove its files from FOLDER. It can be issued anew then."
    add_names(add("revoke", _revoke, told), "+")
    add("list", _list, "Show what was issued, and when it ends.")
    return parser


def _days(text: str) -> float:
    with contextlib.suppress(ValueError):
        days = float(text)
        if 0 < days <= _MOST_DAYS:  # not nan
            return days
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of days, more than 0 and at most {_MOST_DAYS}")


def _init(given: argparse.Namespace) -> Iterator[str]:
    if not (given.name.isprintable() and 1 <= len(given.name.encode()) <= 64):
        raise ConfigurationError(f"argument --name: {given.name!r} is not printable characters, 1 to 64 bytes of them in UTF-8")
    _pki.make(given.directory, given.name, given.days or _CA_DAYS, given.crl_days, given.bits)
    with _opened(given.directory) as folder:
        yield f"{given.directory}: a CA, until {_date(folder.ca.not_valid_after_utc)}, and its CRL, until {_crl_end(folder)}"
        yield from _copy_to_every_host(given.directory, "ca.crt", "crl.pem")
        yield f"Write the CRL anew before it ends: {PROG} renew {shlex.quote(given.directory)} --crl"


def _issue(given: argparse.Namespace) -> Iterator[str]:
    with _opened(given.directory) as folder:
        made = folder.issue(given.names, given.days or _DAYS, given.bits)
    yield from _told(made)
    yield from _copy_pairs(given)
    yield 'In fedmsg.d on every host, "certnames" says which service has which: {"NAME IN endpoints": "CERTIFICATE\'S NAME"}'


def _renew(given: argparse.Namespace) -> Iterator[str]:
    kinds = [bool(given.names), given.crl, given.ca]
    if sum(kinds) != 1:
        raise ConfigurationError(f"renew takes either NAMEs, --crl or --ca (see {PROG} renew --help)")
    if given.new_key and not given.names:
        raise ConfigurationError("--new-key is for NAMEs: the key of a CA stays, or nothing that it has issued would count any more")
    if given.bits and not given.new_key:
        raise ConfigurationError("--bits is for a new key: give --new-key, too")
    with _opened(given.directory) as folder:
        if given.crl:
            folder.renew_crl(given.days)
            yield f"{given.directory}: the CRL, until {_crl_end(folder)}"
            yield from _copy_to_every_host(given.directory, "crl.pem")
        elif given.ca:
            folder.renew_ca(given.days or _CA_DAYS)
            yield f"{given.directory}: the CA, until {_date(folder.ca.not_valid_after_utc)}; it has its key still"
            yield from _copy_to_every_host(given.directory, "ca.crt")
        else:
            bits = (given.bits or BITS[0]) if given.new_key else None
            yield from _told(folder.renew(given.names, given.days or _DAYS, bits))
            yield from _copy_pairs(given, with_key=given.new_key)
            yield "The former certificates count until they end, or NAME is revoked. No service needs a restart."


def _revoke(given: argparse.Namespace) -> Iterator[str]:
    with _opened(given.directory) as folder:
        for certificate in folder.revoke(given.names):
            yield f"{_pki.common_name(certificate)}: revoked, serial {certificate.serial_number:x}"
        yield f"{given.directory}: the CRL, until {_crl_end(folder)}"
    yield from _copy_to_every_host(given.directory, "crl.pem")
    yield "It counts on a host once crl.pem is there."


def _list(given: argparse.Namespace) -> Iterator[str]:
    now = datetime.now(timezone.utc)
    with _opened(given.directory) as folder:
        every = folder.records()
        yield f"the CA ends {_date(folder.ca.not_valid_after_utc)}, its CRL {_crl_end(folder)}"
    width = max([len("NAME"), *(len(one.name) for one in every)])
    if every:
        yield f"\n{'NAME':{width}}  {'ENDS':20}  {'STATE':20}  SERIAL"
    for one in every:
        end = one.certificate.not_valid_after_utc
        valid = "valid" if one.is_current else "valid, former"
        state = f"revoked {one.revoked:%Y-%m-%d}" if one.revoked else "ended" if end < now else valid
        yield printable_line(f"{one.name:{width}}  {_date(end):20}  {state:20}  {one.certificate.serial_number:x}")


def _told(made: Iterable[x509.Certificate]) -> Iterator[str]:
    for certificate in made:
        name = _pki.common_name(certificate)
        yield f"{name}: until {_date(certificate.not_valid_after_utc)}, serial {certificate.serial_number:x}"


def _copy_pairs(given: argparse.Namespace, with_key: bool = True) -> Iterator[str]:
    yield f"Copy to the host of each, into its ssldir ({_SSLDIR}):"
    suffixes = (".key", ".crt") if with_key else (".crt",)
    files = {(name, one): shlex.quote(os.path.join(given.directory, name + one)) for name in given.names for one in suffixes}
    width = max(map(len, files.values()))
    for (_, suffix), file in files.items():
        who = "mode 0644, owner: root" if suffix == ".crt" else "mode 0400, owner: the user as whom the service runs"
        yield f"    {file:{width}}  {who}"


def _copy_to_every_host(directory: str, *files: str) -> Iterator[str]:
    keys = {"ca.crt": "ca_cert_location", "crl.pem": "crl_location"}
    yield "Copy to every host; fedmsg.d names the files by these keys:"
    width = len(shlex.quote(os.path.join(directory, "crl.pem")))  # the longest
    for file in files:
        path = shlex.quote(os.path.join(directory, file))
        yield f"    {path:{width}}  mode 0644, owner: root; {keys[file]}: {_SSLDIR}/{file}"


def _crl_end(folder: _pki.Folder) -> str:
    end = folder.crl.next_update_utc
    return "replaced" if end is None else _date(end)


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


if __name__ == "__main__":
    sys.exit(main())
