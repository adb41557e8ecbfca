"""A process whose many threads wait for nobody; which of caller and engine wakes first is a race: see test_stopped."""

import threading

import gilmsg

from .children import arguments, main, say


def work():
    call = arguments(["nobody"], ack_timeout=2.0, pre_fire_hook=lambda message: say("sent"))
    try:
        gilmsg.publish(**call)
    except Exception as error:  # noqa: BLE001  whatever it is, it is told
        say(type(error).__name__)


def many():
    threads = [threading.Thread(target=work) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(globals())
