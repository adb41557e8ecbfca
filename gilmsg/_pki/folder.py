"""A CA that lasts: a folder with its key, its CRL, and all that it has issued.

``issued/`` has each certificate ever issued, by its serial number: a renewed one leaves its former there, and ``revoke`` finds
both. It is written before the pair that it is of, and a CRL before what it revokes is removed, so that whoever is
killed leaves nothing that is unknown. Who reads or changes the folder holds its lock; the kernel frees that, however we end.
"""

from __future__ import annotations  # noqa: I001  those of the face are sorted, but packed

import contextlib
import fcntl
import os
import pathlib
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ..errors import ConfigurationError, GilmsgError
from .issuing import (
    AGE, Issuer, common_name, new_key, private_pem, revoked, subject, unfit, write, write_certificate, write_pair,
)  # fmt: skip

_KEY, _CA, _CRL, _ISSUED = "ca.key", "ca.crt", "crl.pem", "issued"


class Record(NamedTuple):
    """A certificate that was issued."""

    name: str
    certificate: x509.Certificate
    #: When; None if it is not.
    revoked: datetime | None
    #: It is the one in ``<name>.crt``.
    is_current: bool


def make(path: str, name: str, days: float, crl_days: float, bits: int) -> None:
    """Make the folder *path* with a new CA called *name*, and its CRL. GilmsgError if something is there."""
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ConfigurationError(f"{path} is no folder; give another")
    os.makedirs(path, mode=0o700, exist_ok=True)
    with _locked(path):
        if os.stat(path).st_uid != os.geteuid():
            raise ConfigurationError(f"{path} belongs to another user, who could read the CA's key; give another folder")
        there = os.listdir(path)
        if _KEY in there:
            told = "it has the key of a CA; if ca.crt or crl.pem is lost, copy it back from a host of the bus, or from a backup"
            raise GilmsgError(f"{path} is not empty: {told}; remove the folder only if nothing was ever issued")
        if there:
            raise GilmsgError(f"{path} is not empty, and nothing is overwritten; give another folder")
        os.chmod(path, 0o700)
        issuer = Issuer(subject([name]), new_key(bits))
        os.mkdir(os.path.join(path, _ISSUED), mode=0o700)
        write(os.path.join(path, _KEY), private_pem(issuer.key), mode=0o600)
        write_certificate(os.path.join(path, _CRL), issuer.crl([], crl_days))
        write_certificate(os.path.join(path, _CA), issuer.ca(days))  # last: what has no ca.crt is no CA


@contextlib.contextmanager
def opened(path: str, complain: Callable[[str], object]) -> Iterator[Folder]:
    """Give the CA in *path*, which is ours as long as the block lasts; whoever comes meanwhile waits.

    ConfigurationError, naming the file, if there is none, or it is damaged. What does not hinder is told to *complain*.
    """
    if not os.path.isdir(path):
        raise ConfigurationError(f"{path} is no folder; make a CA there with: gilmsg-pki init {shlex.quote(path)}")
    with _locked(path):
        ca: x509.Certificate = _loaded(path, _CA, x509.load_pem_x509_certificate)
        crl: x509.CertificateRevocationList = _loaded(path, _CRL, x509.load_pem_x509_crl)
        key = _loaded(path, _KEY, lambda pem: serialization.load_pem_private_key(pem, None))
        if not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != ca.public_key():
            raise ConfigurationError(f"{os.path.join(path, _KEY)} is not the RSA key of {_CA} beside it")
        if not crl.is_signature_valid(key.public_key()):
            raise ConfigurationError(f"{os.path.join(path, _CRL)} is not signed by the key of {_CA} beside it")
        if not os.path.isdir(os.path.join(path, _ISSUED)):
            told = "is lost: restore it from a backup, or make an empty one; what it has no copy of cannot be revoked"
            raise ConfigurationError(f"{os.path.join(path, _ISSUED)} {told}")
        for file, mode in ((path, "700"), (os.path.join(path, _KEY), "600")):
            if os.stat(file).st_mode & 0o077:
                told = "is open to others, and whoever can read the CA's key can speak for anybody on the bus"
                complain(f"{file} {told}: chmod {mode} {shlex.quote(file)}")
        yield Folder(path, Issuer(ca.subject, key), ca, crl, complain)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)  # or after a power cut the CRL may be the former one
    finally:
        os.close(descriptor)


def _loaded(path: str, name: str, load: Callable[[bytes], Any]) -> Any:
    file = os.path.join(path, name)
    try:
        return load(pathlib.Path(file).read_bytes())
    except FileNotFoundError:
        told = f"{file} is not there: {path} is no CA; make one with: gilmsg-pki init FOLDER"
        if name != _KEY and os.path.exists(os.path.join(path, _KEY)):
            told = f"{file} is lost, and the CA's key is still there; do not make a new CA: copy the file back from a host, or a backup"
        raise ConfigurationError(told) from None
    except (OSError, ValueError, TypeError) as error:  # TypeError: it needs a password
        raise ConfigurationError(f"{file} cannot be read: {error}") from error


class Folder:
    """The folder of a CA, as ``opened`` gives it. What cannot be done is a GilmsgError, and nothing is changed.

    Attributes:
        ca, crl: the CA's certificate and its CRL as they are now.
    """

    def __init__(
        self, path: str, issuer: Issuer, ca: x509.Certificate, crl: x509.CertificateRevocationList, complain: Callable[[str], object]
    ) -> None:
        self.path, self._issuer, self.ca, self.crl, self._complain = path, issuer, ca, crl, complain

    def issue(self, names: Sequence[str], days: float, bits: int) -> list[x509.Certificate]:
        """Write a key and a certificate for each of *names*."""
        for name in names:
            if why_not := unfit(name):
                raise ConfigurationError(f"{name!r} cannot be the name of a certificate: {why_not}")
            there = [name + suffix for suffix in (".key", ".crt") if os.path.lexists(self._file(name + suffix))]
            if there == [name + ".key"]:
                told = f"{self._file(name)}.key is there without its certificate, from a run that was interrupted"
                raise GilmsgError(f"{told}; revoke {name}, then issue it")
            if there:
                told = f"{self._file(there[0])} is there already, and nothing is overwritten"
                raise GilmsgError(f"{told}; renew {name}, or revoke it first")
        self._require_within_ca(days)
        return [self._certified(name, days, new_key(bits)) for name in names]

    def renew(self, names: Sequence[str], days: float, bits: int | None) -> list[x509.Certificate]:
        """Write a new certificate for each of *names*: for the same key, or a new one if *bits* are given."""
        former = {name: self._current(name) for name in names}
        for name, certificate in former.items():
            if self._revoked_at(certificate):
                raise GilmsgError(f"{name} is revoked; finish that with: revoke {name}, then issue it anew")
            if bits is None and os.path.exists(self._file(name + ".key")):
                key = _loaded(self.path, name + ".key", lambda pem: serialization.load_pem_private_key(pem, None))
                if key.public_key() != certificate.public_key():
                    told = f"{name}.key does not belong to {name}.crt (an interrupted renew --new-key?)"
                    raise GilmsgError(f"{told}; give --new-key")
        self._require_within_ca(days)
        return [self._certified(name, days, new_key(bits) if bits else one.public_key()) for name, one in former.items()]

    def revoke(self, names: Sequence[str]) -> list[x509.Certificate]:
        """Put all certificates of each of *names* on the CRL, which is due again in as many days as ever; remove its pair."""
        every = self.records()
        for name in names:
            mine = [one for one in every if one.name == name]
            if not mine:
                raise GilmsgError(f"no certificate was issued to {name!r} here")
            if all(one.revoked for one in mine) and not any(one.is_current for one in mine):
                raise GilmsgError(f"{name} is revoked already")
        now = [one.certificate for one in every if one.name in names and not one.revoked]
        self._write_crl([*self.crl, *map(revoked, now)], self.crl_days)
        for name in names:
            for suffix in (".key", ".crt"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._file(name + suffix))
        return now

    def renew_crl(self, days: float | None) -> None:
        """Write the CRL anew, due again in *days*, as many as ever if None."""
        self._write_crl(list(self.crl), self.crl_days if days is None else days)

    def renew_ca(self, days: float) -> None:
        """Write a new certificate for the CA's own key: what it has issued stays valid under it."""
        end = datetime.now(timezone.utc) + timedelta(days=days)
        for one in self.records():
            if not one.revoked and one.certificate.not_valid_after_utc > end:
                told = f"a CA for {days:g} days would end before {one.name}"
                raise GilmsgError(f"{told}, which is valid until {one.certificate.not_valid_after_utc:%Y-%m-%d}; give more")
        self.ca = self._issuer.ca(days)
        write_certificate(self._file(_CA), self.ca)

    def records(self) -> list[Record]:
        """Return all that was issued, by name, and oldest first. What cannot be read is complained of, and left out."""
        found: dict[int, Record] = {}
        # The pairs too: the only copy of what one has may be damaged.
        files = [os.path.join(_ISSUED, file) for file in os.listdir(self._file(_ISSUED))] + os.listdir(self.path)
        for file in (one for one in files if one.endswith(".crt") and one != _CA):
            try:
                certificate = _loaded(self.path, file, x509.load_pem_x509_certificate)
            except ConfigurationError as error:
                self._complain(f"{error}; it is left out, and may be a certificate of any name: see a backup")
                continue
            if certificate.issuer == self.ca.subject:
                name, serial = common_name(certificate), certificate.serial_number
                is_current = file == f"{name}.crt" or (serial in found and found[serial].is_current)
                found[serial] = Record(name, certificate, self._revoked_at(certificate), is_current)
        return sorted(found.values(), key=lambda one: (one.name, one.certificate.not_valid_before_utc, one.is_current))

    @property
    def crl_days(self) -> float:
        """The days for which a CRL is valid here."""
        end = self.crl.next_update_utc or self.crl.last_update_utc + timedelta(days=AGE)
        return (end - self.crl.last_update_utc) / timedelta(days=1) - AGE

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _current(self, name: str) -> x509.Certificate:
        if unfit(name) or not os.path.exists(self._file(name + ".crt")):
            raise GilmsgError(f"there is no certificate of {name!r} here; issue it first")
        certificate: x509.Certificate = _loaded(self.path, name + ".crt", x509.load_pem_x509_certificate)
        return certificate

    def _revoked_at(self, certificate: x509.Certificate) -> datetime | None:
        entry = self.crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
        return None if entry is None else entry.revocation_date_utc

    def _certified(self, name: str, days: float, key: Any) -> x509.Certificate:
        public = key.public_key() if isinstance(key, rsa.RSAPrivateKey) else key
        certificate = self._issuer.certificate(subject([name]), public, days)
        with _locked(self._file(_ISSUED)):  # which syncs that folder in the end
            write_certificate(self._file(os.path.join(_ISSUED, f"{certificate.serial_number:x}.crt")), certificate)
        if isinstance(key, rsa.RSAPrivateKey):
            write_pair(self._file(name), key, certificate)
        else:
            write_certificate(self._file(name + ".crt"), certificate)
        return certificate

    def _require_within_ca(self, days: float) -> None:
        end = self.ca.not_valid_after_utc
        if datetime.now(timezone.utc) + timedelta(days=days) > end:
            told = f"a certificate for {days:g} days would outlive its CA, which ends on {end:%Y-%m-%d}"
            raise GilmsgError(f"{told}; give fewer, or renew the CA first")

    def _write_crl(self, entries: Sequence[x509.RevokedCertificate], days: float) -> None:
        self.crl = self._issuer.crl(entries, days)
        write_certificate(self._file(_CRL), self.crl)
