"""A publisher, run as a process on some host: ``python -m tests.faults.publisher``.

The first line on its stdin is its configuration. Each further line is a dict of keyword
arguments for ``gilmsg.publish``, with a number (``call``) of its own; what became of the call is said
on stdout. One call after the other.
"""

import json
import sys

import gilmsg

from .talker import say


def answer(call, arguments):
    """Publish, and say what it returned or raised."""
    try:
        receipt = gilmsg.publish(**arguments)
    except gilmsg.Timeout as timeout:
        say("timeout", call=call, msg_id=timeout.msg_id, acks=timeout.acks, missing=timeout.missing)
    except Exception as error:  # noqa: BLE001  whatever it is, it is told
        say("error", call=call, error=repr(error))
    else:
        say("receipt", call=call, msg_id=receipt.msg_id, acks=receipt.acks)


def main():
    gilmsg.init(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        arguments = json.loads(line)
        answer(arguments.pop("call"), arguments)


if __name__ == "__main__":
    main()
