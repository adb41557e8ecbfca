"""Time out with the garbage collector off; say whether the exception goes with its last holder all the same.

In a process of its own: pytest keeps log records, and with them the exception.
"""

import gc
import json
import sys
import time
import weakref

import gilmsg

call = dict(json.loads(sys.argv[2]), ack_timeout=0.05)


def silence():
    """Return a weak reference to the Timeout."""
    try:
        getattr(gilmsg, sys.argv[1])(**call).result(10)
    except gilmsg.Timeout as error:
        return weakref.ref(error)


silence()
gc.collect()
gc.disable()
errors = [silence(), silence()]
end = time.monotonic() + 10
while any(error() for error in errors) and time.monotonic() < end:  # the threads that told us have not let go of it yet
    time.sleep(0.01)
print([error() for error in errors])
