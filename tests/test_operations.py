"""What an operator relies on: keys in fedmsg.d, groups, the monitoring JSON, the log lines."""

import ast
import functools
import logging
import pathlib
import shutil

import fedmsg.config
import fedmsg.encoding
import pytest
import zmq

import gilmsg
from gilmsg import _settings

from . import talking as _process
from .conftest import own_config
from .helpers import CONSUMERS, REPOSITORY, Hub, Inbox, write_config
from .processes import python

SAMPLE = REPOSITORY / "fedmsg.d" / "gilmsg.py"

#: A producer as it was written for fedmsg; only the import was changed.
PRODUCER = '''
import gilmsg as fedmsg
try:
    receipt = fedmsg.publish(modname="compose", topic="finished", msg={"id": 7})
    print("plain" if receipt is None else sorted(receipt.acks))
except fedmsg.Timeout as timeout:
    print("missing", sorted(timeout.missing))
except fedmsg.ConfigurationError as error:
    print("refused", error)
'''


def produce(folder, environment=None):
    done = python(PRODUCER, folder, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PATIENT = {"gilmsg.ack_timeout": 5.0, "gilmsg.head_start": 20.0}


def test_a_producer_gains_the_guarantee_by_a_file(bus, config, tmp_path):
    """Without a change to its code a producer gets confirmations when a file lies in fedmsg.d."""
    write_config(tmp_path, config, "base.py")
    assert produce(tmp_path) == "plain"
    rules = {"org.example": ["nobody"], "org.example.dev.compose": ["alice", "bob"]}
    write_config(tmp_path, dict(PATIENT, **{"gilmsg.recipients": rules}), "gilmsg.py")
    assert produce(tmp_path) == "['alice', 'bob']"
    rules["org.example.dev.compose.finished"] = ["nobody,nobody2"]
    write_config(tmp_path, {"gilmsg.head_start": 0, "gilmsg.recipients": rules}, "gilmsg.py")
    assert produce(tmp_path) == "missing ['nobody,nobody2']"


@pytest.mark.parametrize(
    "key, value, named",
    [
        ("gilmsg.recipients", ["alice"], "['alice']"),
        ("gilmsg.recipients", {"org.other": "alice,"}, "'alice,'"),
        ("gilmsg.recipients", {"org.other": [None]}, "None"),
        ("gilmsg.recipients", {"org.other": 3}, "3"),
        ("gilmsg.recipients", {"": ["alice"]}, "''"),
        ("gilmsg.recipients", {7: ["alice"]}, "7"),
        ("gilmsg.recipients", {"org.other.*": ["alice"]}, "'org.other.*'"),
        ("gilmsg.recipients", {"org..other": ["alice"]}, "'org..other'"),
        ("gilmsg.recipients", {"org.other ": ["alice"]}, "'org.other '"),
        ("gilmsg.recipients", {"org.other": ["alice"], "org.other.": ["bob"]}, "'org.other'"),
        ("gilmsg.recipient", {"org.other": ["alice"]}, "these are: gilmsg.recipients, gilmsg.ack_timeout, gilmsg."),
        ("gilmsg.ack_timeout", "soon", "'soon'"),
        ("gilmsg.ack_timeout", 0, "0"),
        ("gilmsg.head_start", -1.5, "-1.5"),
        ("gilmsg.head_start", None, "None"),
    ],
)
def test_bad_values_in_fedmsg_d_are_refused(bus, config, key, value, named):
    """A bad value of any key, even where it would not match, is refused with key and value."""
    write_config(pathlib.Path("."), dict(config, **{key: value}), "base.py")
    inbox = Inbox(bus, "unusable")
    for recipients in (["alice"], None, []):
        with pytest.raises(gilmsg.ConfigurationError) as raised:
            gilmsg.publish(topic="unusable", msg={}, recipients=recipients)
        assert key in str(raised.value) and named in str(raised.value)
    gilmsg.destroy()
    setattr(fedmsg.config, "__cache", {})
    write_config(pathlib.Path("."), config, "base.py")
    later = dict(own_config(bus), topic="after.unusable", recipients=["alice"], ack_timeout=5.0)
    receipt = gilmsg.publish(msg={}, **later)
    assert [message["msg_id"] for message in inbox.messages()] == [receipt.msg_id]


def test_groups_in_python_and_in_configuration(bus, config):
    """A group is any_of() or a plain string, everywhere; Timeout tells of each of its members."""
    rules = {"gilmsg.recipients": {"org.example.dev.tests.t": ["alice,bob"]}}
    # Both are there from now on: of a group, the first that is present ends the head start.
    gilmsg.publish(topic="u", msg={}, recipients=["alice", "bob"], **dict(config, **PATIENT))
    bus.silent("alice")
    assert list(gilmsg.publish(topic="t", msg={}, ack_timeout=5.0, **rules).acks) == ["bob"]
    for group in (gilmsg.any_of("alice", "bob"), "alice,bob", ["alice, bob"]):
        receipt = gilmsg.publish(topic="t", msg={}, recipients=group, ack_timeout=5.0)
        assert list(receipt.acks) == ["bob"]
    with pytest.raises(gilmsg.Timeout) as raised:
        gilmsg.publish(topic="t", msg={}, recipients=["bob", "alice,nobody"], ack_timeout=1.0)
    assert list(raised.value.acks) == ["bob"]
    assert list(raised.value.missing) == ["alice,nobody"]
    sentence = raised.value.missing["alice,nobody"]
    assert sentence.startswith("alice: listening, but silent") and " | nobody: never connected" in sentence


def test_stock_fedmsg_prints_the_sample(bus, config, tmp_path):
    """fedmsg-config, which knows nothing of gilmsg, loads the shipped sample and prints its values."""
    write_config(tmp_path, config, "base.py")
    shutil.copy(str(SAMPLE), str(tmp_path / "fedmsg.d"))
    code = (
        "import sys; sys.modules['gilmsg'] = None\n"
        "from fedmsg.commands.config import config; sys.argv[1:] = []; config()"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    printed = fedmsg.encoding.loads(done.stdout)
    assert {key: printed[key] for key in _settings.KEYS} == sample()


def sample():
    variables = {}
    exec(SAMPLE.read_text(), variables)
    return variables["config"]


#: moksha reports every 5 s; a test has no time for that.
MONITORED = CONSUMERS + '''
import datetime
from moksha.hub.monitoring import MonitoringProducer
MonitoringProducer.frequency = datetime.timedelta(milliseconds=100)
'''


def test_the_monitoring_socket_tells_of_acks(bus, config, tmp_path):
    """acks_sent and acks_failed count what became of the ACKs, last_ack_error says why."""
    keys = tmp_path / "pki"
    shutil.copytree(config["ssldir"], str(keys))
    monitor = bus.ports.endpoint()
    hub = own_config(bus, name="carol", ssldir=str(keys), **{"moksha.monitoring.socket": monitor})
    with Hub(tmp_path / "hub", hub, ["First", "Second"], MONITORED), Monitor(monitor) as monitored:
        monitored.wait_for(acks_sent=0, acks_failed=0, last_ack_error=None)
        calm = dict(config, **PATIENT)
        gilmsg.publish(topic="t", msg={}, recipients=["carol"], **calm)
        gilmsg.publish(topic="t", msg={}, recipients=["carol"])
        monitored.wait_for(acks_sent=2, acks_failed=0, last_ack_error=None)
        bus.authority.issue("carol", days=-1, folder=str(keys))
        with pytest.raises(gilmsg.Timeout):
            gilmsg.publish(topic="t", msg={}, recipients=["carol"], ack_timeout=0.2)
        found = monitored.wait_for(acks_sent=2, acks_failed=1)
        assert "carol.crt" in found["last_ack_error"] and "expired" in found["last_ack_error"]
        assert found["exceptions"] == 0 and found["initialized"]
        # Registered, but disabled by configuration: moksha does not tell of such a one at all, or as idle.
        assert monitored.read("Second").get("acks_sent", 0) == 0


class Monitor:
    """Reads what moksha.monitoring.socket tells."""

    def __init__(self, endpoint):
        self._socket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.subscribe(b"")
        self._socket.connect(endpoint)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close(linger=0)

    def read(self, name="First"):
        assert self._socket.poll(20000), "the hub does not report"
        consumers = fedmsg.encoding.loads(self._socket.recv().decode())["consumers"]
        return {consumer["name"]: consumer for consumer in consumers}.get(name, {})

    def wait_for(self, **fields):
        def found():
            told = self.read()
            return all(told[key] == value for key, value in fields.items()) and told

        return _process.wait_for(found, "the hub reports %s" % fields)


def outcomes(caplog):
    """The log records that tell what became of a message."""
    return [record for record in caplog.records if hasattr(record, "msg_id")]


@pytest.mark.parametrize("way", ["publish", "publish_async"])
def test_a_publish_logs_one_line(bus, config, caplog, way):
    """Success is one DEBUG line, Timeout one WARNING, both with the same fields as extra."""
    caplog.set_level(logging.DEBUG, logger="gilmsg")
    gilmsg.init(**config)
    bus.silent("bob")

    def publish(**options):
        if way == "publish":
            return gilmsg.publish(topic="t", msg={}, **options)
        return gilmsg.publish_async(topic="t", msg={}, **options).result(30)

    receipt = publish(recipients=["alice"], ack_timeout=5.0)
    record = _process.wait_for(lambda: outcomes(caplog), "a line is logged")[0]
    assert (record.levelno, record.name) == (logging.DEBUG, "gilmsg._pending")
    assert (record.topic, record.msg_id) == (receipt.topic, receipt.msg_id)
    assert (record.acked, record.missing) == (["alice"], [])
    with pytest.raises(gilmsg.Timeout) as raised:
        publish(recipients=["alice", "bob,nobody"], ack_timeout=1.0)
    _process.wait_for(lambda: len(outcomes(caplog)) == 2, "a second line is logged")
    record = outcomes(caplog)[1]
    assert (record.levelno, record.name) == (logging.WARNING, "gilmsg._pending")
    assert record.msg_id == raised.value.msg_id and record.topic == raised.value.topic
    assert (record.acked, record.missing) == (["alice"], ["bob,nobody"])
    assert record.getMessage() == str(raised.value) and "\n" not in record.getMessage()
    assert len(outcomes(caplog)) == 2


def test_loggers_are_named_after_their_modules():
    """Each logger that gilmsg makes is its module's, so that levels can be set by module."""
    package = pathlib.Path(gilmsg.__file__).parent
    found = 0
    for path in sorted(package.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "getLogger":
                found += 1
                assert isinstance(node.args[0], ast.Name) and node.args[0].id == "__name__", path
    assert found > 5


def operations():
    text = (REPOSITORY / "README.rst").read_text()
    return text.partition("\nOperations\n----------\n")[2].partition("\nOn the wire\n")[0]


@pytest.mark.parametrize(
    "word",
    _settings.KEYS + ("acks_sent", "acks_failed", "last_ack_error", "routing_policy", "endpoints", "certnames"),
)
def test_readme_tells_every_key(word):
    """README's Operations names every key, and every field of the monitoring JSON."""
    assert word in operations()


def test_readme_tells_every_logger_that_warns():
    """README's Operations names every module that logs a warning or an error."""
    package = pathlib.Path(gilmsg.__file__).parent
    for path in sorted(package.glob("*.py")):
        if "log.warning(" in path.read_text() or "log.error(" in path.read_text():
            assert "``gilmsg.%s``" % path.stem in operations()


@pytest.mark.parametrize(
    "key, value, named",
    [
        ("topic_prefix", 3, "3"),
        ("environment", ["dev"], "['dev']"),
        ("endpoints", ["x"], "['x']"),
        ("endpoints", {"other": 5}, "endpoints['other']"),
        ("endpoints", {"other": ["tcp://127.0.0.1:1", None]}, "None"),
        ("endpoints", {"other": ["tcp://127.0.0.1:1", "tcp://host:99999"]}, "['other'] holds 'tcp://host:99999'"),
        ("endpoints", {"other": "tcp://host:http"}, "'tcp://host:http'; a tcp endpoint must end in a colon and a port"),
        ("endpoints", {"other": "tcp://host:0"}, "from 1 to 65535"),
        ("endpoints", {"other": "tcp://host"}, "'tcp://host'"),
        ("endpoints", {"other": "tcp://host:" + 5000 * "9"}, "a port"),
        ("relay_inbound", 5, "5"),
        ("relay_inbound", ["tcp://host:-1"], "'tcp://host:-1'"),
        ("endpoints", {5: ["tcp://127.0.0.1:1"]}, "endpoints[5] has a name that is no text"),
        ("certnames", ["alice"], "['alice']"),
        ("certnames", {"publisher": ["alice"]}, "{'publisher': ['alice']}"),
        ("ssldir", ["pki"], "['pki']"),
        ("name", ["publisher"], "['publisher']"),
        ("name", 5, "5"),
        ("io_threads", 0, "0"),
        ("io_threads", -1, "-1"),
        ("io_threads", 10**20, str(10**20)),
        ("io_threads", "many", "'many'"),
    ],
)
def test_a_value_of_fedmsg_that_cannot_be_used_is_refused(config, key, value, named):
    """A wrong value in one of fedmsg's keys is refused with key and value, by check in a line; nothing keeps it."""
    wrong = dict(config, **{key: value})
    publish = functools.partial(gilmsg.publish, topic="t", msg={}, recipients=["alice"])
    for call in (gilmsg.init, gilmsg.tail_messages, publish):
        with pytest.raises(gilmsg.ConfigurationError) as raised:
            call(**wrong)
        assert key in str(raised.value) and named in str(raised.value)
    if not (key == "endpoints" and isinstance(value, list)):  # then no file can be read beside it
        report = gilmsg.check(["alice"], **dict(config, **{key: value}))
        assert any(key in line and named in line for line in report.failures())
    gilmsg.init(**config)


def test_no_configuration_at_all_says_where_it_was_looked_for(tmp_path):
    """In an empty folder the refusal names the folders that fedmsg reads."""
    with pytest.raises(gilmsg.ConfigurationError, match="endpoints: .*%s" % (tmp_path / "fedmsg.d")):
        gilmsg.publish(topic="t", msg={}, recipients=["alice"])


def test_a_topic_that_is_no_text_is_refused(config):
    """What a command line makes of bytes that are no text cannot be a topic: it is named, and nothing is sent."""
    with pytest.raises(gilmsg.ConfigurationError, match=r"topic .*\\udcff.* is not valid text"):
        gilmsg.publish(topic="a\udcff", msg={}, recipients=["alice"], **config)
    for bad in ("a\udcff", b"a", 3, None):
        with pytest.raises(gilmsg.ConfigurationError, match="topic must be text"):
            gilmsg.tail_messages(topic=bad)
