"""Brokers of others, started for a benchmark: on random ports, in a temporary folder, ended with it."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import Dict, Iterator, Sequence

from gilmsg.commands._family import end_group
from gilmsg.sandbox import Ports

from .. import talking as _process

#: Seconds. Erlang takes its time.
START_LIMIT, STOP_LIMIT = 60.0, 15.0

HOST = "127.0.0.1"

#: Where Debian and Fedora keep what their rabbitmq-server in the PATH runs, as another user.
_UNWRAPPED = "/usr/lib/rabbitmq/bin/rabbitmq-server"


@contextmanager
def nats() -> Iterator[int]:
    """Run a nats-server with JetStream; yield its port."""
    with _folder() as folder, _ports(1) as (port,):
        command = ["nats-server", "-a", HOST, "-p", str(port), "-js", "-sd", folder]
        with _running(command, folder, {}):
            _wait(port)
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
        with _running(["epmd", "-port", str(mapper)], folder, environment):
            _wait(mapper)
            with _running([script], folder, environment):
                _wait(port)
                yield port


@contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="gilmsg-benchmarks-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ports(count: int) -> Iterator[Sequence[int]]:
    ports = Ports()
    try:
        yield [ports.take() for _ in range(count)]
    finally:
        ports.close()


def _wait(port: int) -> None:
    endpoint = "tcp://%s:%d" % (HOST, port)
    _process.wait_for(lambda: _process.can_connect(endpoint), "a server listens at %s" % endpoint, START_LIMIT)


@contextmanager
def _running(command: Sequence[str], folder: str, environment: Dict[str, str]) -> Iterator[None]:
    """Run *command* in a process group of its own, which is ended with it."""
    with open(os.path.join(folder, "output"), "ab") as output:
        process = _process.start(command, folder, env=environment, stdout=output, stderr=output)
        try:
            yield
        finally:
            end_group(process, STOP_LIMIT)
