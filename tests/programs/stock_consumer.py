"""A consumer of plain fedmsg: it writes what it consumes into the file "consumed"."""

import json

from fedmsg.consumers import FedmsgConsumer


class Plain(FedmsgConsumer):
    topic = "*"
    config_key = "plain.enabled"

    def consume(self, message):
        with open("consumed", "a") as stream:
            stream.write(json.dumps(message["body"]) + "\n")
