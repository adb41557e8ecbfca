"""What an attacker can make of all that he hears, and of keys of his own: none of it is bob's ACK."""

import base64
import json
import pathlib
from typing import Any, NamedTuple

from ..helpers import ack_body, compose, digest, frames, sign

ACK = "org.example.dev.gilmsg.ack"

class Chance(NamedTuple):
    """A message whose ACK of bob is awaited, and what the attacker has."""

    message: dict[str, Any]
    #: alice's ACK for it, and an earlier one of bob's.
    ack: dict[str, Any]
    old: dict[str, Any]
    #: What bob has signed besides, with the body that the ACK would have.
    said: dict[str, dict[str, Any]]
    #: The folder with his keys, and with everybody's certificates.
    loot: str

    def sign(self, name):
        """Return the right ACK, signed by one of his own."""
        return sign({}, name, compose(ACK, ack_body(self.message)), self.loot)

    def both(self, *names):
        pem = b"".join(pathlib.Path(self.loot, name + ".crt").read_bytes() for name in names)
        return base64.encodebytes(pem).decode()


def edited(ack, **changes):
    return dict(ack, msg=dict(ack["msg"], **changes))


def twice(message, first, last):
    """The bytes of *message* with the keys of *first* before, and of *last* after its own in msg."""
    body = json.dumps(message["msg"])[1:-1]
    both = "{{{}}}".format(", ".join(p for p in (json.dumps(first)[1:-1], body, json.dumps(last)[1:-1]) if p))
    bare = {k: v for k, v in message.items() if k != "msg"}
    return [ACK.encode(), (f"{json.dumps(bare)[:-1]}, \"msg\": {both}}}").encode()]


#: What is done -> what to send, given a Chance.
ATTACKS = {
    "bob's earlier ACK again": lambda x: frames(x.old),
    "his earlier ACK, its id edited": lambda x: frames(edited(x.old, ack_msg_id=x.message["msg_id"])),
    "his earlier ACK, id and digest edited": lambda x: frames(edited(x.old, **ack_body(x.message))),
    "his earlier ACK, without its digest": lambda x: frames(
        dict(x.old, msg={"ack_msg_id": x.message["msg_id"]})
    ),
    "duplicate keys, the wanted ones last": lambda x: twice(x.old, {}, ack_body(x.message)),
    "duplicate keys, the wanted ones first": lambda x: twice(x.old, ack_body(x.message), {}),
    "keys of another case": lambda x: twice(
        x.old, {"Ack_Msg_Id": x.message["msg_id"]}, {"ACK_DIGEST": digest(x.message)}
    ),
    "NaN and numbers beyond bounds": lambda x: frames(
        dict(edited(x.old, **ack_body(x.message)), i=float("nan"), timestamp=10**4000)
    ),
    "alice's ACK under bob's certificate": lambda x: frames(dict(x.ack, certificate=x.old["certificate"])),
    "alice's ACK with bob's signature": lambda x: frames(dict(x.ack, signature=x.old["signature"])),
    "alice's ACK with bob's credentials": lambda x: frames(
        dict(x.ack, signature=x.old["signature"], certificate=x.old["certificate"])
    ),
    "alice's ACK again": lambda x: frames(x.ack),
    "another message of bob's": lambda x: frames(x.said["another topic"], ACK),
    "another message of bob's, its topic edited": lambda x: frames(dict(x.said["another topic"], topic=ACK)),
    "an ACK of bob's from another environment": lambda x: frames(x.said["another environment"], ACK),
    "an unsigned one": lambda x: frames(compose(ACK, ack_body(x.message))),
    "the right name under a wrong CA": lambda x: frames(x.sign("bob of another CA")),
    "the right name, self-signed": lambda x: frames(x.sign("bob by himself")),
    "the right name, issued by mallory": lambda x: frames(
        dict(x.sign("bob of mallory"), certificate=x.both("bob of mallory", "mallory"))
    ),
    "bob's certificate and a made-up signature": lambda x: frames(
        dict(x.sign("mallory"), certificate=x.old["certificate"])
    ),
    "a wrong name under our CA": lambda x: frames(x.sign("mallory")),
    "his name in capitals": lambda x: frames(x.sign("Bob")),
    "his name with a soft hyphen": lambda x: frames(x.sign("bob\u00ad")),
    "his revoked certificate": lambda x: frames(x.sign("old")),
    "his expired certificate": lambda x: frames(x.sign("ended")),
    "his certificate of tomorrow": lambda x: frames(x.sign("early")),
    "both certificates in one": lambda x: frames(
        dict(x.sign("mallory"), certificate=x.both("bob", "mallory"))
    ),
    "both certificates, turned round": lambda x: frames(
        dict(x.sign("mallory"), certificate=x.both("mallory", "bob"))
    ),
}
