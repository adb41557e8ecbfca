"""A program that ends while the log line of a future is still to be written: ``python -m tests.engine.last_words``."""

import logging
import time

import gilmsg  # noqa: F401  it brings the hook that runs at exit
from gilmsg import _engine
from gilmsg._engine import callbacks, futures

_engine._LAST_WORDS = 30.0  # a busy machine may take longer than the 0.5 s that a user is made to wait


def say() -> None:
    time.sleep(0.1)
    logging.getLogger("gilmsg.publish").warning("the last word")


for worker in (futures, callbacks):  # as publish_async does
    worker.require()
futures.run(lambda: time.sleep(0.1))
futures.run(lambda: callbacks.run(say))
