"""The databases of a run: where the outbox and the inboxes are, and the harm that can be done to them."""

import contextlib
import os
import shutil
import signal
import sqlite3
import tempfile
import time

from sqlalchemy import make_url

from ...databases import Postgres


class SQLite:
    """Files in a folder."""

    def __init__(self, folder):
        self.faults = {"database locked": (0.2, 4.0)}
        self._folder = folder

    def start(self):
        """Nothing runs."""

    end = start

    def place(self, name):
        """Where the database *name* is."""
        return os.path.join(self._folder, name + ".sqlite")

    def harm(self, _, planned):
        """Be another writer for a while."""
        with contextlib.closing(sqlite3.connect(self.place("outbox"), isolation_level=None, timeout=30.0)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(planned.lasts)
            other.execute("ROLLBACK")


class PostgreSQL:
    """A server that listens at a socket in the file system: that reaches every host's network namespace."""

    def __init__(self, _):
        self.faults = {"database gone": (0.1, 2.0)}
        # The name of a socket is short: not below TMPDIR.
        self._sockets = tempfile.mkdtemp(prefix="gilmsg-", dir="/tmp")
        os.chmod(self._sockets, 0o777)
        self._server = Postgres(unix_socket_directories=self._sockets)
        self._places = {}

    def start(self):
        self._server.__enter__()

    def end(self):
        self._server.__exit__()
        shutil.rmtree(self._sockets)

    def place(self, name):
        if name not in self._places:
            query = {"host": self._sockets, "port": str(self._server.port)}
            url = make_url(self._server.url()).set(host=None, port=None, query=query)
            self._places[name] = url.render_as_string(hide_password=False)
        return self._places[name]

    def harm(self, _, planned):
        """End it as if its machine had failed, and start it again."""
        self._server.stop(signal.SIGQUIT)
        time.sleep(planned.lasts)
        self._server.start()


KINDS = {"sqlite": SQLite, "postgresql": PostgreSQL}
