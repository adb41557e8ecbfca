"""What a confirmed publish returns."""

from typing import Dict, NamedTuple


class Receipt(NamedTuple):
    """The proof that every required recipient got the message.

    Attributes:
        msg_id (str): the id of the message.
        topic (str): its full topic.
        acks (dict): common name -> seconds from sending to its ACK; of a group, who answered.
    """

    msg_id: str
    topic: str
    acks: Dict[str, float]
