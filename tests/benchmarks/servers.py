"""Brokers of others, started for a benchmark: on random ports, in a temporary folder, ended with it."""

from __future__ import annotations

import os
import pathlib
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from gilmsg.sandbox import Ports
from tests.processes import Program

HOST = "127.0.0.1"

#: Where Debian and Fedora keep what their rabbitmq-server in the PATH runs, as another user.
_UNWRAPPED = "/usr/lib/rabbitmq/bin/rabbitmq-server"


class Server(Program):
    """A server that is up when it listens on *port*; what it writes is in *folder*."""

    ENDED_BY = signal.SIGTERM

    def __init__(self, words: Sequence[str], folder: str, port: int, env: Mapping[str, str] | None = None) -> None:
        super().__init__(words, folder, env, log=pathlib.Path(folder, os.path.basename(words[0])))
        self._port = port

    def wait_until_ready(self) -> None:
        self.wait_for_port(f"tcp://{HOST}:{self._port}")


@contextmanager
def nats() -> Iterator[int]:
    """Run a nats-server with JetStream; yield its port."""
    with _folder() as folder, _ports(1) as (port,):
        words = ["nats-server", "-a", HOST, "-p", str(port), "-js", "-sd", folder]
        with Server(words, folder, port):
            yield port


@contextmanager
def rabbitmq() -> Iterator[int]:
    """Run a rabbitmq-server, and Erlang's port mapper beside it, which it would leave behind; yield its port."""
    script = _UNWRAPPED if os.path.exists(_UNWRAPPED) else "rabbitmq-server"
    with _folder() as folder, _ports(3) as (port, between_nodes, mapper):
        environment = {
            "HOME": folder,  # for the cookie
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": "benchmark@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(between_nodes),
            "RABBITMQ_MNESIA_BASE": folder + "/mnesia",
            "RABBITMQ_LOG_BASE": folder + "/log",
            "RABBITMQ_PID_FILE": folder + "/pid",
            "RABBITMQ_CONFIG_FILE": folder + "/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": folder + "/environment",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder + "/plugins",
        }
        epmd = Server(["epmd", "-port", str(mapper)], folder, mapper, environment)
        with epmd, Server([script], folder, port, environment):
            yield port


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="gilmsg-benchmarks-")


@contextmanager
def _ports(count: int) -> Iterator[Sequence[int]]:
    ports = Ports()
    try:
        yield [ports.take() for _ in range(count)]
    finally:
        ports.close()
