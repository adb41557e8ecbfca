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
from .helpers import python

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


def test_fedmsg_consumer_is_offered_too():
    """gilmsg.consumers is our own module and holds both classes."""
    from fedmsg.consumers import FedmsgConsumer

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


def test_importing_gilmsg_does_not_import_moksha(tmp_path):
    """moksha is loaded on first use of GilmsgConsumer only, and logging is left alone."""
    code = (
        "import logging, sys, gilmsg\n"
        "print([m for m in sys.modules if m.startswith('moksha.')], logging.getLogger().handlers)"
    )
    assert python(code, tmp_path).stdout.strip() == "[] []"


#: Lower layers never import higher ones.
LAYERS = [
    {"errors", "_version", "_files", "_receipt", "_caller", "_inherited", "_callbacks", "_message"},
    {"_acks", "_pki", "_ports"},
    {"_ledger", "_settings", "_presence", "_keypair", "_sockets", "_process"},
    {"_chain", "_links"},
    {"_trust", "_listener", "_outlet"},
    {"_bus", "_sight"},
    {"_acknowledge", "_pending"},
    {"_publish", "_tail", "consumers"},
    {"__init__", "_standin", "sandbox"},
    {"commands"},
]


def test_imports_point_downwards():
    """Each module imports only what lies in a lower layer."""
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    for path in sorted(HERE.rglob("*.py")):
        name = "commands" if path.parent.name == "commands" else path.stem
        if name == "commands":
            continue
        assert name in level, "%s belongs to no layer" % name
        for imported in imported_by(path):
            if imported in level and name != "__init__":
                assert level[imported] < level[name], "%s imports %s" % (name, imported)


def imported_by(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from [node.module] if node.module else [alias.name for alias in node.names]


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
                names = [node.module]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value]
            if any(n == library or n.startswith(library + ".") and " " not in n for n in names):
                found.add(path.stem)
    assert found <= users | {"logger"} and (not users or found)
