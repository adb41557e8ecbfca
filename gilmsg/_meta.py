"""ACKs and NACKs for people: a processor for ``fedmsg.meta``, for what reads an archive. It checks no signature.

The module is not called ``meta``: ``gilmsg.meta`` is fedmsg's, as every module of fedmsg's is.
"""

from __future__ import annotations

from typing import Any, ClassVar

from fedmsg.meta.base import BaseConglomerator, BaseProcessor

from . import _trust
from ._protocol import HANDLER, is_answer, on_ack_topic
from .errors import ConfigurationError

Message = dict[str, Any]


def answers(message: Message) -> bool:
    """Return whether *message* has the form of an ACK or NACK; ACKs of gilmsg 0.1.x have no digest."""
    body = message.get("msg")
    names = isinstance(body, dict) and isinstance(body.get("ack_msg_id"), str)
    return names and is_answer(message.get("topic"))


def sentence(subject: str, answer: Message) -> str:
    body = answer["msg"]
    if on_ack_topic(answer["topic"]):
        return f"{subject} confirmed receipt of {body['ack_msg_id']}"
    verb = "received, and failed to handle," if body.get("reason") == HANDLER else "received and dropped"
    return f"{subject} {verb} {body['ack_msg_id']}"


def who(message: Message) -> str:
    """Return the common name on the certificate in *message*, else the user name in it."""
    try:
        name = _trust.claimed_name(message)
    except ConfigurationError:  # the crypto libraries are missing where archives are shown
        name = None
    return str(name or message.get("username") or "somebody")


class AckConglomerator(BaseConglomerator):  # type: ignore[misc]
    """Many ACKs of one message become one line, and many NACKs that say the same another."""

    def can_handle(self, msg: Message, **config: Any) -> bool:
        return self.processor.handle_msg(msg, **config) is not None and answers(msg)

    def matches(self, a: Message, b: Message, **config: Any) -> bool:
        return bool(a["topic"] == b["topic"] and sentence("", a) == sentence("", b))

    def merge(self, constituents: list[Message], subject: str | None, **config: Any) -> Message:
        merged: Message = self.produce_template(constituents, subject, **config)
        told = sentence(self.list_to_series([who(ack) for ack in constituents]), constituents[0])
        # fedmsg takes the fourth part of the topic for the category
        return {
            **merged, "categories": {self.processor.__name__}, "subtitle": told, "subjective": told,
            "link": "", "secondary_icon": None,
        }  # fmt: skip


class GilmsgProcessor(BaseProcessor):  # type: ignore[misc]
    """Titles, sentences and users of ACKs and NACKs."""

    __name__ = "gilmsg"
    __description__ = "confirmations that a message was received, or dropped"
    __link__ = __docs__ = "https://github.com/fedora-infra/gilmsg"
    __obj__ = "Confirmations"

    conglomerators: ClassVar[list[type[AckConglomerator]]] = [AckConglomerator]

    def title(self, msg: Message, **config: Any) -> str:
        """Return the topic without prefix and environment, however many dots the prefix has."""
        rest = self.handle_msg(msg, **config)
        return f"{self.__name__}.{rest}" if rest else self.__name__

    def subtitle(self, msg: Message, **config: Any) -> str:
        return sentence(who(msg), msg) if answers(msg) else ""

    def subjective(self, msg: Message, subject: str, **config: Any) -> str:
        own = answers(msg) and subject and subject == msg.get("username")
        return sentence("you", msg) if own else self.subtitle(msg, **config)

    def usernames(self, msg: Message, **config: Any) -> set[str]:
        name = msg.get("username")  # who runs the recipient; old messages have none
        return {name} if name and isinstance(name, str) else set()
