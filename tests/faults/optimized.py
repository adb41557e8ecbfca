"""What must go on as before without asserts; see test_engine_death."""

import sys

import gilmsg

from .. import inside
from .children import acks, beside, main, publish, publish_async, say, until


def work():
    if __debug__:
        sys.exit("asserts are not off")
    fault, told = OSError("injected"), []

    def wait():
        try:
            publish("nobody", ack_timeout=3600, **{"gilmsg.head_start": 0})
        except gilmsg.ListenerError as error:
            told.append(error.__cause__ is fault)

    say(acks())
    threads = [beside(wait) for _ in range(3)]
    until(lambda: inside.outstanding() == 3, "all wait")
    inside.kill_engine(fault)
    for thread in threads:
        thread.join(20)
    say(told)
    say(acks())
    gilmsg.destroy()
    say(acks())
    try:
        publish("nobody", ack_timeout=0.05, **{"gilmsg.head_start": 0})
    except gilmsg.Timeout as error:
        say(sorted(error.missing))
    try:
        publish("")
    except gilmsg.ConfigurationError:
        say("refused")
    say(list(publish_async().result(20).acks))


if __name__ == "__main__":
    main(globals())
