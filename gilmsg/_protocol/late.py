"""ACKs that come when the wait for them has ended, and count nevertheless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from ..errors import Refused
from . import wire

if TYPE_CHECKING:
    from .delivery import Entry


class Late:
    """An entry whose wait has ended: what its further ACKs are checked by, and no more, for there may be many."""

    __slots__ = ("digest", "heard", "msg_id", "names", "verifier")

    def __init__(self, entry: Entry, heard: Callable[[str], None]) -> None:
        self.msg_id, self.digest, self.verifier, self.heard = entry.msg_id, entry.digest, entry.verifier, heard
        self.names = tuple(name for name in entry._entries_of if name not in entry.acks)

    def confirm(self, received: wire.Received, digest: str | None) -> bool:
        """Take in an ACK that states *digest*; return whether no other one can come."""
        if digest is not None and digest != self.digest:
            return False
        try:
            signer = self.verifier.signer_of(received.message, received.covered)
        except Refused:
            return False
        if signer in self.names:
            self.names = tuple(name for name in self.names if name != signer)
            self.heard(signer)
        return not self.names
