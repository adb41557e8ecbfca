"""A bus whose publisher, recipients and relay are processes on hosts of their own."""

import functools
import pathlib
import socket
import time

from .. import inside
from ..helpers import Hub, write_config
from ..processes import Program, Whole, script, wait_for
from .hosts import Network, listens
from .talker import Talker

PORT = 9000
INBOUND = 9001

#: Seconds. So long after a link is back a publish succeeds, without a restart of anything; and what a busy machine is
#: forgiven: TCP by itself would wait for longer.
RECOVERY = 10.0
FORGIVEN = 5.0

#: The most that a process which has just been started may take to be seen, on a slow machine.
PATIENCE = 30.0


class World(Whole):
    """Made by the fixture ``world``; see conftest. Each name is a host, a process and a certificate.

    Args:
        relay: with a fedmsg-relay on the host ``relay``: publisher and recipients talk through it
            alone, in both directions, and cannot reach each other.
        down: recipients whose host is not up yet.
        hubs: recipients that are consumers in a fedmsg-hub.
    """

    def __init__(self, folder, authority, recipients, relay=False, down=(), hubs=()):
        self.folder = str(folder)
        self.recipients = list(recipients)
        self.relay = relay
        self.down = list(down)
        self.hubs = {name: None for name in hubs}
        self.network = Network(["publisher"] + self.recipients + (["relay"] if relay else []))
        self.config = self._configuration(authority)
        self.talkers = {}
        self._relay_process = None
        self._calls = 0

    def __exit__(self, *_):
        for talker in self.talkers.values():
            talker.__exit__()
        for hub in filter(None, self.hubs.values()):
            hub.__exit__()
        self.kill_relay()
        self.network.remove()

    def _start(self):
        self.network.__enter__()
        if self.relay:
            self._part_hosts()
            self.start_relay()
        up = [name for name in self.recipients if name not in self.down]
        for name in self.down:
            self[name].unplug()
        for name in up:
            self.start(name)
        self.talkers["publisher"] = Talker(
            "tests.faults.publisher",
            dict(self.config, name="relay_inbound" if self.relay else "publisher"),
            cwd=self.folder,
            prefix=self["publisher"].prefix,
        )
        for name in up:
            if name not in self.hubs:
                self.talkers[name].hear("ready", limit=PATIENCE)

    def __getitem__(self, name):
        """The host of that name."""
        return self.network[name]

    def _part_hosts(self):
        for name in self.recipients:
            self[name].isolate(self["publisher"])

    # What processes do.

    def start(self, name):
        """Start the recipient *name* on its host."""
        config = dict(self.config, name="relay_inbound" if self.relay else name)
        config["certnames"] = dict(config["certnames"], **{_shell(): name})
        if name in self.hubs:
            folder = pathlib.Path(self.folder) / name
            self.hubs[name] = Hub(folder, config, ["First"], prefix=self[name].prefix).__enter__()
            return
        self.talkers[name] = Talker(
            inside.STAND_IN, config, cwd=self.folder, prefix=self[name].prefix
        )

    def host_down(self, name):
        """Cut the power: the host of *name* ends without a word to anybody."""
        self[name].unplug()
        self.talkers[name].kill()

    def host_up(self, name):
        """Boot the host of *name*; return, once its process is ready, when that was."""
        self[name].plug()
        self.start(name)
        self.talkers[name].hear("ready", limit=PATIENCE)
        return time.monotonic()

    def start_relay(self):
        """Start the relay on its host; return when it listens."""
        words = script("fedmsg.commands.relay:relay")
        self._relay_process = Program(words, self.folder, prefix=self["relay"].prefix).__enter__()
        for port in (PORT, INBOUND):
            wait_for(
                functools.partial(listens, self._relay_process.pid, port),
                f"the relay listens at {port}",
            )

    def kill_relay(self):
        """End the relay (SIGKILL)."""
        if self._relay_process is not None:
            self._relay_process.__exit__()
            self._relay_process = None

    def begin(self, *recipients, ack_timeout=1.0, **more):
        """Have the publisher publish; return the number of the call."""
        self._calls += 1
        arguments = {"topic": "t", "msg": {}, "recipients": recipients, "gilmsg.head_start": 0}
        self.talkers["publisher"].order(
            dict(arguments, call=self._calls, ack_timeout=ack_timeout, **more)
        )
        return self._calls

    def end(self, call):
        """Return the event that ended the call: a receipt or a timeout."""
        publisher = self.talkers["publisher"]

        def ended():
            return next((e for e in publisher.events() if e.get("call") == call), None)

        event = wait_for(ended, "the end of publish", 60)
        assert event["event"] != "error", event
        return event

    def publish(self, *recipients, **more):
        return self.end(self.begin(*recipients, **more))

    def warm(self):
        """Publish to every recipient, patiently: from here on all of them are connected."""

        def confirmed():
            # Again and again: behind a relay nobody sees whether they are there.
            event = self.publish(*self.recipients, ack_timeout=5.0, **{"gilmsg.head_start": PATIENCE})
            return event["event"] == "receipt"

        wait_for(confirmed, "all recipients answer")

    def recovers(self, *recipients, since):
        """Publish until it succeeds; assert that one did within RECOVERY seconds of *since*."""

        def succeeds():
            event = self.publish(*recipients, ack_timeout=1.0)
            return event if event["event"] == "receipt" else None

        event = wait_for(succeeds, f"publish to {recipients} succeeds again", 30.0)
        assert time.monotonic() - since < RECOVERY + FORGIVEN
        return event

    def until(self, recipient, words, limit):
        """Publish to *recipient* until the reason holds *words*; return all reasons before it."""
        reasons = []

        def says():
            event = self.publish(recipient, ack_timeout=0.3)
            reasons.append(event.get("missing", {}).get(recipient, "-"))
            return words in reasons[-1]

        try:
            wait_for(says, words, limit)
        except TimeoutError:
            raise AssertionError(f"never {words!r}, but {sorted(set(reasons))}") from None
        return reasons[:-1]

    def begin_unanswered(self, name, ack_timeout):
        """Publish to *name*, which has the message then and holds its ACK back until `answers`; as `begin`."""
        self.answers(name, 3600.0)
        before = len(self.talkers[name].events())
        call = self.begin(name, ack_timeout=ack_timeout)
        self.handed_over(name, before)
        return call

    def answers(self, name, delay=0):
        """Let *name* send the ACK that it holds back, if any, and each further one after *delay* seconds."""
        before = len(self.talkers[name].events())
        self.talkers[name].order({"delay": delay})
        self.talkers[name].hear("obeys", before)

    def comes_back(self, *recipients, mended):
        """Mend the network by calling *mended*; return the first event of a success, which is in time."""
        since = time.monotonic()
        mended()
        return self.recovers(*recipients, since=since)

    def handed_over(self, name, before):
        """Wait until *name* has a gilmsg message besides its first *before* events."""
        talker = self.talkers[name]

        def there():
            return any(e["event"] == "message" and e.get("due") for e in talker.events()[before:])

        wait_for(there, f"{name} is handed the message")

    def gets(self, name, event):
        """Wait until *name* is handed the message that *event* is about, which is on its way at least; return True."""
        return wait_for(lambda: self.got(name, event), f"{name} is handed the message", PATIENCE)

    def got(self, name, event):
        """Whether *name* was handed the message that *event* is about."""
        return any(
            e["event"] == "message" and e["message"].get("msg_id") == event["msg_id"]
            for e in self.talkers[name].events()
        )

    def _configuration(self, authority):
        hosts = self.network
        endpoints = {name: [hosts[name].endpoint(PORT)] for name in ["publisher"] + self.recipients}
        certnames = {name: name for name in endpoints}
        if self.relay:
            endpoints = {"relay_outbound": [hosts["relay"].endpoint(PORT)]}
            certnames = {_shell(): "publisher"}
        config = inside.signed_bus(authority, endpoints, certnames, active=self.relay, post_init_sleep=0)
        if self.relay:
            config["relay_inbound"] = hosts["relay"].endpoint(INBOUND)
            write_config(pathlib.Path(self.folder), dict(config, active=False))
        return config


def _shell():
    """The key of certnames by which an active process signs."""
    return "shell." + socket.gethostname().partition(".")[0]
