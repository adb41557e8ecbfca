"""Stock fedmsg commands as processes in which gilmsg cannot be imported, their crypto on."""

from . import talking as _process
from .helpers import write_config
from .processes import Program

#: All they are given is the ``load_crl`` that today's pyOpenSSL lacks: without it fedmsg signs and validates nothing.
SITECUSTOMIZE = '''
import sys
sys.modules["gilmsg"] = None  # importing it is an ImportError
import pkg_resources  # and nobody finds its entry points
installed = pkg_resources.working_set
installed.by_key.pop("gilmsg", None)
for keys in installed.entry_keys.values():
    keys[:] = [key for key in keys if key != "gilmsg"]
import OpenSSL.crypto
from cryptography.x509 import load_pem_x509_crl
OpenSSL.crypto.load_crl = lambda _, text: load_pem_x509_crl(
    text.encode("ascii") if isinstance(text, str) else text)
'''


class Stock(Program):
    """The command *function* (``module:name``), run in *folder* under *config* until the end; log in "log"."""

    def __init__(self, folder, config, function):
        write_config(folder, config)
        super().__init__(_process.script(function), folder, environment(folder), log=folder / "log")


def environment(folder):
    """Make *folder* the only place from which a process with this environment imports what is not installed."""
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {"PYTHONPATH": str(folder), "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
