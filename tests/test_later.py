"""What is loaded, and started, on first use is there for whoever asks for it first."""

import pytest

from .conftest import own_config
from .helpers import sampled
from .processes import program

#: See tests/programs/first_use.py; at exit either will do, see README.
FIRST_USES = {
    "in_threads": ["['alice']"] * 4,
    "at_exit": None,
}


@pytest.mark.parametrize("use", sampled(FIRST_USES))
def test_a_first_use(bus, tmp_path, use):
    """Wherever a program uses gilmsg first, it works as if everything had been loaded before."""
    done = program("first_use", use, own_config(bus), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = [FIRST_USES[use]] if FIRST_USES[use] else [["org.example.dev.__main__.t"], ["ListenerError"]]
    assert done.stdout.splitlines() in expected, done.stderr
