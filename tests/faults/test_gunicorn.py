"""A preforking WSGI server: real gunicorn, several workers, the app preloaded and not."""

import http.client
import json
import signal
import sys

import pytest

from ..conftest import own_config
from ..helpers import sampled
from ..processes import Program, wait_for


class Server(Program):
    """gunicorn with *workers* worker processes of one *kind*."""

    def __init__(self, folder, config, port, workers, preload, kind="sync"):
        (folder / "config.json").write_text(json.dumps(config))
        words = [sys.executable, "-m", "gunicorn", "tests.faults.wsgi:app", "--bind", f"127.0.0.1:{port}"]
        words += ["-k", kind, "--workers", str(workers), "--graceful-timeout", "5", "--worker-tmp-dir", str(folder)]
        words += ["--preload"] if preload else []
        self._port = port
        super().__init__(words, folder, {"AT_IMPORT": "1"} if preload else None, log=folder / "log")

    def ask(self):
        """Return (pid, answer) of one request; (None, None) while nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", "/")
            pid, _, answer = connection.getresponse().read().decode().partition(" ")
        except (ConnectionError, http.client.HTTPException):
            assert self.alive, str(self)
            return None, None
        finally:
            connection.close()
        return pid, answer


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "gevent"])
@pytest.mark.parametrize("preload", sampled([True, False]), ids=["preloaded", "not preloaded"])
def test_every_worker_publishes(bus, tmp_path, preload, kind):
    """Each of two workers has its messages confirmed, and the server ends soon on SIGTERM.

    Preloaded, the master publishes, and the workers of gevent's kind are patched after their birth.
    """
    with Server(tmp_path, own_config(bus), bus.ports.take(), 2, preload, kind) as server:
        answers = {}

        def both():
            pid, answer = server.ask()
            if pid:
                answers.setdefault(pid, set()).add(answer)
            return len(answers) == 2

        wait_for(both, f"both workers answered: {answers}")
        assert set.union(*answers.values()) == {"alice"}, answers
        server.send(signal.SIGTERM)
        assert server.end() == 0, str(server)


@pytest.mark.slow
def test_a_worker_too_many_is_told(bus, tmp_path):
    """Preloaded, with one port that the master holds, a worker's publish names the endpoint."""
    config = own_config(bus)
    del config["endpoints"]["publisher"][1:]
    with Server(tmp_path, config, bus.ports.take(), 1, True) as server:
        answer = wait_for(lambda: server.ask()[1], "it answers")
        assert "EndpointError" in answer and config["endpoints"]["publisher"][0] in answer
