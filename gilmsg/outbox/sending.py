"""The sending of what a deliverer has claimed."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Callable

from .. import _engine
from .._client import prepared
from .._settings import OutboxSettings
from ..errors import GilmsgError, PayloadError
from .claims import Claim, Claimer
from .ledger import Ledger
from .windows import LONGEST_PAUSE

log = logging.getLogger("gilmsg.outbox")

#: Seconds that a lease is longer than an attempt takes: for signing, and for storing the result.
SLACK = 5.0

#: Seconds until something is sent again, when nothing can be; and between two lines on one trouble.
TRY_AGAIN, LINE_EVERY = 1.0, 60.0


class Outgoing:
    """What is under way; and what cannot be sent, which goes back to the *ledger*."""

    def __init__(self, sender: prepared.Sender, settings: OutboxSettings, claimer: Claimer, ledger: Ledger) -> None:
        self._sender, self._settings, self._claimer, self._ledger = sender, settings, claimer, ledger
        #: By the number of the row.
        self.under_way: dict[int, prepared.Attempt] = {}
        self._blocked_until = 0.0
        #: Why nothing is sent, once that was told; and whether it was told that another bus's messages are not sent from here.
        self._trouble: str | None = None
        self._refused = False
        self._warn = _engine.RateLimitedLog(log, LINE_EVERY).warning

    def ready(self) -> bool:
        """Return whether something can be sent; why not is told once, and once that it can be again."""
        if time.monotonic() < self._blocked_until:
            return False
        try:
            self._sender.check()
        except GilmsgError as error:
            self._complain(error)
            return False
        if self._trouble is not None:
            log.info("that is mended, messages are delivered again: %s", self._trouble)
            self._trouble = None
        return True

    def send(self, claimed: list[tuple[Claim, bytes]], stopping: Callable[[], bool]) -> None:
        """Sign and send; what cannot be sent now is given back."""
        for claim, body in claimed:
            # Later, its lease might end on its way.
            if stopping() or time.monotonic() < self._blocked_until or time.monotonic() - claim.since > SLACK:
                self._give_back(claim)
                continue
            try:
                self._send_one(claim, body)
            except PayloadError as error:
                self._claimer.free(claim)
                self._ledger.failed.append((claim, str(error)))
            except GilmsgError as error:
                self._complain(error)
                self._give_back(claim)
            except Exception as error:  # noqa: BLE001  whatever it is, the others are sent
                self._warn("message %s could not be sent: %r", claim.msg_id, error)
                self._give_back(claim, LONGEST_PAUSE)

    def abandon(self) -> None:
        """Have leave nothing that has not left, and give it back."""
        with contextlib.suppress(GilmsgError):  # the engine has ended, as all are told
            for attempt in self._sender.abandon(list(self.under_way.values())):
                del self.under_way[attempt.key.id]
                self._give_back(attempt.key)

    def ends(self, claim: Claim) -> bool:
        """Return whether *claim* is not to be sent, for all have confirmed it or it has expired; then that is noted."""
        why = claim.why_over(claim.attempts, claim.missing, claim.clock)
        if claim.entries and not claim.missing:
            self._ledger.complete.append((claim, 0))
        elif why is not None:
            self._claimer.free(claim)
            self._ledger.failed.append((claim, why))
        else:
            return False
        return True

    def _send_one(self, claim: Claim, body: bytes) -> None:
        if self.ends(claim):
            return
        message = prepared.Prepared.of(body)
        if message.msg_id != claim.msg_id or not claim.entries:
            raise PayloadError("the row cannot be sent: its message has another id, or it has no recipients")
        if not message.topic.startswith(self._sender.scope):
            self._refuse(message)
            self._give_back(claim, LONGEST_PAUSE)
            return
        message = message._replace(msg_id=claim.msg_id)  # equal; one object takes less memory than two
        self.under_way[claim.id] = self._sender.send(
            message, claim.entries, claim.met, self._settings.ack_timeout, self._settings.head_start, claim
        )

    def _refuse(self, message: prepared.Prepared) -> None:
        """Tell, once, that messages like *message* are not sent."""
        if not self._refused:
            self._refused = True
            log.error(
                "messages on topics that do not begin with %s, like %s on %s, are not sent from here (a copied database?)",
                self._sender.scope, message.msg_id, message.topic,
            )  # fmt: skip

    def _give_back(self, claim: Claim, seconds: float = 0.0) -> None:
        self._claimer.free(claim)
        self._ledger.returned.append((claim, seconds))

    def _complain(self, error: GilmsgError) -> None:
        self._blocked_until = time.monotonic() + TRY_AGAIN
        if self._trouble != str(error):
            self._trouble = str(error)
            log.error("nothing is delivered until this is mended: %s", error)
