"""The processes of a run: ``python -m tests.faults.actors``; and the log that each of them keeps.

An entry is written by one ``write`` to a file opened for appending: it is whole, and it survives
the death of its process (not that of the machine, which nobody injects here).
"""

import json
import os
import random
import sys
import threading
import time

import gilmsg

from .. import inside
from .talker import say

#: Seconds. Short enough that a fault does not hold a publisher up, long for a busy machine.
ACK_TIMEOUTS = (2.0, 3.0)
HEAD_START = 2.0

#: Seconds after which a publisher no longer tries to reach everybody at the end of a run.
_GIVE_UP = 15.0


class Log:
    """Entries of one participant, a JSON value each; shared by all its incarnations."""

    def __init__(self, path):
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, **entry):
        os.write(self._descriptor, (json.dumps(entry) + "\n").encode("ascii"))


class Notes:
    """A recipient's log: the ACKs of this process that are about to leave, and what it is handed.

    Before it leaves: so each ACK that anybody ever gets is in the log, wherever we are killed.
    """

    def __init__(self, path):
        self._log = Log(path)
        # A spy: nothing public tells a consumer of the ACKs that are sent in its name.
        inside.spy_acks(lambda msg_id: self._note("ack", msg_id))

    def handed(self, message):
        self._note("handed", message["msg_id"])

    def _note(self, what, msg_id):
        thread = f"{os.getpid()}/{threading.get_ident()}"
        self._log.note(what=what, msg_id=msg_id, at=time.monotonic(), thread=thread)


def names_us(message, name):
    """Whether a gilmsg message names *name*."""
    body = message.get("msg")
    marker = body.get("gilmsg") if isinstance(body, dict) else None
    return bool(marker) and any(name in entry.split(",") for entry in marker["recipients"])


def pause(path):
    """Be as slow as the file *path* says, if it is there."""
    try:
        with open(path) as stream:
            time.sleep(float(stream.read() or 0))
    except FileNotFoundError:
        pass


def receive(task):
    """Tail the bus; log each message that names us once we are handed it."""
    notes, name = Notes(task["log"]), task["config"]["name"]
    tail = gilmsg.tail_messages(**task["config"])
    say("ready")
    for _, _, _, message in tail:
        if names_us(message, name):
            if task.get("forgetful") and message["i"] % 2 == 0:
                continue
            notes.handed(message)
            pause(task["slow"])


class Publisher:
    """Publishes from several threads until it is told to finish, logging each call before and after."""

    def __init__(self, task):
        self._task = task
        self._log = Log(task["log"])
        self._names = task["recipients"]
        self._over = threading.Event()

    def run(self):
        threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(self._task["threads"])
        ]
        for thread in threads:
            thread.start()
        say("ready")
        for line in sys.stdin:
            assert json.loads(line) == "finish"
            self._over.set()
            for thread in threads:
                thread.join()
            self._reach_everybody()
            say("finished")

    def _work(self, number):
        chance = random.Random(f"{self._task['seed']}/{number}")
        while not self._over.is_set():
            self._call(self._choose(chance), chance.choice(ACK_TIMEOUTS), chance.random() < 0.3)
            self._over.wait(chance.uniform(0, 0.05))

    def _choose(self, chance):
        """Return recipients: some names, or a group and perhaps a name."""
        names = chance.sample(self._names, min(len(self._names), chance.choice((1, 1, 2, 3))))
        if len(names) > 1 and chance.random() < 0.4:
            return [gilmsg.any_of(*names[:2])] + names[2:]
        return names

    def _reach_everybody(self):
        """Publish to all until that succeeds: what stays away too long is a violation."""
        until = time.monotonic() + _GIVE_UP
        while not self._call(self._names, ACK_TIMEOUTS[0], False) and time.monotonic() < until:
            pass

    def _call(self, recipients, ack_timeout, asynchronous):
        """Publish; return whether that succeeded."""
        key = f"{os.getpid()}/{threading.get_ident()}/{time.monotonic_ns()}"
        self._log.note(
            call=key, began=time.monotonic(), recipients=recipients, ack_timeout=ack_timeout,
            head_start=HEAD_START,
        )
        outcome = self._publish(recipients, ack_timeout, asynchronous)
        self._log.note(call=key, ended=time.monotonic(), **outcome)
        return outcome["outcome"] == "success"

    def _publish(self, recipients, ack_timeout, asynchronous):
        arguments = dict(
            self._task["config"], topic="t", msg={}, recipients=recipients, ack_timeout=ack_timeout
        )
        try:
            if asynchronous:
                # No limit of our own: a future that is never settled is a call that never ends.
                receipt = gilmsg.publish_async(**arguments).result()
            else:
                receipt = gilmsg.publish(**arguments)
        except gilmsg.Timeout as late:
            return {
                "outcome": "timeout", "msg_id": late.msg_id, "acks": list(late.acks), "missing": list(late.missing),
                "error": str(late),
            }
        except Exception as error:  # noqa: BLE001  whatever it is, it is told
            return {"outcome": "error", "error": repr(error)}
        return {"outcome": "success", "msg_id": receipt.msg_id, "acks": list(receipt.acks)}


def main():
    import logging

    # Every Timeout is in the log of the run; on stderr it would only drown what is not expected.
    logging.getLogger("gilmsg").setLevel(logging.ERROR)
    task = json.loads(sys.stdin.readline())
    if "recipients" in task:
        Publisher(task).run()
    else:
        receive(task)


if __name__ == "__main__":
    main()
