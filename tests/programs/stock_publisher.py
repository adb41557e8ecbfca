"""A stock publisher: one plain signed message through a PUB socket of fedmsg's own, where gilmsg cannot be imported."""

import importlib
import sys

import fedmsg

try:
    importlib.import_module("gilmsg")
    sys.exit("gilmsg is here")
except ImportError:
    pass
fedmsg.init()
fedmsg.publish(topic=sys.argv[1], modname="stock", msg={})
