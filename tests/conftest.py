"""One sandbox per worker, a clean process before and after every test."""

import collections
import compileall
import contextlib
import functools
import gc
import os
import random
import signal
import sys
import threading

import fedmsg.config
import fedmsg.crypto
import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import gilmsg
from gilmsg.sandbox import Sandbox

from . import databases, inside
from .helpers import sampled
from .processes import wait_for


def pytest_configure():
    """Draw the order of the tests, and prepare for the many processes that they start: byte code, start-up, signals.

    The workers inherit the seed, so that each arrives at the same order. Where PYTHONDONTWRITEBYTECODE is set each
    process would compile gilmsg anew, and each worker all tests. A shell's background job ignores SIGINT, its
    children too.
    """
    sys.dont_write_bytecode = False
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ["GILMSG_SEED"] = os.environ.get("GILMSG_SEED") or str(random.SystemRandom().randrange(100000))
        compileall.compile_dir(os.path.dirname(gilmsg.__file__), quiet=2)
    paths = [os.path.join(os.path.dirname(__file__), "lean"), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Leave what was imported out of the garbage collections from here on: there is one after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def what_a_module_keeps_is_left_out():
    """The same after each module: syntax trees that some keep made each collection of those that follow take 0.1 s."""
    yield
    gc.collect()
    gc.freeze()


class Keys:
    """RSA keys, made once: those that a test takes it has for itself, and the next test takes the same. To make one takes 50 ms.

    What fixtures of a module or the session take they keep.
    """

    def __init__(self, make):
        self._make, self._made = make, collections.defaultdict(list)
        self.taken = collections.Counter()

    def __call__(self, public_exponent, key_size):
        number, made = self.taken[key_size], self._made[key_size]
        if number == len(made):
            made.append(self._make(public_exponent=public_exponent, key_size=key_size))
        self.taken[key_size] += 1
        return made[number]


@pytest.fixture(scope="session", autouse=True)
def keys():
    """A private key that is loaded again is the one that was loaded: to check an RSA key takes 50 ms.

    Each test's publisher loads the same one. What comes of it depends on the text alone, and nobody can change it.
    """
    with pytest.MonkeyPatch.context() as patch:
        load = functools.lru_cache(maxsize=None)(serialization.load_pem_private_key)
        patch.setattr(serialization, "load_pem_private_key", load)
        patch.setattr(rsa, "generate_private_key", keys := Keys(rsa.generate_private_key))
        yield keys


@pytest.fixture(scope="session", autouse=True)
def ports_are_given_back():
    """When destroy() returns the engine has ended, however busy the machine is: many tests take its port again."""
    with pytest.MonkeyPatch.context() as patch:
        inside.be_patient(patch)
        yield


@pytest.fixture(scope="session")
def shared_bus():
    with with_neighbours(Sandbox(["alice", "bob"], relay=True, **{"gilmsg.head_start": 20.0})) as bus:
        yield bus


def with_neighbours(bus):
    """Make known to the stand-ins of *bus*, not started yet, a consumer and a publisher that tests play."""
    make_room(bus, "hostile")
    make_known(bus, "carol")
    return bus


def make_room(bus, *names):
    """Give each of *names* an endpoint in the configuration of *bus*, whose processes are not started yet."""
    for name in names:
        bus.config["endpoints"][name] = [bus.ports.endpoint()]


def make_known(bus, *names):
    """The same, with a certificate under that name."""
    make_room(bus, *names)
    for name in names:
        bus.config["certnames"][name] = name
        bus.authority.issue(name)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server."""
    if databases.programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian's package is called postgresql)")
    with databases.Postgres() as server:
        yield server


@pytest.fixture(params=sampled(["sqlite", "postgresql"]))
def place(request, tmp_path):
    """Where an outbox may be: the path of a file; with the slow tests, the URL of a new database on PostgreSQL too."""
    return str(tmp_path / "outbox.sqlite") if request.param == "sqlite" else request.getfixturevalue("postgres").url()


@pytest.fixture
def bus(shared_bus):
    """A running bus whose stand-ins, alice and bob, are well."""
    yield shared_bus
    for name in shared_bus.recipients:
        shared_bus.well(name)


@pytest.fixture
def config(bus):
    """A publisher's configuration, safe to change."""
    return own_config(bus)


def own_config(bus, **changes):
    """The bus's configuration, to be changed at will, with an ack_timeout that a busy machine keeps.

    And with a head start: who is well may need longer than the usual 2 s to find a publisher that has just begun.
    """
    endpoints = {name: list(value) for name, value in bus.config["endpoints"].items()}
    copy = dict(bus.config, endpoints=endpoints, certnames=dict(bus.config["certnames"]))
    return dict(copy, **{"gilmsg.ack_timeout": 5.0, "gilmsg.head_start": 20.0, **changes})


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path, monkeypatch, keys):
    """Each test starts in an empty folder without configuration, and leaves nothing running."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    forget_what_fedmsg_keeps()
    inside.forget_warnings()
    before, taken = (_threads(), _children()), keys.taken.copy()
    yield
    keys.taken = taken
    gilmsg.destroy()
    inside.callbacks_done()
    forget_what_fedmsg_keeps()
    gc.collect()
    wait_for(lambda: _threads() <= before[0], f"no new thread is left: {_threads()}", 30)
    wait_for(
        lambda: len(_children()) <= max(len(before[1]), 4),  # the session's bus may come up meanwhile, with its relay, and PostgreSQL
        f"no new process is left: {_children()}",
        30,
    )


def forget_what_fedmsg_keeps():
    """Let fedmsg load its configuration, and choose its crypto, anew: it does so once in a process."""
    setattr(fedmsg.config, "__cache", {})
    fedmsg.crypto._implementation = fedmsg.crypto._validate_implementations = None


def _threads():
    return {t for t in threading.enumerate() if t.name not in inside.KEPT_THREADS and t.is_alive()}


def _children():
    """The processes that we have started; asked of the kernel, for a look at all processes takes its time."""
    pids = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as stream:
            pids.update(map(int, stream.read().split()))
    alive = set()
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            alive.update([pid] if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else [])
    return alive


def pytest_report_header():
    """Say how to have this order again."""
    return "order: GILMSG_SEED={}".format(os.environ["GILMSG_SEED"])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Put the tests into an order that ``GILMSG_SEED`` decides: modules at random, and the tests within each.

    A module's stay together, for the sake of what its fixtures start. But the long ones come first, at the beginnings
    of the workers' shares: the others run beside them.
    """
    workers, chance = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), random.Random(os.environ["GILMSG_SEED"])
    items.sort(key=lambda item: item.nodeid)
    long = [item for item in items if item.get_closest_marker("long")]
    modules = {}
    for item in items:
        if item not in long:
            modules.setdefault(item.path, []).append(item)
    shuffled = chance.sample(list(modules.values()), len(modules))
    others = [item for tests in shuffled for item in chance.sample(tests, len(tests))]
    for number, item in enumerate(chance.sample(long, len(long))):
        others.insert(number % workers * (len(items) // workers), item)
    items[:] = others


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    """Where GILMSG_NO_SKIPS is set (as .ci/run does), a test, or a module, that skips has failed."""
    report = (yield).get_result()
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("GILMSG_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which GILMSG_NO_SKIPS forbids: {report.longrepr}"


pytest_make_collect_report = pytest_runtest_makereport
