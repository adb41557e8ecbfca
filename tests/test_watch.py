"""gilmsg-check --watch and --nagios: what changes, a line each; one line, and the exit status of a plugin."""

import contextlib
import json
import signal
import sys

import pytest

from gilmsg.commands import check

from . import inside
from .conftest import own_config
from .helpers import bound, sampled, write_config
from .processes import Program, module, port_of, wait_for


@pytest.fixture
def folder(bus, tmp_path):
    """The folder of a publisher, with keys and a CRL of its own."""
    write_config(tmp_path, own_config(bus, **{"gilmsg.head_start": 5.0}))
    return tmp_path


def watching(folder, *words):
    words = [sys.executable, "-m", "gilmsg.commands.check", "--watch", "0.1", *words]
    return Program(words, folder, {"HOME": str(folder)})


def nagios(folder, *words):
    """Exit status and the line of the plugin, which is all that it prints."""
    done = module("gilmsg.commands.check", "--nagios", *words, cwd=folder, env={"HOME": str(folder)})
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1, done
    return done.returncode, done.stdout


@pytest.mark.parametrize("number", sampled([signal.SIGTERM, signal.SIGINT]))
def test_a_watch_tells_who_comes_and_goes(bus, folder, number):
    """A line for each recipient at first, then for each change; it ends by a signal, with exit status 0."""
    with watching(folder, "--recipients", "alice", "bob", "nobody") as watch:
        watch.wait_for(" alice came: listening to us", " bob came: ", " nobody absent: never connected to us")
        bus.dead("bob")
        watch.wait_for(" bob went: ")
        before = len(watch.out())
        bus.well("bob")
        watch.wait_for(" bob came: listening to us", after=before)
        assert " alice " not in watch.out()[before:] and " nobody " not in watch.out()[before:]
        watch.send(number)
        assert watch.end() == 0
        assert watch.err() == ""


def test_a_watch_tells_of_certificates_that_end(bus, tmp_path):
    """That of a recipient, where it lies here, and our own, each once; and that it is in order again."""
    authority = inside.authority(tmp_path / "pki")
    for name, days in (("publisher", 30), ("alice", 30)):
        authority.issue(name, days=days)
    files = {"ssldir": authority.folder, "ca_cert_location": authority.ca_file, "crl_location": authority.crl_file}
    write_config(tmp_path, own_config(bus, **{"gilmsg.head_start": 0.0}, **files))
    with watching(tmp_path, "--recipients", "alice", "--json") as watch:
        watch.wait_for('"alice", "what": "')
        assert '"warning"' not in watch.out()
        authority.issue("alice", days=10)
        authority.issue("publisher", days=10)
        watch.wait_for('"what": "warning", "detail": "the certificate ' + str(authority.folder) + "/alice.crt")
        watch.wait_for('"name": "certificate", "what": "warning"')
        authority.issue("publisher", days=30)
        watch.wait_for('"name": "certificate", "what": "ok", "detail": "in order again"')
        watch.send(signal.SIGTERM)
        assert watch.end() == 0
        told = [json.loads(line) for line in watch.lines]
        assert sum(one["name"] == "alice" and one["what"] == "warning" for one in told) == 1
        assert all(set(one) == {"time", "name", "what", "detail"} for one in told)


def test_a_watch_finds_its_port_once_it_is_free(bus, folder):
    """A port that is taken is a line, and the watch goes on until it can look."""
    [endpoint] = own_config(bus)["endpoints"]["publisher"][:1]
    config = own_config(bus, **{"gilmsg.head_start": 0.0})
    config["endpoints"]["publisher"] = [endpoint]
    write_config(folder, config)
    with contextlib.ExitStack() as taken:
        taken.enter_context(bound(f"tcp://*:{port_of(endpoint)}"))
        with watching(folder, "--recipients", "alice") as watch:
            watch.wait_for(" endpoint fail: another process holds all our declared ports")
            assert " came: " not in watch.out()
            taken.close()
            watch.wait_for(" endpoint ok: in order again", " alice came: ")


@pytest.mark.slow
def test_a_plugin_has_four_states(bus, folder):
    """OK, WARNING of what ends soon, CRITICAL of who is missing, UNKNOWN of what cannot be told, and of bad usage."""
    status, line = nagios(folder, "--recipients", "alice", "bob")
    assert (status, line) == (0, "GILMSG OK: recipients that can be reached: 2\n")
    status, line = nagios(folder, "--recipients", "alice", "--warn-days", "10000")
    assert status == 1 and line.startswith("GILMSG WARNING: ca: ") and "alice.crt" in line
    config = own_config(bus, **{"gilmsg.head_start": 0.3})
    write_config(folder, config)
    status, line = nagios(folder, "--recipients", "nobody,someone")
    assert status == 2 and line.startswith("GILMSG CRITICAL: nobody: never connected to us") and "|" not in line
    del config["certnames"]["alice"]
    write_config(folder, {**config, "gilmsg.head_start": 5.0})
    wait_for(lambda: nagios(folder, "--recipients", "alice")[0] == 3, "its endpoints are unknown")


def test_an_abbreviated_plugin_is_one(folder, capsys, recwarn):  # recwarn gives back the filters of warnings
    """argparse takes --nag for --nagios: the exit statuses are the plugin's then, too."""
    assert check.main(["--nag", "--bogus"]) == 3
    assert capsys.readouterr().out.startswith("GILMSG UNKNOWN: ")


def test_a_plugin_that_cannot_check_does_not_know(folder, capsys, recwarn):  # recwarn gives back the filters of warnings
    """Bad usage is UNKNOWN, not CRITICAL, as Nagios wants it."""
    for words, told in [
        (["--bogus"], "unrecognized arguments: --bogus"), (["--json"], "neither --json nor --watch"),
        (["--watch", "0"], "--watch: invalid positive number of seconds value: '0'"), (["--recipients", ""], "cannot be empty"),
        (["--config-filename", "none"], "'none' is not a file"),
    ]:  # fmt: skip
        status, line = check.main(["--nagios", *words]), capsys.readouterr().out
        assert status == 3 and line.startswith("GILMSG UNKNOWN: ") and told in line, line
