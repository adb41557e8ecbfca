"""The consumer of a recipient in a fedmsg-hub: see actors. Its files are beside the hub's working directory."""

import os

import gilmsg
from tests.faults import actors
from tests.faults.outbox.actors import Recipient


class Logger(gilmsg.GilmsgConsumer):
    topic = "*"
    acknowledge = "after"

    def __init__(self, hub):
        self._us = hub.config["name"]
        self._recipient = Recipient(self._us, os.path.join("..", self._us + ".log"), hub.config["tests.inbox"])
        super().__init__(hub)

    def consume(self, message):
        if actors.names_us(message["body"], self._us):
            self._recipient.handle(message["body"])
            actors.pause(os.path.join("..", self._us + ".slow"))
