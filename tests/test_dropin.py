"""`import gilmsg` takes the place of `import fedmsg`."""

import json
import os

import fedmsg
import pytest
from fedmsg.consumers import FedmsgConsumer

import gilmsg
from gilmsg import testing

from . import inside
from .conftest import own_config
from .helpers import in_threads, subscriber
from .processes import program, wait_for


def test_every_public_name_of_fedmsg_is_here():
    """What fedmsg offers, gilmsg offers; __local is the very same object."""
    for name in fedmsg.__all__:
        assert hasattr(gilmsg, name), name
    assert getattr(gilmsg, "__local") is getattr(fedmsg, "__local")
    for module in ("config", "core", "crypto", "encoding", "utils", "replay"):
        assert getattr(gilmsg, module) is getattr(fedmsg, module)
    assert not hasattr(gilmsg, "no_such_name")
    assert {"publish", "check", "GilmsgConsumer", "__version__"} <= set(dir(gilmsg))


def test_fedmsg_consumer_is_offered_too(monkeypatch):
    """gilmsg.consumers is our own module and holds both classes; nobody needs to have imported it."""
    monkeypatch.delattr(gilmsg, "consumers", raising=False)  # another test may have
    assert gilmsg.consumers.FedmsgConsumer is FedmsgConsumer
    assert issubclass(gilmsg.GilmsgConsumer, FedmsgConsumer)


def test_a_message_without_recipients_is_what_fedmsg_sends(config, caplog):
    """Byte for byte, but for id, time and signature; and a warning, once per topic."""
    config["endpoints"]["publisher"] = config["endpoints"]["publisher"][:1]
    with subscriber(*config["endpoints"]["publisher"], topics=(b"", b"the reader")) as reader:
        gilmsg.init(**config)
        wait_for(lambda: inside.subscribed_to_just("the reader"), "the reader is connected")
        got = []
        for module in (gilmsg, fedmsg, gilmsg):
            assert module.publish(topic="plain", msg={"b": 1, "a": [2]}, modname="m") is None
            assert reader.poll(20000)
            got.append(normal(reader.recv_multipart()))
    assert got[0] == got[1]
    assert len([r for r in caplog.records if "without recipients" in r.getMessage()]) == 1


def normal(frames):
    """The frames, with what differs from message to message blanked."""
    topic, body = frames
    message = json.loads(body)
    for key in ("msg_id", "timestamp", "signature", "i"):
        assert key in message
        message[key] = None
    return topic, json.dumps(message), list(json.loads(body))


def test_name_and_modname_are_the_callers(bus, tmp_path):
    """The caller's module names topic and endpoint, never gilmsg."""
    config = own_config(bus, name=None)
    name = "mymodule." + os.uname().nodename.partition(".")[0]
    config["endpoints"][name] = config["endpoints"]["publisher"]
    config["certnames"][name] = "publisher"
    done = program("dropin", "guessed", config, cwd=tmp_path)
    assert done.stdout.strip() == "org.example.dev.mymodule.t", done.stderr


def test_where_warnings_are_errors(config, tmp_path):
    """What fedmsg and moksha have to say of themselves comes out of none of our calls and imports."""
    done = program("dropin", "strict", config, cwd=tmp_path, flags=["-W", "error"])
    assert done.stdout == "['alice']\n", done.stderr


def test_where_no_module_called(bus, tmp_path):
    """At exit no module of the user's is on the stack: the message is fedmsg's then, as with fedmsg."""
    done = program("dropin", "at_exit", bus.config, cwd=tmp_path, flags=["-W", "ignore"])
    assert done.stdout.splitlines() == ["org.example.dev.fedmsg.t"], done.stderr


def test_contexts_of_every_kind_are_put_aside_and_closed():
    """By gilmsg.testing; also one that publishes nothing, one that fedmsg has destroyed, and one of another thread."""
    with testing.Buses() as buses, buses.bus(["r1"]):
        gilmsg.init(mute=True)
        fedmsg.destroy()  # leaves None in its place
        contexts = [gilmsg.init(mute=True), *in_threads(lambda: gilmsg.init(mute=True))]
    assert [one.context for one in contexts] == [None, None]


def test_a_first_use_in_threads(bus, tmp_path):
    """Where several threads of a program use gilmsg first, it works as if everything had been loaded before."""
    done = program("dropin", "in_threads", own_config(bus, **{"gilmsg.head_start": 20.0}), cwd=tmp_path)
    assert done.stdout == "['alice']\n" * 4, done.stderr


@pytest.mark.parametrize("order", ["fedmsg gilmsg", "gilmsg fedmsg", "fedmsg.crypto gilmsg"])
def test_crypto_is_on_in_whatever_order(tmp_path, order):
    """Importing gilmsg turns fedmsg's own crypto on, before or after fedmsg is imported."""
    assert program("dropin", "crypto", *order.split(), cwd=tmp_path).stdout.strip() == "True"


def test_without_crypto_libraries_nothing_goes_out_unsigned(bus, tmp_path):
    """Where the crypto libraries do not load, publish is a ConfigurationError that says so."""
    done = program("dropin", "without_crypto", bus.config, cwd=tmp_path)
    assert "crypto_ng" in done.stdout, done.stdout + done.stderr


def test_an_import_loads_little_beyond_fedmsg(tmp_path):
    """An import of gilmsg is one of fedmsg and of a few small modules of ours; it leaves logging alone."""
    loaded, handlers = json.loads(program("dropin", "loaded", cwd=tmp_path).stdout)
    assert handlers == [] and len(loaded) <= 12
    assert [name for name in loaded if name.partition(".")[0] != "gilmsg"] == []


def test_what_is_loaded_later_is_found(tmp_path):
    """What is loaded on first use is public, and the same object at every access; only GilmsgConsumer needs moksha."""
    done = program("dropin", "later", cwd=tmp_path, flags=["-W", "ignore"])
    assert done.stdout.strip() == "same", done.stderr
