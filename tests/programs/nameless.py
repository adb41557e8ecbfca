"""Publish as a user who has no name, as in a container; print who acknowledged, and as whom it was sent."""

import getpass
import json
import os
import sys

import gilmsg


def nobody():
    raise KeyError("getpwuid(): uid not found")


# Patched, for only root can become such a user.
getpass.getuser = nobody
sent = []
receipt = gilmsg.publish(pre_fire_hook=lambda message: sent.append(message["username"]), **json.loads(sys.argv[1]))
print(*receipt.acks, sent == [str(os.getuid())])
