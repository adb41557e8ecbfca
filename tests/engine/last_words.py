"""A program that ends while the log line of a future is still to be written: ``python -m tests.engine.last_words``."""

import logging
import time

import gilmsg  # noqa: F401  it brings the hook that runs at exit
from gilmsg._engine import callbacks, futures


def say() -> None:
    time.sleep(0.1)
    logging.getLogger("gilmsg.publish").warning("the last word")


for worker in (futures, callbacks):  # as publish_async does
    worker.require()
futures.run(lambda: time.sleep(0.1))
futures.run(lambda: callbacks.run(say))
