"""Warnings: none is gilmsg's own, on any Python."""

from .processes import program


def test_no_warning_is_ours(tmp_path):
    """Where each warning of our modules is an error, all of them compile, load, and work on a small bus."""
    done = program("strict", str(tmp_path / "bus"), cwd=tmp_path, limit=120)
    assert (done.returncode, done.stdout) == (0, "True r1 r1\n"), done.stderr
