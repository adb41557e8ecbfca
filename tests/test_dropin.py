"""`import gilmsg` takes the place of `import fedmsg`; the modules keep to their layers."""

import ast
import json
import os
import pathlib

import fedmsg
import pytest
import zmq

import gilmsg

from .conftest import own_config
from .processes import python

HERE = pathlib.Path(gilmsg.__file__).parent


def test_every_public_name_of_fedmsg_is_here():
    """What fedmsg offers, gilmsg offers; __local is the very same object."""
    for name in fedmsg.__all__:
        assert hasattr(gilmsg, name), name
    assert getattr(gilmsg, "__local") is getattr(fedmsg, "__local")
    for module in ("config", "core", "crypto", "encoding", "utils", "replay"):
        assert getattr(gilmsg, module) is getattr(fedmsg, module)
    with pytest.raises(AttributeError):
        gilmsg.no_such_name
    assert {"publish", "check", "GilmsgConsumer", "__version__"} <= set(dir(gilmsg))


def test_fedmsg_consumer_is_offered_too(monkeypatch):
    """gilmsg.consumers is our own module and holds both classes; nobody needs to have imported it."""
    from fedmsg.consumers import FedmsgConsumer

    monkeypatch.delattr(gilmsg, "consumers", raising=False)  # another test may have
    assert gilmsg.consumers.FedmsgConsumer is FedmsgConsumer
    assert issubclass(gilmsg.GilmsgConsumer, FedmsgConsumer)


def test_a_message_without_recipients_is_what_fedmsg_sends(bus, config, caplog):
    """Byte for byte, but for id, time and signature; and a warning, once per topic."""
    reader = zmq.Context.instance().socket(zmq.SUB)
    reader.subscribe(b"")
    reader.connect(config["endpoints"]["publisher"][0])
    config["endpoints"]["publisher"] = config["endpoints"]["publisher"][:1]
    try:
        gilmsg.init(**config)
        got = []
        for module in (gilmsg, fedmsg, gilmsg):
            assert module.publish(topic="plain", msg={"b": 1, "a": [2]}, modname="m") is None
            assert reader.poll(5000)
            got.append(reader.recv_multipart())
    finally:
        reader.close(linger=0)
    ours, theirs = [normal(frames) for frames in got[:2]]
    assert ours == theirs
    warnings = [r for r in caplog.records if "without recipients" in r.getMessage()]
    assert len(warnings) == 1


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
    host = os.uname().nodename.partition(".")[0]
    config["endpoints"]["mymodule." + host] = config["endpoints"]["publisher"]
    config["certnames"]["mymodule." + host] = "publisher"
    (tmp_path / "mymodule.py").write_text(
        "import gilmsg\n"
        "def go(config):\n"
        "    print(gilmsg.publish(topic='t', msg={}, recipients=['alice'], **config).topic)\n"
    )
    code = "import sys, json; sys.path.insert(0, '.'); import mymodule; mymodule.go(json.loads(sys.argv[1]))"
    done = python(code, tmp_path, json.dumps(config))
    assert done.stdout.strip() == "org.example.dev.mymodule.t", done.stderr


def test_where_no_module_called(bus, tmp_path):
    """At exit no module of the user's is on the stack: the message is fedmsg's then, as with fedmsg; so is a name."""
    code = (
        "import atexit, json, sys, warnings, gilmsg\n"
        "config = json.loads(sys.argv[1])\n"
        "print(config['name'])\n"
        # Without recipients: for ACKs it would have to start a thread, which Python 3.12 no longer does by then.
        "atexit.register(gilmsg.publish, topic='t', msg={}, pre_fire_hook=lambda m: print(m['topic']), **config)\n"
        "atexit.register(gilmsg.destroy)\n"
        "warnings.simplefilter('ignore')\n"
        "atexit.register(gilmsg.init, **dict(config, name=None))\n"
        "atexit.register(lambda: print('exit'))\n"
    )
    done = python(code, tmp_path, json.dumps(bus.config))
    assert done.stdout.splitlines() == ["publisher", "exit", "org.example.dev.fedmsg.t"], done.stderr


@pytest.mark.parametrize("order", ["fedmsg, gilmsg", "gilmsg, fedmsg", "fedmsg.crypto, gilmsg"])
def test_crypto_is_on_in_whatever_order(tmp_path, order):
    """Importing gilmsg turns fedmsg's own crypto on, before or after fedmsg is imported."""
    code = "import %s, fedmsg.crypto; print(fedmsg.crypto.x509._cryptography)" % order
    assert python(code, tmp_path).stdout.strip() == "True"


def test_without_crypto_libraries_nothing_goes_out_unsigned(bus, tmp_path):
    """Where the crypto libraries do not load, publish is a ConfigurationError that says so."""
    code = (
        "import sys, json\n"
        "sys.modules['OpenSSL'] = sys.modules['OpenSSL.crypto'] = None\n"
        "import gilmsg\n"
        "try:\n"
        "    gilmsg.publish(topic='t', msg={}, recipients=['alice'], **json.loads(sys.argv[1]))\n"
        "except gilmsg.ConfigurationError as error:\n"
        "    print(error)\n"
    )
    done = python(code, tmp_path, json.dumps(bus.config))
    assert "crypto_ng" in done.stdout, done.stdout + done.stderr


#: All that an import of gilmsg loads and one of fedmsg does not. Each costs every program that imports gilmsg;
#: what is needed at the first publish, or later, comes with that: see _LATER in gilmsg/__init__.py.
BEYOND_FEDMSG = {
    "gilmsg", "gilmsg._acks", "gilmsg._ending", "gilmsg._later", "gilmsg._reentry", "gilmsg._trust",
    "gilmsg._uninterrupted", "gilmsg._version", "gilmsg.errors",
}  # fmt: skip


def test_an_import_loads_little_beyond_fedmsg(tmp_path):
    """An import of gilmsg is one of fedmsg and of a few small modules of ours; it leaves logging alone."""
    code = (
        "import sys, fedmsg; before = set(sys.modules)\n"
        "import gilmsg, logging, json\n"
        "print(json.dumps([sorted(set(sys.modules) - before), logging.getLogger().handlers]))"
    )
    loaded, handlers = json.loads(python(code, tmp_path).stdout)
    assert (set(loaded), handlers) == (BEYOND_FEDMSG, [])


def test_what_is_loaded_later_is_found(tmp_path):
    """What is loaded on first use is public, and the same object at every access; only GilmsgConsumer needs moksha."""
    code = (
        "import sys, gilmsg\n"
        "assert set(gilmsg._LATER) < set(gilmsg.__all__) <= set(dir(gilmsg))\n"
        "gilmsg.publish_async, gilmsg.tail_messages, gilmsg.check\n"
        "assert not [name for name in sys.modules if name.startswith('moksha.')]\n"
        "found = {name: getattr(gilmsg, name) for name in gilmsg.__all__}\n"
        "assert all(vars(gilmsg)[name] is one for name, one in found.items())\n"
        "assert gilmsg.send_message is gilmsg.publish\n"
        "stars = {}\n"
        "exec('from gilmsg import *', stars)\n"
        "assert all(stars[name] is one for name, one in found.items())\n"
        "print('same')"
    )
    done = python(code, tmp_path, flags=["-W", "ignore"])
    assert done.stdout.strip() == "same", done.stderr


#: Lower layers never import higher ones.
LAYERS = [
    {"errors"},
    {"_version", "_uninterrupted", "_files", "_receipt", "_caller", "_own_sockets", "_rate_limit", "_report",
     "_wakeup", "_dates", "_fork", "_registry"},
    {"_message", "_acks", "_callbacks", "_reentry", "_config_files", "_config_types",
     "_inherited_sockets", "_outcome"},
    {"_ledger", "_settings", "_presence", "_keypair", "_sockets", "_later",
     "_descriptors"},
    {"_contexts", "_credentials", "_links", "_diagnosis", "_subscriptions", "_directory", "_judge"},
    {"_anchor", "_ack_socket"},
    {"_chain"},
    {"_trust", "_listener", "_outlet"},
    {"_listeners", "_outlets", "_visibility"},
    {"_bus", "_ending"},
    {"_acknowledge", "_pending", "_self_check", "_evidence", "_isolation"},
    {"_publish", "_tail", "_check", "consumers", "_meta"},
    {"__init__", "sandbox"},
    {"testing"},
    {"commands"},
]


def test_imports_point_downwards():
    """Each module imports, or names to load it later, only what lies in a lower layer."""
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    for path in sorted(HERE.rglob("*.py")):
        if path.parent.name in ("commands", "sandbox"):
            continue
        name = path.stem
        assert name in level, "%s belongs to no layer" % name
        for imported in imported_by(path):
            if imported in level and name != "__init__":
                assert level[imported] < level[name], "%s imports %s" % (name, imported)


def imported_by(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from [node.module] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value  # the name of what is loaded later


@pytest.mark.parametrize(
    "library, users",
    [("fedmsg.crypto", {"_trust"}), ("fedmsg.core", {"_bus"}), ("moksha", set())],
)
def test_internals_have_one_user(library, users):
    """fedmsg's internals are touched in one place each."""
    found = set()
    for path in sorted(HERE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module, *("%s.%s" % (node.module, alias.name) for alias in node.names)]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value]
            if any(n == library or n.startswith(library + ".") and " " not in n for n in names):
                found.add(path.stem)
    # gilmsg offers fedmsg's modules under its own name, and uses none of them there.
    assert found - {"__init__"} == users
