"""Contexts of fedmsg with our publisher in them: names, certificates, the handle, the end."""

import socket
import types

import fedmsg
import pytest

from gilmsg import _engine, _settings
from gilmsg._client import context, names
from gilmsg._client.context import SharedPublisher, destroy, init
from gilmsg.errors import ConfigurationError, EndpointError, ListenerError

#: load_config, which reads the files, says that it is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

HOST = socket.gethostname().partition(".")[0]


class FakePort:
    """A port that notes what it is told."""

    def __init__(self, address, book, config, preferred=""):
        self.address, self.book, self.preferred = address, book, preferred
        self.alive, self.age, self.sent, self.shared, self.endpoint = True, 0.0, [], False, "tcp://127.0.0.1:1"

    def plain(self, parts):
        self.sent.append(parts)

    def close(self):
        self.alive = False


@pytest.fixture
def opened(monkeypatch):
    """The ports that were opened, none of them real."""
    ports = []

    def publisher(*arguments, **named):
        ports.append(FakePort(*arguments, **named))
        return ports[-1]

    monkeypatch.setattr(_engine, "publisher", publisher)
    return ports


def test_a_handle_opens_its_port_once(opened, config):
    """It asks for a listener when somebody awaits ACKs, and then keeps that, whoever asks."""
    made = init(**config)
    assert [port.book for port in opened] == [None]
    assert made.publisher.port() is opened[0]
    port = context.port(made)
    assert port is opened[1] and port.book.publishing == {name: list(where) for name, where in config["endpoints"].items()}
    assert opened[0].alive, "somebody may be using it; it is closed with the last that does"
    assert context.port(made) is made.publisher.port() is port and len(opened) == 2


def test_a_changed_bus_gets_another_listener_and_an_ended_port_another(opened, config):
    """A context's configuration is a dict: anybody may change it; another thread's destroy(), or a fork, ends a port."""
    made = init(**config)
    former = context.port(made)
    made.c["endpoints"]["new"] = "tcp://127.0.0.1:2"
    assert made.publisher.port() is former
    port = context.port(made)
    assert port is not former and "new" in port.book.publishing and not former.alive
    port.alive = False
    assert made.publisher.port().book is None
    made.publisher.close()
    with pytest.raises(ListenerError, match=r"the publisher is closed, by destroy\(\) for example; nothing was sent"):
        made.publisher.send_multipart([b"t", b"{}"])


@pytest.mark.parametrize("sleep, age, slept", [(0.5, 0.2, 0.3), (0.5, 0.7, 0.0), (None, 0.0, 0.0), (0, 0.0, 0.0)])
def test_a_plain_message_waits_for_the_age_of_its_socket(opened, config, monkeypatch, sleep, age, slept):
    """Until post_init_sleep after its birth, on the caller's thread."""
    publisher, waits = init(**dict(config, post_init_sleep=sleep)).publisher, []
    monkeypatch.setattr(context, "time", types.SimpleNamespace(sleep=waits.append))  # there only: other threads sleep, too
    opened[0].age = age
    publisher.send_multipart([b"t", b"{}"], flags=1)
    assert opened[0].sent == [[b"t", b"{}"]] and waits == pytest.approx([slept])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"zmq_enabled": False}, "zmq_enabled is False; gilmsg needs ZeroMQ"),
        ({"mute": True}, "mute is True: this context cannot publish"),
        (
            {"name": "nobody"},
            "the name 'nobody', so it has no port to publish on; declare one, or set name to one of: me, other",
        ),
        ({"name": None}, r"endpoints has no entry for the name (None|'tests\.)"),
        ({"name": "x", "endpoints": {}}, "so it has no port to publish on; declare one$"),
        (
            {"active": True, "name": "relay_inbound"},
            "active is True, but 'relay_inbound' does not say where the relay is; set it to its endpoint",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:fedmsg is not configured")
def test_who_cannot_publish_is_told_why(config, changes, words):
    """By the configuration alone, and of the context that it makes."""
    changed = dict(config, **changes)
    with pytest.raises(ConfigurationError, match=words):
        context.require_publisher(changed)
    with pytest.raises(ConfigurationError, match=words):
        context.publisher(context.context(changed))


@pytest.mark.parametrize(
    "config, expected",
    [
        ({"name": "me"}, "me"), ({}, f"caller.{HOST}"), ({"name": ""}, f"caller.{HOST}"),
        ({"active": True}, "relay_inbound"),
    ],
)
def test_the_name_that_fedmsg_would_guess(config, expected):
    """The given one, the caller's with the host's, or the relay's; the configuration stays as it is."""
    before = dict(config)
    assert names.named_after(config, "caller")["name"] == expected
    assert config == before
    assert names.named_after({}, "fedmsg")["name"] is None


@pytest.mark.parametrize(
    "config",
    [
        {"name": "me", "certnames": {"me": "cert"}},
        {"name": "relay_inbound", "certnames": {f"shell.{HOST}": "cert"}},
        {"name": "me", "cert_prefix": "app", "certnames": {f"app.{HOST}": "cert"}},
    ],
)
def test_the_certificate_that_fedmsg_would_choose(config):
    """By the name, the shell's for a relay, or cert_prefix and host."""
    assert names.certname(config) == "cert"
    with pytest.raises(ConfigurationError, match="sign_messages is on, but certnames has no entry for '.*'; add one"):
        names.certname(dict(config, certnames=None))


def test_the_caller_is_found_through_wrappers():
    """It is the first frame that is neither fedmsg's nor ours."""
    frames = {"fedmsg": fedmsg, "calling_module": names.calling_module}
    assert names.calling_module() == "tests"
    for name, expected in (("gilmsg.x", "tests"), ("fedmsg", "tests"), ("gilmsgs", "gilmsgs")):
        scope = dict(frames, __name__=name)
        exec("found = calling_module()", scope)  # noqa: S102
        assert scope["found"] == expected


def test_init_and_destroy(config, endpoint):
    """fedmsg shares the context; destroy() gives the port back, and the next init takes it again."""
    for _ in range(2):
        made = init(**config)
        assert made is context.current() is context.context({}) is getattr(fedmsg.__local, "__context")
        assert made.publisher.port().endpoint == endpoint
        with pytest.raises(ValueError, match="fedmsg already initialized"):
            init(**config)
        destroy()
        assert context.current() is None and made.context is None and made.publisher is None
        socket.create_server(("127.0.0.1", _settings.port(endpoint))).close()
        with pytest.raises(ListenerError, match=r"closed, by destroy\(\) for example"):
            context.port(made)


def test_a_port_that_is_taken(config, endpoint):
    """It is an EndpointError, hence an IOError as with fedmsg, and there is no context."""
    message = "none of the endpoints declared for the name 'me' can be bound"
    with socket.create_server(("127.0.0.1", _settings.port(endpoint))), pytest.raises(EndpointError, match=message) as raised:
        init(**config)
    assert isinstance(raised.value, OSError) and context.current() is None
    assert init(**config).publisher.port().endpoint == endpoint


def test_a_context_of_plain_fedmsg_is_taken_over(config, endpoint):
    """Its publisher is replaced by ours, at the same of its endpoints."""
    _settings.replace({"endpoints": {}})
    with socket.socket() as other:  # the first is not free
        other.bind(("127.0.0.1", 0))
        other.listen()
        config["endpoints"]["me"].insert(0, f"tcp://127.0.0.1:{other.getsockname()[1]}")
        plain = fedmsg.init(**config)
    assert context.context({}) is plain and isinstance(plain.publisher, SharedPublisher)
    assert context.port(plain).endpoint == endpoint


def test_a_context_that_was_destroyed_by_itself(config):
    """context.destroy() leaves a context without a publisher: the way out is named."""
    init(**config).destroy()
    with pytest.raises(ConfigurationError, match=r"call gilmsg.destroy\(\) and initialize it again"):
        context.port(context.current())


def test_the_user_is_told_even_where_no_database_knows_him(monkeypatch):
    """A container may run us under an id that has no name."""

    def unknown():
        raise KeyError("uid not found")

    monkeypatch.setattr(names.getpass, "getuser", unknown)
    assert names.username(4711) == "4711"
    names.username.cache_clear()
