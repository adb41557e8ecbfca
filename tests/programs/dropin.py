"""What an import of gilmsg does to a process; each function here is a case, named on the command line."""

import atexit
import importlib
import json
import logging
import sys
import threading


def crypto(*order):
    for name in order:
        importlib.import_module(name)
    print(importlib.import_module("fedmsg.crypto").x509._cryptography)


def without_crypto(config):
    sys.modules["OpenSSL"] = sys.modules["OpenSSL.crypto"] = None
    import gilmsg

    try:
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], **json.loads(config))
    except gilmsg.ConfigurationError as error:
        print(error)


def loaded():
    importlib.import_module("fedmsg")
    before = set(sys.modules)
    importlib.import_module("gilmsg")
    print(json.dumps([sorted(set(sys.modules) - before), logging.getLogger().handlers]))


def later():
    import gilmsg

    assert set(gilmsg.__all__) - {"__local"} == set(dir(gilmsg))
    assert all(map(callable, (gilmsg.publish_async, gilmsg.tail_messages, gilmsg.check)))
    assert not [name for name in sys.modules if name.startswith("moksha.")]
    found = {name: getattr(gilmsg, name) for name in gilmsg.__all__}
    assert all(getattr(gilmsg, name) is one for name, one in found.items())
    assert gilmsg.send_message is gilmsg.publish
    stars = {}
    exec("from gilmsg import *", stars)  # noqa: S102  # that is what is tested
    assert all(stars[name] is one for name, one in found.items())
    print("same")


def strict(config):
    """Where each warning is an error, ours are none; those of what the program itself does are."""
    import gilmsg

    receipt = gilmsg.publish(topic="t", msg={}, recipients=["alice"], **json.loads(config))
    gilmsg.tail_messages().close()
    assert issubclass(gilmsg.GilmsgConsumer, gilmsg.consumers.FedmsgConsumer)
    try:
        gilmsg.config.load_config()
    except DeprecationWarning:
        print(list(receipt.acks))


def guessed(config):
    """A user's module: it publishes, and prints the topic that comes of it."""
    scope = {"__name__": "mymodule", "config": json.loads(config)}
    code = "import gilmsg; print(gilmsg.publish(topic='t', msg={}, recipients=['alice'], **config).topic)"
    exec(code, scope)  # noqa: S102  # a module of another name


def in_threads(config):
    """What is loaded, and started, on first use is there for whoever asks for it first."""
    import gilmsg

    start = threading.Barrier(4)

    def publish():
        start.wait()
        receipt = gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **json.loads(config))
        sys.stdout.write(f"{list(receipt.acks)}\n")

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def at_exit(config):
    import gilmsg

    config = json.loads(config)
    gilmsg.init(**config)
    plain = dict(topic="t", msg={}, pre_fire_hook=lambda message: print(message["topic"]), **config)
    atexit.register(gilmsg.publish, **plain)


globals()[sys.argv[1]](*sys.argv[2:])
