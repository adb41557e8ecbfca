"""Commands of which nothing is left, and a look at all sockets."""

import os
import resource
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from gilmsg import _own_sockets
from gilmsg.commands import _family
from gilmsg.commands._console import Console


def test_to_look_at_all_sockets_leaves_nothing_open(tmp_path):
    """Of all descriptors only TCP sockets are given, and a look opens none that stays."""
    import socket

    one, other = socket.socketpair()
    with open(str(tmp_path / "file"), "w") as file, socket.socket() as tcp, one, other:
        before = psutil.Process().num_fds()
        found = [descriptor for descriptor, _ in _own_sockets.each()]
        assert tcp.fileno() in found and not {file.fileno(), one.fileno()} & set(found)
        assert psutil.Process().num_fds() == before


def test_what_a_command_leaves_behind_is_ended(tmp_path):
    """Also what has moved to a session of its own, and whose parent has ended."""
    ended = threading.Event()
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '1009'], start_new_session=True)\n"
        "open('pid', 'w').write(str(child.pid))\n"
    )
    command = _family.Command([sys.executable, "-c", code], str(tmp_path), False, ended.set)
    assert ended.wait(20) and command.status == 0
    left = psutil.Process(int((tmp_path / "pid").read_text()))
    command.clear_away()
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
    command.clear_away()


def test_where_there_is_no_proc_only_the_command_is_ended(tmp_path, monkeypatch):
    """Off Linux there are neither subreapers nor /proc. (Both are patched: there is no other system here.)"""

    def nothing(path):
        raise FileNotFoundError(path)

    ended = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "darwin")
        patched.setattr(_family.os, "listdir", nothing)
        command = _family.Command(["sleep", "1010"], str(tmp_path), False, ended.set)
        command.clear_away()
    assert ended.wait(5) and command.status == 128 + signal.SIGKILL


def test_a_process_that_is_gone_is_no_error():
    """To kill, or to look at, what has ended meanwhile does nothing."""
    child = subprocess.Popen(["true"])
    child.wait()
    _family._kill(child.pid)
    assert _family._parent(str(child.pid)) == ""


def test_a_command_at_a_terminal_that_has_ended():
    """To clear it away signals nobody: its process id may be another's by then."""
    ended = threading.Event()
    command = _family.Command(["true"], ".", True, ended.set)
    assert ended.wait(20)
    command.clear_away()
    assert command.status == 0


@pytest.fixture
def many_open():
    """The descriptors up to 1023, which select() does not go beyond, are taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while opened[-1] < 1023:
            opened.append(os.dup(opened[0]))
        yield
    finally:
        for one in opened:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_many_open_files_are_no_obstacle(many_open):
    """A console is woken by descriptors beyond what select() can take."""
    with Console() as console:
        console.wake()
        console.sleep()
        assert console._wakeup.fileno() > 1023


def test_a_command_that_ends_as_it_is_signalled(tmp_path, monkeypatch):
    """It ran a moment ago: that the signal finds nobody is no error."""

    def nobody(pid, number):
        raise ProcessLookupError(pid)

    ended = threading.Event()
    command = _family.Command(["sleep", "1012"], str(tmp_path), True, ended.set)
    with monkeypatch.context() as patched:
        # A mock: no test can end it just between the look and the signal.
        patched.setattr(_family.os, "kill", nobody)
        assert command.end(signal.SIGTERM, 0.0) is None
    assert command.end(signal.SIGTERM, 20.0) == 128 + signal.SIGTERM
    command.clear_away()
