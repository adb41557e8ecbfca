"""Publish, and check, as README's service does, by the configuration files alone; print who confirmed, and failures."""

import gilmsg

recipients, more = ["backend01.example.com"], {"name": "bodhi.app01", "gilmsg.head_start": 20.0}
print(*gilmsg.publish(topic="t", msg={}, recipients=recipients, ack_timeout=10.0, **more).acks)
print(gilmsg.check(recipients, **more).failures())
