"""The process as if it had initialized nothing, for a while: all is brought back, and what was opened is closed."""

import socket
import threading

import fedmsg
import pytest
import zmq

from gilmsg import _engine, _settings
from gilmsg._client import context, isolated
from gilmsg._client.context import init

#: load_config, which reads the files, says that it is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def other(config):
    """The configuration of another publisher."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    return dict(config, name="you", endpoints={"you": [endpoint]}, environment="prod")


def test_what_was_open_stays_and_what_was_opened_is_closed(config, other):
    """Publishers and listeners of before go on; those of meanwhile end, those of consumers too, in whatever thread."""
    former, ports, kept = context.port(init(**config)), [], _settings.kept()
    with isolated(other) as start_anew:
        assert context.current() is None and not _engine.running()
        ports.append(context.port(context.context({})))
        # As a GilmsgConsumer has one, which no context knows.
        consumer = context.SharedPublisher(context.require_publisher(other), other)
        ports.append(consumer.port())
        thread = threading.Thread(target=lambda: ports.append(context.context({}).publisher.port()))
        thread.start()
        thread.join()
        assert {port.address.name for port in ports} == {"you"}
        start_anew()
        assert context.current() is None and all(port.alive for port in ports)
        assert fedmsg.config.conf["environment"] == _settings.kept()["environment"] == "prod"
    assert not any(port.alive for port in ports)
    assert context.port(context.current()) is former and former.alive
    assert _settings.kept() is kept and fedmsg.config.conf.get("environment") != "prod"


def test_contexts_of_every_kind_are_closed(config):
    """Also one that publishes nothing, one that fedmsg has destroyed, and, in its own time, one that is still read."""
    reading, over, contexts = threading.Event(), threading.Event(), []

    def read():
        contexts.append(init(mute=True))
        with contexts[0].context.socket(zmq.SUB) as subscriber:
            subscriber.linger = 0
            reading.set()
            assert over.wait(30)

    thread = threading.Thread(target=read)
    with isolated(config):
        thread.start()
        assert reading.wait(30)
        init(mute=True)
        fedmsg.destroy()  # leaves None in its place
        contexts.append(init(mute=True))
    try:
        assert not contexts[0].context.closed
    finally:
        over.set()
        thread.join()
    assert contexts[1].context is None
    contexts[0].destroy()


def test_what_cannot_be_closed_spoils_nothing_else(config):
    """Though a context fails to close, the process is configured as it was, and all else is closed."""

    def fails():
        raise RuntimeError("on purpose")

    before = _settings.kept(), dict(fedmsg.config.conf), fedmsg.__local
    with pytest.raises(RuntimeError, match="on purpose"), isolated(config) as start_anew:
        contexts = [init(mute=True)]
        for mute in (False, True):
            start_anew()
            contexts.append(init(mute=mute))
        port = context.port(contexts[1])
        contexts[0].destroy, destroy = fails, contexts[0].destroy
    assert before == (_settings.kept(), dict(fedmsg.config.conf), fedmsg.__local)
    assert [one.context for one in contexts[1:]] == [None, None] and context.current() is None
    assert not port.alive and not _engine.running()
    destroy()
