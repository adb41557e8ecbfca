"""Certificates as fedmsg wants them, and who issues them: for the sandbox, which throws them away, and for people.

fedmsg signs with ``<ssldir>/<certname>.key`` (RSA, PEM, without a password), sends ``<certname>.crt`` along, and checks it
by one CA and one CRL. :mod:`.issuing` makes these, and writes files. :mod:`.folder` is a CA that lasts, the folder of
``gilmsg-pki``: everything in it is a file that can be copied as it is.
"""

from __future__ import annotations  # noqa: I001  those of the face are sorted, but packed

from .folder import Folder, Record, make, opened
from .issuing import (
    Issuer, common_name, new_key, private_pem, revoked, subject, unfit, write, write_certificate, write_pair,
)  # fmt: skip

__all__ = [
    "Folder", "Issuer", "Record", "common_name", "make", "new_key", "opened", "private_pem", "revoked", "subject", "unfit",
    "write", "write_certificate", "write_pair",
]  # fmt: skip
