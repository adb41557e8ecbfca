"""Take gilmsg away from this process: copied as sitecustomize.py, for stock fedmsg.

All that fedmsg is given is the ``load_crl`` that today's pyOpenSSL lacks: without it fedmsg's crypto is off.
"""

import sys

import OpenSSL.crypto
import pkg_resources
from cryptography.x509 import load_pem_x509_crl

sys.modules["gilmsg"] = None  # importing it is an ImportError from here on

# Nobody finds its entry points.
pkg_resources.working_set.by_key.pop("gilmsg", None)
for keys in pkg_resources.working_set.entry_keys.values():
    keys[:] = [key for key in keys if key != "gilmsg"]

OpenSSL.crypto.load_crl = lambda _, text: load_pem_x509_crl(text.encode("ascii") if isinstance(text, str) else text)
