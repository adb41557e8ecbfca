"""A producer as it was written for fedmsg; only the import was changed."""

import gilmsg as fedmsg

try:
    receipt = fedmsg.publish(modname="compose", topic="finished", msg={"id": 7})
    print("plain" if receipt is None else sorted(receipt.acks))
except fedmsg.Timeout as timeout:
    print("missing", sorted(timeout.missing))
except fedmsg.ConfigurationError as error:
    print("refused", error)
