"""The consumer of a recipient in a fedmsg-hub: see actors. Its files are beside the hub's working directory."""

import os

import gilmsg
from tests.faults import actors


class Logger(gilmsg.GilmsgConsumer):
    topic = "*"

    def __init__(self, hub):
        self._us = hub.config["name"]
        self._notes = actors.Notes(os.path.join("..", self._us + ".log"))
        super().__init__(hub)

    def consume(self, message):
        if actors.names_us(message["body"], self._us):
            self._notes.handed(message["body"])
            actors.pause(os.path.join("..", self._us + ".slow"))
