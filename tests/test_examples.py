"""The worked example in examples/: its tests pass, its one command prints what its README says, its containers fit together."""

import contextlib
import json
import os
import re
import runpy
import shutil
import sys

import docutils.core
import pytest
import yaml

from gilmsg.sandbox import Authority, Ports

from .helpers import Hub, publish
from .processes import REPOSITORY, module, run

EXAMPLES = REPOSITORY / "examples"

#: Programs that are there in the image: of Python, of gilmsg and fedmsg, and of what the Dockerfile installs.
PROGRAMS = {"python", "gilmsg-outbox", "fedmsg-hub", "gunicorn"}


@pytest.fixture
def copied(tmp_path):
    """The example alone, away from this tree's configuration."""
    return shutil.copytree(EXAMPLES, tmp_path / "shop", ignore=shutil.ignore_patterns("__pycache__", ".*"))


def pytest_says(folder, *arguments):
    done = run([sys.executable, "-m", "pytest", "-q", "-ppytest_gilmsg", "-pno:cacheprovider", *arguments], folder, limit=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_an_order_is_told(copied):
    """The example's first test passes where nothing but the example is."""
    assert pytest_says(copied, "-k", "told_to_both").startswith("1 passed")


@pytest.mark.slow
def test_its_tests(copied):
    """All of them pass, those with the real services too."""
    tests = len(re.findall("^def test_", (copied / "test_shop.py").read_text(), re.MULTILINE))
    assert tests >= 5 and pytest_says(copied).startswith(f"{tests} passed")


@pytest.mark.slow
def test_the_one_command(copied):
    """``python run.py`` prints what README shows, word for word, and leaves nothing in the folder."""
    _, _, shown = (copied / "README.rst").read_text().partition("it prints::\n\n")
    lines = re.match(r"(    .*\n)+", shown)[0].splitlines()
    before = sorted(copied.iterdir())
    done = run([sys.executable, "-B", "run.py"], copied, limit=240)
    assert done.stdout.splitlines() == [line[4:] for line in lines], done
    assert done.returncode == 0 and sorted(set(copied.iterdir()) - {copied / "__pycache__"}) == before


@pytest.mark.slow
def test_a_service_that_ends(copied):
    """The command shows why, and ends with exit status 1."""
    (copied / "mailer.py").write_text("raise SystemExit('no paper')")
    done = run([sys.executable, "run.py"], copied, limit=240)
    assert done.returncode == 1 and "mailer:\nno paper" in done.stderr, done


def test_the_readme():
    """It renders without a warning, is short, and names each file."""
    text = (EXAMPLES / "README.rst").read_text()
    docutils.core.publish_doctree(text, settings_overrides={"report_level": 1, "halt_level": 1})
    assert len(text.splitlines()) <= 60
    names = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.rst"}
    assert names == {name for name in names if f"``{name}``" in text} and len(names) == 9


@pytest.fixture
def compose():
    """What compose.yaml says."""
    return yaml.safe_load((EXAMPLES / "compose.yaml").read_text())


def test_the_containers_fit_together(compose):
    """Who waits for whom, volumes, files, programs and build contexts: all that is named is there."""
    services = compose["services"]
    for name, service in services.items():
        assert ("build" in service) != ("image" in service), name
        assert set(service.get("depends_on", ())) <= set(services) - {name}
        for volume in service["volumes"]:
            source, _, target = volume.partition(":")
            assert (EXAMPLES / source).is_file() if source.startswith("./") else source in compose["volumes"], volume
            assert target.startswith("/")
        if "build" in service:
            assert (EXAMPLES / service["build"]["context"] / service["build"]["dockerfile"]).samefile(EXAMPLES / "Dockerfile")
            assert service["command"][0] in PROGRAMS
            for word in service["command"][1:]:
                module = re.match(r"(\w+)(\.py|:\w+)", word)
                assert module is None or (EXAMPLES / f"{module[1]}.py").is_file(), word
    waits = {name: {on: how["condition"] for on, how in one.get("depends_on", {}).items()} for name, one in services.items()}
    assert waits.pop("keys") == waits.pop("database") == {}
    assert all(on["keys"] == "service_completed_successfully" for on in waits.values())
    assert "healthcheck" in services["database"] and waits["web"]["database"] == "service_healthy"
    copies = re.findall(r"^COPY (.+) \S+$", (EXAMPLES / "Dockerfile").read_text(), re.MULTILINE)
    if (REPOSITORY / "gilmsg").is_dir():  # else an installed gilmsg is tested (.ci/release), without its sources
        assert all(list(REPOSITORY.glob(one)) for line in copies for one in line.split())


def test_the_containers_find_each_other(compose, tmp_path):
    """Each that is on the bus is called as in bus.py, and has a key there, which the first container makes."""
    bus, services = runpy.run_path(str(EXAMPLES / "bus.py")), compose["services"]
    assert {name: [f"tcp://{name}:3000"] for name in bus["NAMES"]} == bus["config"]["endpoints"]
    assert set(bus["NAMES"]) <= set(services) and all(one.get("hostname", name) == name for name, one in services.items())
    code = services["keys"]["command"][-1].replace('bus.config["ssldir"]', repr(str(tmp_path)))
    done = run([sys.executable, "-B", "-c", code], EXAMPLES)
    assert done.returncode == 0, done.stderr
    pairs = {f"{name}.{kind}" for name in bus["config"]["certnames"].values() for kind in ("crt", "key")}
    assert {one.name for one in tmp_path.iterdir()} == pairs | {"ca.crt", "crl.pem"}


def test_the_containers_variables(compose, tmp_path):
    """Those of gilmsg exist, as gilmsg-check says, and the others are what the example reads."""
    services = compose["services"]
    given = {name: text for one in services.values() if "build" in one for name, text in one.get("environment", {}).items()}
    ours = {name for name in given if name.startswith("GILMSG_")}
    done = module("gilmsg", "check", "--json", cwd=tmp_path, env={name: given[name] for name in ours})
    [told] = [line["detail"] for line in json.loads(done.stdout)["self"] if line["check"] == "settings"]
    assert ours == set(re.findall(r"\((GILMSG_\w+)\)", told)) and len(ours) == 2
    code = "".join(path.read_text() for path in EXAMPLES.glob("*.py"))
    assert set(given) - ours == set(re.findall(r'os\.environ\["(\w+)"\]', code))


@pytest.mark.slow
def test_the_containers_bus(tmp_path, monkeypatch):
    """By bus.py, other endpoints and another folder apart, what the deliverer sends is confirmed by the hub."""
    (tmp_path / "bus.py").write_text((EXAMPLES / "bus.py").read_text().replace("/etc/pki/fedmsg", str(tmp_path / "pki")))
    authority, ports = Authority(str(tmp_path / "pki")), Ports()
    config = runpy.run_path(str(tmp_path / "bus.py"))["config"]
    for name in config["endpoints"]:
        config["endpoints"][name] = [ports.endpoint()]
        authority.issue(config["certnames"][name])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("WAREHOUSE_DATABASE", str(tmp_path / "warehouse.sqlite"))
    with contextlib.closing(ports), Hub(tmp_path / "hub", {**config, "name": "warehouse"}, ["Warehouse"], "warehouse"):
        order = {"id": 1, "customer": "Ada", "item": "a teapot"}
        given = {**config, "name": "deliverer", "gilmsg.ack_timeout": 30.0, "gilmsg.head_start": 30.0}
        assert publish(["warehouse"], topic="order.placed", modname="shop", msg=order, **given).acks
