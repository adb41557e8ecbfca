"""gilmsg.metrics: what is counted, over a real bus; who serves it; the alert rules and the dashboard in docs/."""

import contextlib
import json
import re
import shutil
import signal
import sys
import threading
import urllib.request

import psutil
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import gilmsg
import gilmsg.metrics

from . import helpers, inside, processes
from .conftest import own_config
from .helpers import Hub, bound, frames, in_a_child, lost, publish, publish_async, sign, until_present, write_config
from .processes import REPOSITORY, Program, module, port_of, wait_for

DOCS = REPOSITORY / "docs"

#: For recipients that do not exist.
AT_ONCE = {"gilmsg.head_start": 0.0}


@pytest.fixture
def registry():
    """A registry that tells our metrics, all of them zero; in the end nobody counts."""
    found = CollectorRegistry()
    gilmsg.metrics.register(found)
    yield found
    inside.count_no_more()


@pytest.fixture
def value(registry):
    """The value of a sample in there, None where there is none."""
    return lambda name, **labels: registry.get_sample_value(name, labels)


def samples(registry, name):
    """The labels of all samples of that name, and their values."""
    return [(one.labels, one.value) for family in registry.collect() for one in family.samples if one.name == name]


def scraped(port):
    """What Prometheus gets at *port*: name and labels of each sample -> value; nothing until it is served."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    every = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {(one.name, *sorted(one.labels.values())): one.value for one in every}


def until_scraped(port, value, name, *labels, process=""):
    wait_for(lambda: scraped(port).get((name, *labels)) == value, f"{name} {labels} is {value}: {process}")


def free_port(bus):
    return port_of(bus.ports.endpoint())


def test_a_publisher_tells_what_was_confirmed(config, registry, value):
    """Messages by topic, who was missing and why, the seconds of each ACK, links, and the ends of certificates."""
    for _ in range(3):
        publish(["alice", "bob"], topic="one.two.three", modname="mod", **config)
    timeout = helpers.lost_when(lambda one: "alice" in one.acks, ["alice", "nobody"], topic="x", modname="mod", **AT_ONCE)
    lost_ones = value("gilmsg_messages_timed_out_total", topic="mod.x")
    assert value("gilmsg_messages_published_total", topic="mod.one") == 3
    assert value("gilmsg_messages_confirmed_total", topic="mod.one") == 3
    assert value("gilmsg_messages_timed_out_total", topic="mod.one") is None
    assert value("gilmsg_messages_published_total", topic="mod.x") == lost_ones >= 1
    code = timeout.missing["nobody"].code
    assert value("gilmsg_recipients_missing_total", topic="mod.x", recipient="nobody", code=code) == lost_ones
    assert value("gilmsg_ack_seconds_count") >= 7
    assert value("gilmsg_ack_seconds_bucket", le="+Inf") == value("gilmsg_ack_seconds_count")
    assert 0 < value("gilmsg_ack_seconds_sum") < 100
    assert value("gilmsg_messages_outstanding") == 0
    [alice] = config["endpoints"]["alice"]
    [hostile] = config["endpoints"]["hostile"]
    assert (value("gilmsg_link_up", endpoint=alice), value("gilmsg_link_up", endpoint=hostile)) == (1, 0)
    ends = {labels["kind"]: end for labels, end in samples(registry, "gilmsg_not_after_timestamp_seconds")}
    assert set(ends) == {"certificate", "ca", "crl"} and min(ends.values()) > 1_700_000_000
    assert samples(registry, "gilmsg_outbox_rows") == []


def test_what_is_on_its_way_is_told(bus, config, value):
    """A message whose ACK is awaited is outstanding, and no longer once it has ended."""
    bus.silent("bob")
    future = publish_async(["bob"], **{**config, "gilmsg.ack_timeout": 60.0})
    wait_for(lambda: value("gilmsg_messages_outstanding") == 1, "it is outstanding")
    gilmsg.destroy()
    with pytest.raises(gilmsg.ListenerError):
        future.result(30)
    assert value("gilmsg_messages_outstanding") == 0
    assert value("gilmsg_messages_published_total", topic="tests.t") == 1


def test_nothing_is_counted_before_somebody_registers(config):
    """Counting begins with register, at zero; to register twice, and with two registries, is as once."""
    publish(["alice"], **config)
    first, second = CollectorRegistry(), CollectorRegistry()
    try:
        for one in (first, first, second):
            gilmsg.metrics.register(one)
        assert samples(first, "gilmsg_messages_published_total") == []
        publish(["alice"])
        assert samples(first, "gilmsg_messages_published_total") == [({"topic": "tests.t"}, 1)]
        assert samples(second, "gilmsg_messages_published_total") == [({"topic": "tests.t"}, 1)]
    finally:
        inside.count_no_more()
    assert b"gilmsg_ack_seconds_count" in generate_latest(first)  # and it fails at nothing


def test_topics_and_recipients_are_few(config, registry):
    """depth says how many words of a topic count; past 200 topics, or recipients, it is "other": a scrape stays small."""
    gilmsg.metrics.register(registry, **{"gilmsg.metrics.depth": 3})
    gilmsg.init(**config)
    until_present("alice")
    futures = [publish_async(["alice"], topic=f"t{n}.a.b", modname="m", ack_timeout=60.0) for n in range(203)]
    for future in futures:
        future.result(60)
    topics = {labels["topic"]: number for labels, number in samples(registry, "gilmsg_messages_confirmed_total")}
    assert len(topics) == 201 and topics["other"] == 3 and topics["m.t199.a"] == 1
    timeout = lost([f"r{n}" for n in range(203)], topic="t0.a.b", modname="m", **AT_ONCE)
    assert len(timeout.missing) == 203
    missing = {labels["recipient"]: number for labels, number in samples(registry, "gilmsg_recipients_missing_total")}
    assert len(missing) == 201 and missing["other"] == 3


@pytest.mark.parametrize(
    "settings, told",
    [({"gilmsg.metrics.depth": 0}, "gilmsg.metrics.depth must be a whole number of at least 1; it is 0"),
     ({"gilmsg.metrics.dept": 3}, "there is no setting 'gilmsg.metrics.dept'")],
)  # fmt: skip
def test_bad_settings_are_refused(settings, told):
    """By register, naming key and value; a publish looks at them, too."""
    with pytest.raises(gilmsg.ConfigurationError, match=re.escape(told)):
        gilmsg.metrics.register(CollectorRegistry(), **settings)
    with pytest.raises(gilmsg.ConfigurationError, match=re.escape(told)):
        publish(["alice"], endpoints={}, **settings)


def test_shared_files_of_prometheus_are_refused(monkeypatch):
    """Under PROMETHEUS_MULTIPROC_DIR nothing of ours would be told: register says so."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/tmp")
    with pytest.raises(gilmsg.ConfigurationError, match="PROMETHEUS_MULTIPROC_DIR.*each process"):
        gilmsg.metrics.register(CollectorRegistry())


def test_a_forked_child_counts_from_zero(config, registry, value):
    """What the parent counted only the parent tells; both go on by themselves."""
    publish(["alice"], **config)
    child = own_config_of_child(config)

    def job():
        if value("gilmsg_messages_published_total", topic="tests.t") is not None:
            return 2
        publish(["alice"], **child)
        return 0 if value("gilmsg_messages_confirmed_total", topic="tests.t") == 1 else 3

    assert in_a_child(job) == 0
    assert value("gilmsg_messages_confirmed_total", topic="tests.t") == 1


def own_config_of_child(config):
    """A port of its own, which the bus knows."""
    return {**config, "name": "hostile", "certnames": {**config["certnames"], "hostile": "publisher"}}


def test_an_engine_that_fails_is_counted(config, value, caplog):
    """An ACK listener that died and was started anew is a restart; one that destroy() ended is none."""
    publish(["alice"], **config)
    gilmsg.destroy()
    publish(["alice"], **config)
    assert value("gilmsg_listener_restarts_total") == 0
    inside.kill_engine(RuntimeError("for a test"))
    assert value("gilmsg_messages_outstanding") == 0  # no engine: nothing is on its way
    publish(["alice"])
    assert value("gilmsg_listener_restarts_total") == 1
    assert value("gilmsg_messages_confirmed_total", topic="tests.t") == 3


def test_a_consumer_tells_of_its_acks_and_of_what_it_drops(bus, value, tmp_path):
    """ACKs sent, ACKs that its certificate no longer allows, and frames dropped, by reason."""
    keys = shutil.copytree(bus.config["ssldir"], tmp_path / "pki")
    carol = own_config(bus, name="carol", validate_signatures=True, ssldir=str(keys))
    good = [sign(carol, "alice", helpers.compose("x.y", helpers.marked({}, ["carol"]))) for _ in range(2)]
    with bound(carol["endpoints"]["hostile"][0]) as neighbour, gilmsg.tail_messages(topic="x.y", **carol) as tail:
        helpers.heard(neighbour, helpers.announcement("x.y", "carol"))
        neighbour.send_multipart([b"x.y", b"no json"])
        neighbour.send_multipart(frames({**good[0], "msg": {"changed": 1}}))
        neighbour.send_multipart(frames(good[0]))
        assert next(tail)[3]["msg_id"] == good[0]["msg_id"]
        assert (value("gilmsg_acks_sent_total"), value("gilmsg_acks_failed_total")) == (1, 0)
        assert value("gilmsg_frames_dropped_total", reason="malformed") == 1
        assert value("gilmsg_frames_dropped_total", reason="signature") == 1
        inside.authority(tmp_path / "other").issue("carol", days=-1, folder=str(keys))
        inside.look_at_files()
        neighbour.send_multipart(frames(good[1]))
        assert next(tail)[3]["msg_id"] == good[1]["msg_id"]
        assert (value("gilmsg_acks_sent_total"), value("gilmsg_acks_failed_total")) == (1, 1)


def test_junk_on_the_ack_topic_is_counted(bus, config, value):
    """Frames for a message on its way that are no ACK are dropped by the listener, and told."""
    bus.silent("bob")
    with bound(config["endpoints"]["hostile"][0]) as neighbour:
        future = publish_async(["bob"], **{**config, "gilmsg.ack_timeout": 60.0})
        helpers.heard(neighbour, helpers.ack_topic(config).encode())
        wait_for(lambda: value("gilmsg_messages_outstanding") == 1, "it is outstanding")
        body = {"ack_msg_id": inside.awaited()[0], "ack_digest": 7}
        neighbour.send_multipart(frames(helpers.compose(helpers.ack_topic(config), body)))
        wait_for(lambda: value("gilmsg_frames_dropped_total", reason="answer") == 1, "it is counted")
        assert not future.done()
        gilmsg.destroy()


def test_a_scrape_at_any_time(config, registry):
    """Who reads while others publish gets whole metrics, and disturbs nobody."""
    gilmsg.init(**config)
    until_present("alice")
    over, faults = threading.Event(), []

    def scrape():
        while not over.is_set():
            try:
                generate_latest(registry)
            except Exception as error:  # noqa: BLE001  whatever it is
                faults.append(error)

    reader = threading.Thread(target=scrape)
    reader.start()
    try:
        futures = [publish_async(["alice"], topic=f"t{n}", modname="m", ack_timeout=60.0) for n in range(250)]
        for future in futures:
            future.result(60)
    finally:
        over.set()
        reader.join()
    assert faults == []
    assert sum(number for _, number in samples(registry, "gilmsg_messages_confirmed_total")) == 250


def test_a_deliverer_tells_of_its_outbox(config, registry, value, tmp_path):
    """How many rows wait, and for how long the oldest has; each attempt is a message. No deliverer, nothing told."""
    with contextlib.closing(gilmsg.outbox.Outbox(str(tmp_path / "outbox.sqlite"))) as box:
        for recipient in ("nobody", "alice"):
            box.put(topic="t", msg={}, recipients=[recipient], **config)
        with box.transaction() as connection:
            connection.execute(box.tables.messages.update().values(created=box.tables.messages.c.created - 100))
        assert value("gilmsg_outbox_rows") is None
        box.start(**{**config, "gilmsg.head_start": 1.0, "gilmsg.outbox.ack_timeout": 2.0})
        wait_for(lambda: value("gilmsg_outbox_rows") in (1, 2), "it is told")
        assert 100 <= value("gilmsg_outbox_oldest_seconds") < 1000
        wait_for(lambda: value("gilmsg_messages_confirmed_total", topic="tests.t") == 1, "alice's is confirmed")
        box.stop()
        assert value("gilmsg_outbox_rows") is None and value("gilmsg_outbox_oldest_seconds") is None


@pytest.mark.slow
def test_the_commands_serve_metrics(bus, config, tmp_path):
    """gilmsg-tail and gilmsg-outbox run with --metrics-port, on loopback; Prometheus's own metrics are there, too."""
    ports = free_port(bus), free_port(bus)
    write_config(tmp_path, own_config(bus, name=None))
    tail = ["gilmsg.commands.tail", "--name", "carol", "--metrics-port", str(ports[0])]
    deliverer = ["gilmsg.commands.outbox", "run", "--name", "publisher", "--database", "outbox.sqlite"]
    deliverer += ["--metrics-port", f"127.0.0.1:{ports[1]}"]
    commands = [Program([sys.executable, "-m", *words], tmp_path) for words in (tail, deliverer)]
    with commands[0] as tailing, commands[1] as delivering:
        with contextlib.closing(gilmsg.outbox.Outbox(str(tmp_path / "outbox.sqlite"))) as box:
            box.put(topic="t", msg={}, recipients=["carol"], **config)
        until_scraped(ports[0], 1, "gilmsg_acks_sent_total", process=tailing)
        until_scraped(ports[1], 1, "gilmsg_messages_confirmed_total", "tests.t", process=delivering)
        assert "process_start_time_seconds" in {name for name, *_ in scraped(ports[0])}
        served = [one.laddr for one in psutil.Process(tailing.pid).net_connections() if one.laddr.port == ports[0]]
        assert {address.ip for address in served} == {"127.0.0.1"}
        for one in (tailing, delivering):
            one.send(signal.SIGTERM)
            assert one.end() == 0, one


@pytest.mark.slow
@pytest.mark.parametrize("command", [["tail", "--name", "carol"], ["outbox", "run", "--name", "publisher", "--database", "x"]])
def test_the_commands_refuse_in_one_line(bus, tmp_path, command):
    """A port that is none, one that is taken, and prometheus_client that is missing: exit status 2."""
    write_config(tmp_path, own_config(bus, name=None))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "prometheus_client.py").write_text("raise ImportError('not here')")
    with bound("tcp://127.0.0.1:" + str(free_port(bus))) as taken:
        port = port_of(taken.last_endpoint.decode())
        for where, told, env in [
            ("nonsense", "--metrics-port must be a port from 1 to 65535", {}), ("70000", "it is '70000'", {}),
            (str(port), f"metrics cannot be served at port {port} of 127.0.0.1", {}),
            ("1:2:3", "it is '1:2:3'", {}),
            ("9100", "pip install 'gilmsg[metrics]'", {"PYTHONPATH": f"{tmp_path / 'none'}:{REPOSITORY}"}),
        ]:  # fmt: skip
            words = [f"gilmsg.commands.{command[0]}", *command[1:], "--metrics-port", where]
            done = module(*words, cwd=tmp_path, env=env)
            assert done.returncode == 2 and done.stdout == "", done
            assert len(done.stderr.splitlines()) == 1 and told in done.stderr, done.stderr


def test_without_prometheus_client_the_import_says_what_to_install(tmp_path):
    """And nothing else of gilmsg needs it."""
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('not here')")
    code = "import gilmsg, sys\nsys.path.insert(0, '.')\ntry: gilmsg.metrics\nexcept ImportError as error: print(error)"
    done = processes.python(code, tmp_path)
    assert done.stdout == "gilmsg.metrics needs prometheus_client: pip install 'gilmsg[metrics]'\n", done.stderr


def test_a_hub_serves_metrics_by_its_key(bus, tmp_path):
    """Once per process, however many consumers it has; with a depth of its own."""
    port = free_port(bus)
    settings = {"gilmsg.metrics.port": port, "gilmsg.metrics.depth": 1, "second.enabled": True}
    with Hub(tmp_path / "hub", own_config(bus, name="carol", **settings), ["First", "Second"]) as hub:
        publish(["carol"], **{**own_config(bus), "gilmsg.ack_timeout": 20.0})
        until_scraped(port, 2, "gilmsg_acks_sent_total", process=hub)
        assert "ERROR" not in hub.out() and "Traceback" not in hub.out(), hub


def test_a_hub_serves_metrics_by_the_environment(bus, tmp_path, monkeypatch):
    """The variable counts where no file says anything, and over what a file says."""
    port = free_port(bus)
    monkeypatch.setenv("GILMSG_METRICS_PORT", str(port))
    settings = {"gilmsg.metrics.port": free_port(bus)}
    with Hub(tmp_path / "hub", own_config(bus, name="carol", **settings), ["First"]) as hub:
        publish(["carol"], **{**own_config(bus), "gilmsg.ack_timeout": 20.0})
        until_scraped(port, 1, "gilmsg_acks_sent_total", process=hub)


def test_a_hub_whose_metrics_port_is_taken_consumes(bus, tmp_path):
    """Its consumers matter more: an ERROR says that nothing is served."""
    with bound("tcp://127.0.0.1:" + str(free_port(bus))) as taken:
        port = port_of(taken.last_endpoint.decode())
        settings = {"gilmsg.metrics.port": f"127.0.0.1:{port}"}
        with Hub(tmp_path / "hub", own_config(bus, name="carol", **settings), ["First"]) as hub:
            publish(["carol"], **{**own_config(bus), "gilmsg.ack_timeout": 20.0})
            hub.wait_for(f"gilmsg.metrics.port: metrics cannot be served at port {port}")


def names(registry):
    """The names of all samples that there can be."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
    return {family.name + suffix for family in registry.collect() for suffix in suffixes[family.type]}


def test_rules_and_dashboard_ask_for_what_there_is(registry, tmp_path):
    """Every metric named in the alert rules and in the dashboard exists; promtool, where it is at hand, finds no fault."""
    rules = [rule for group in yaml.safe_load((DOCS / "gilmsg-alerts.yml").read_text())["groups"] for rule in group["rules"]]
    assert len(rules) > 5
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"} and "summary" in rule["annotations"], rule
    panels = json.loads((DOCS / "gilmsg-dashboard.json").read_text())["panels"]
    asked = [rule["expr"] for rule in rules] + [one["expr"] for panel in panels for one in panel["targets"]]
    used = set(re.findall(r"\bgilmsg_\w+", " ".join(asked)))
    assert used <= names(registry), used - names(registry)
    known = {family.name for family in registry.collect()}
    assert {name for name in known if not any(one.startswith(name) for one in used)} == set()  # and all of them are of use
    if shutil.which("promtool"):
        plain = [one.replace("$__rate_interval", "5m").replace("$instance", ".*") for one in asked]
        every = {"groups": [{"name": "all", "rules": [{"record": f"r:{n}", "expr": one} for n, one in enumerate(plain)]}]}
        (tmp_path / "all.yml").write_text(yaml.safe_dump(every))
        for path in (DOCS / "gilmsg-alerts.yml", tmp_path / "all.yml"):
            done = processes.run(["promtool", "check", "rules", str(path)])
            assert done.returncode == 0, done.stdout + done.stderr
