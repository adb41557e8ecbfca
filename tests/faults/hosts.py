"""Hosts of a test's own: network namespaces on a bridge, and links that can be cut and mended.

One namespace more, the *switch*, holds the bridge and its end of each link. So nothing of a
network exists outside its namespaces: interfaces and addresses of two networks cannot
collide, and all of it is gone when the namespaces are. Their names are
``gilmsg-<pid>-<number>-<host>``; those of a process that is no more are stale, and whoever
makes a network next removes them.
"""

import fcntl
import functools
import itertools
import os
import re
import shutil

from .. import processes

_NAME = re.compile(r"^gilmsg-(\d+)-\d+-")
_numbers = itertools.count(1)


def run(*command):
    """Run a command that ends at once; raise an error that quotes what it said."""
    done = processes.run(command, limit=30)
    if done.returncode:
        raise RuntimeError("{}: {}".format(" ".join(command), done.stderr.strip() or done.returncode))
    return done.stdout


@functools.cache
def unavailable():
    """Return why no hosts can be made here, None if they can."""
    if os.geteuid() != 0:
        return "hosts (network namespaces) need root"
    for tool in ("ip", "iptables"):
        if shutil.which(tool) is None:
            return f"hosts need the command {tool} (iproute2, iptables), which is not installed"
    try:
        with Network(["probe"]) as network:
            network["probe"].deafen()
    except (RuntimeError, OSError) as error:
        return f"hosts cannot be made here: {error}"
    return None


def namespaces():
    """Return name -> pid of its maker, for each namespace that is ours."""
    names = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.strip()]
    return {name: int(_NAME.match(name).group(1)) for name in names if _NAME.match(name)}


def remove_stale():
    """Remove the namespaces of processes that ended without doing so."""
    for name, pid in namespaces().items():
        if not os.path.isdir(f"/proc/{pid}"):
            # Another process may be removing it too.
            processes.run(["ip", "netns", "del", name])


def listens(pid, port):
    """Whether somebody listens on TCP *port* on the host where the process *pid* runs."""
    with open(f"/proc/{pid}/net/tcp") as stream:
        rows = [line.split() for line in stream.readlines()[1:]]
    # Local address, and the state: 0A is LISTEN.
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


class Host:
    """One host. Rules of iptables see IP packets only: a cut is silent, ARP and link stay."""

    def __init__(self, namespace, switch, name, address):
        self.namespace = namespace
        self.name = name
        self.address = address
        #: Put before a command, it runs the command on this host.
        self.prefix = ["ip", "netns", "exec", namespace]
        self._switch = switch

    def endpoint(self, port):
        return f"tcp://{self.address}:{port}"

    def unplug(self):
        """Pull the cable: nothing comes or goes, nobody is told."""
        run("ip", "-n", self._switch, "link", "set", self.name, "down")

    def plug(self):
        run("ip", "-n", self._switch, "link", "set", self.name, "up")

    def deafen(self, peer=None):
        """Drop, silently, what comes in (from *peer*, a host)."""
        self._rule("INPUT", ["-s", peer.address] if peer else ["!", "-i", "lo"])

    def silence(self, peer=None):
        """Drop, silently, what goes out (to *peer*, a host)."""
        self._rule("OUTPUT", ["-d", peer.address] if peer else ["!", "-o", "lo"])

    def isolate(self, peer=None):
        """Both."""
        self.deafen(peer)
        self.silence(peer)

    def refuse(self, port):
        """Answer whoever connects to *port* as if nobody listened there (RST), from now on."""
        self._rule("INPUT", ["-p", "tcp", "--dport", str(port)], ["REJECT", "--reject-with", "tcp-reset"])

    def mend(self):
        """Take back every rule."""
        run(*self.prefix, "iptables", "-w", "-F")

    def _rule(self, chain, which, target=("DROP",)):
        run(*self.prefix, "iptables", "-w", "-A", chain, *which, "-j", *target)


class Network(processes.Whole):
    """Hosts by name, all on one bridge. A context manager; removing it removes every trace.

    Processes that still run on a host keep its namespace alive, nameless: end them first.
    """

    def __init__(self, names):
        self._stem = f"gilmsg-{os.getpid()}-{next(_numbers)}-"
        self._switch = self._stem + "switch"
        self._hosts = {
            name: Host(self._stem + name, self._switch, name, f"10.77.0.{number}")
            for number, name in enumerate(names, 1)
        }

    def __getitem__(self, name):
        return self._hosts[name]

    def __exit__(self, *_):
        self.remove()

    def _start(self):
        # One at a time: the first to make a namespace mounts their folder, and two at once would be one too many.
        with open(__file__) as one_of_us:
            fcntl.flock(one_of_us, fcntl.LOCK_EX)
            self._make()

    def _make(self):
        remove_stale()
        run("ip", "netns", "add", self._switch)
        run("ip", "-n", self._switch, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", self._switch, "link", "set", "bridge", "up")
        for host in self._hosts.values():
            self._connect(host)

    def _connect(self, host):
        run("ip", "netns", "add", host.namespace)
        # An interface has at most 15 characters; it is called as its host, inside the switch.
        run(
            "ip", "-n", self._switch, "link", "add", host.name, "type", "veth",
            "peer", "name", "eth0", "netns", host.namespace,
        )
        run("ip", "-n", self._switch, "link", "set", host.name, "master", "bridge", "up")
        run("ip", "-n", host.namespace, "address", "add", host.address + "/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            run("ip", "-n", host.namespace, "link", "set", interface, "up")

    def remove(self):
        for name in namespaces():
            if name.startswith(self._stem):
                run("ip", "netns", "del", name)
