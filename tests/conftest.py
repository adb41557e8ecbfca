"""One sandbox per worker, a clean process before and after every test."""

import _thread
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

import gilmsg
from gilmsg.sandbox import Sandbox

from . import inside
from .processes import wait_for


def pytest_configure():
    """Draw the order of the tests, and prepare for the many processes that they start: byte code, signals.

    The workers inherit the seed, so that each arrives at the same order. Where PYTHONDONTWRITEBYTECODE is set each
    process would compile gilmsg anew, and each worker all tests. A shell's background job ignores SIGINT, its
    children too.
    """
    sys.dont_write_bytecode = False
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ["GILMSG_SEED"] = os.environ.get("GILMSG_SEED") or str(random.SystemRandom().randrange(100000))
        compileall.compile_dir(os.path.dirname(gilmsg.__file__), quiet=2)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Leave what was imported out of the garbage collections from here on: there is one after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def bare_threads_are_measured():
    """Coverage hears of a thread from ``threading``; gilmsg starts some by ``_thread`` alone."""
    trace = threading._trace_hook
    start = _thread.start_new_thread

    def measured(work, arguments):
        return start(lambda: (sys.settrace(trace), work(*arguments)), ())

    with pytest.MonkeyPatch.context() as patch:
        if trace is not None:
            patch.setattr(_thread, "start_new_thread", measured)
        yield


@pytest.fixture(scope="session", autouse=True)
def keys_are_checked_once():
    """A private key that is loaded again is the one that was loaded: to check an RSA key takes 50 ms.

    Each test's publisher loads the same one. What comes of it depends on the text alone, and nobody can change it.
    """
    with pytest.MonkeyPatch.context() as patch:
        load = functools.lru_cache(maxsize=None)(serialization.load_pem_private_key)
        patch.setattr(serialization, "load_pem_private_key", load)
        yield


@pytest.fixture(scope="session")
def shared_bus():
    with with_neighbours(Sandbox(["alice", "bob"], relay=True)) as bus:
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
    """The bus's configuration, to be changed at will, with an ack_timeout that a busy machine keeps."""
    endpoints = {name: list(value) for name, value in bus.config["endpoints"].items()}
    copy = dict(bus.config, endpoints=endpoints, certnames=dict(bus.config["certnames"]))
    return dict(copy, **{"gilmsg.ack_timeout": 5.0, **changes})


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path, monkeypatch):
    """Each test starts in an empty folder without configuration, and leaves nothing running."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    forget_what_fedmsg_keeps()
    inside.forget_warnings()
    before = _threads(), _children()
    yield
    gilmsg.destroy()
    inside.callbacks_done()
    forget_what_fedmsg_keeps()
    gc.collect()
    wait_for(lambda: _threads() <= before[0], f"no new thread is left: {_threads()}", 5)
    wait_for(
        lambda: len(_children()) <= max(len(before[1]), _stand_ins()),
        f"no new process is left: {_children()}",
        5,
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
    return {pid for pid in pids if psutil.pid_exists(pid) and _is_alive(psutil.Process(pid))}


def _is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _stand_ins():
    """The session's bus may come up during a test: two stand-ins and a relay."""
    return 3


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    """Say how to have this order again."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and "PYTEST_XDIST_WORKER" not in os.environ:
        reporter.write_line("order: GILMSG_SEED={}".format(os.environ["GILMSG_SEED"]))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Put the tests into the order of ``GILMSG_SEED``, the same in every worker."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = in_order(items, os.environ["GILMSG_SEED"], workers)


def in_order(items, seed, workers):
    """Return *items* in an order that *seed* decides: modules at random, and the tests within each.

    A module's stay together, for the sake of what its fixtures start. But the long ones come first, at the beginnings
    of the workers' shares: the others run beside them.
    """
    chance = random.Random(seed)
    items = sorted(items, key=lambda item: item.nodeid)
    long = [item for item in items if item.get_closest_marker("long")]
    modules = {}
    for item in items:
        if item not in long:
            modules.setdefault(item.path, []).append(item)
    shuffled = chance.sample(list(modules.values()), len(modules))
    others = [item for tests in shuffled for item in chance.sample(tests, len(tests))]
    for number, item in enumerate(chance.sample(long, len(long))):
        others.insert(number % workers * (len(items) // workers), item)
    return others


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    """Where GILMSG_NO_SKIPS is set (as .ci/run does), a test that skips has failed."""
    _forbid_skip((yield).get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report():
    """The same for a module that skips itself."""
    _forbid_skip((yield).get_result())


def _forbid_skip(report):
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("GILMSG_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which GILMSG_NO_SKIPS forbids: {report.longrepr}"
