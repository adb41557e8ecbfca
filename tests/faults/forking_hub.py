"""A consumer that forks: see test_fork."""

import multiprocessing

import gilmsg
from tests.programs.consumers import Base, say


def child(config):
    """Publish by a port of our own."""
    patient = {**config, "ack_timeout": 10, "gilmsg.head_start": 20.0}
    gilmsg.publish(topic="child", msg={}, recipients=["alice"], **patient)


class Forking(Base):
    def consume(self, message):
        if message["topic"].endswith(".tests.t"):
            config = dict(self.hub.config, name="forked")
            process = multiprocessing.get_context("fork").Process(target=child, args=(config,))
            process.start()
            process.join()
            say(str(process.exitcode), message)
