"""The consumer of the hub that is measured: it does nothing."""

import gilmsg


class Idle(gilmsg.GilmsgConsumer):
    topic = "org.example.dev.benchmark.hub"

    def consume(self, message):
        pass
