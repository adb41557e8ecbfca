"""Tail with acknowledge="after", and do with each message what its body says; say "up", then what, and the message's id."""

import json
import os
import signal
import sys

import gilmsg
from tests.processes import wait_for

messages = gilmsg.tail_messages(topic="org.example.dev.tests", acknowledge="after", **json.loads(sys.argv[1]))
print("up", flush=True)
what = ""
while what not in ("throw", "break", "close", "collect"):
    *_, message = next(messages)
    what = message["msg"].get("do", "return")
    print(what, message["msg_id"], flush=True)
    if what == "wait":
        wait_for(lambda: os.path.exists("go on"), "the test lets it go on", 600)
    elif what == "change":
        message["msg"].clear()
    elif what in ("reject", "reject and exit"):
        messages.reject("too hot")
        if what != "reject":
            sys.exit(7)
    elif what == "throw":
        try:
            messages.throw(ValueError("too hot"))
        except ValueError:
            print("thrown", flush=True)
    elif what == "close":
        messages.close()
    elif what == "collect":
        del messages
    elif what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "exit":
        sys.exit(7)
sys.stdin.read()  # whoever has left the loop lives on
