"""Python's start-up of the processes that tests start: fedmsg.encoding finds no SQLAlchemy there.

It imports all of SQLAlchemy wherever that is installed, in case somebody publishes a model: 0.4 s in each of some
five hundred processes. Everything else finds SQLAlchemy as ever, and so does fedmsg in the tests' own process.
"""

import sys


class WithoutModels:
    """A finder that hides SQLAlchemy as long as fedmsg.encoding is being imported."""

    def find_spec(self, name, path=None, target=None):
        encoding = sys.modules.get("fedmsg.encoding")
        if name == "sqlalchemy" and encoding is not None and not hasattr(encoding, "FedMsgEncoder"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, WithoutModels())
