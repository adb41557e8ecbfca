"""Databases that tests use: a PostgreSQL server of their own, started and stopped, and the application's engines."""

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import tempfile
import uuid

import psycopg
from sqlalchemy import create_engine, event

from . import inside
from .processes import LIMIT, wait_for

#: What is needed of a server that only has to be right, not to last.
_QUICK = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "150", "unix_socket_directories": ""}


def programs():
    """The folder of PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("initdb") or max(glob.glob("/usr/lib/postgresql/*/bin/initdb"), default=None)
    return found and os.path.dirname(os.path.realpath(found))


class Postgres:
    """A server on a port and folder of its own; as a context manager it runs, and goes with the block.

    It refuses to run as root: there it is the user ``postgres``. *settings* are those of postgresql.conf.
    """

    def __init__(self, **settings):
        self._settings = {**_QUICK, **settings}
        self._user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        self._ports = inside.free_ports()
        self.port = self._ports.take()
        self._process = None

    def __enter__(self):
        self._folder = tempfile.mkdtemp(prefix="gilmsg-postgres-")
        if self._user:
            shutil.chown(self._folder, **self._user)
        words = ["initdb", "-D", self._data, "-U", "gilmsg", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        self._popen(words).wait(LIMIT)
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self._ports.close()
        shutil.rmtree(self._folder)

    @property
    def _data(self):
        return f"{self._folder}/data"

    def _popen(self, words):
        with open(f"{self._folder}/log", "ab") as log:
            command = [f"{programs()}/{words[0]}", *words[1:]]
            # A session of its own: an interrupt at the keyboard is ours.
            return subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", start_new_session=True, **self._user
            )

    def start(self):
        """Start it, and wait until it takes connections."""
        settings = {"listen_addresses": "127.0.0.1", "port": str(self.port), **self._settings}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._process = self._popen(["postgres", "-D", self._data, *options])
        wait_for(self._answers, f"PostgreSQL answers: see {self._folder}/log", LIMIT)

    def _answers(self):
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.dsn("postgres")):
            return True
        return False

    def stop(self, number=signal.SIGINT):
        """Stop it: SIGINT ends all connections and then itself; SIGQUIT is as if the machine had failed."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(LIMIT)
            self._process = None

    def dsn(self, database):
        """What psycopg connects to."""
        return f"host=127.0.0.1 port={self.port} user=gilmsg dbname={database}"

    def url(self):
        """The URL of a new, empty database."""
        name = f"d{uuid.uuid4().hex}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://gilmsg@127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def engine(place, recipe=True, **options):
    """The application's own engine at *place*, a path or URL; on SQLite with SQLAlchemy's recipe for transactions."""
    found = create_engine(place if "://" in place else f"sqlite:///{place}", **options)
    if found.dialect.name == "sqlite" and recipe:
        event.listen(found, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        event.listen(found, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        yield found
    finally:
        found.dispose()
