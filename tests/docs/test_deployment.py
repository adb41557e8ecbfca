"""docs/guides/deployment.rst, followed to the letter on hosts of their own: its files written, its commands typed, their output compared."""

import contextlib
import functools
import re
import shlex
import shutil
import sys
import sysconfig
from typing import NamedTuple

import docutils.core
import docutils.nodes
import pytest

from ..faults import hosts
from ..processes import LIMIT, REPOSITORY, Program, Whole, run, wait_for
from .pages import shown_all, text_of

GUIDE = "guides/deployment"

#: What the guide calls several hosts at once.
TOGETHER = {"both": ["app01", "backend01"], "all three": ["app01", "backend01", "admin"]}

#: How the paragraph before a block ends that says where it belongs.
LABEL = re.compile(r"On\s+(all three|both|app01|backend01|admin)(?:,\s+the\s+file\s+(/\S+))?:\Z")

#: What differs each time, and what stands for it.
VARIES = [
    (r"\b\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?\b", "DATE"), (r"\b[0-9a-f]{30,40}\b", "SERIAL"),
    (r"\b\d{4}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID"), (r"\b\d+\.\d+ s\b", "SECONDS"),
]  # fmt: skip


class Block(NamedTuple):
    """A literal block of the guide: a file where *path* is given, else what is typed and shown."""

    hosts: "list[str]"
    path: "str | None"
    text: str

    def commands(self):
        """Yield each command, and the lines that are shown below it."""
        for part in re.split(r"^# ", self.text, flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n?", part).group()
            yield command.strip(), part[len(command) :].rstrip("\n")


def blocks(texts):
    """The blocks of the guide that have these *texts*, in order; a new one needs a label."""
    settings = {"syntax_highlight": "none", "file_insertion_enabled": False, "report_level": 4}  # Sphinx's roles are text here
    tree = docutils.core.publish_doctree(text_of(GUIDE), settings_overrides=settings)
    for node in tree.findall(docutils.nodes.literal_block):
        text, before = node.astext(), node.previous_sibling()
        if text not in texts:
            continue
        label = LABEL.search(before.astext())
        assert label, f"nothing says where this belongs: {before.astext()!r}, {text!r}"
        yield Block(TOGETHER.get(label[1], [label[1]]), label[2], text)


class Machine:
    """One host of the guide: a network namespace, with an /etc, an /opt and a /root of its own."""

    def __init__(self, folder, host, addresses):
        self.name, self.root, self._host = host.name, folder / host.name, host
        shutil.copytree("/etc", self.root / "etc", symlinks=True, ignore=shutil.ignore_patterns("fedmsg*", "pki", "mtab"))
        (self.root / "root").mkdir(mode=0o700)
        self._install_gilmsg(self.root / "opt" / "gilmsg")
        (self.root / "etc" / "hosts").write_text("127.0.0.1 localhost\n" + addresses)
        self._stand_in_for_scp(folder)
        self.services = {}

    def _install_gilmsg(self, home):
        """Lay out a virtual environment with this Python and this gilmsg, which every user can read there."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = home / "lib" / version / "site-packages"
        for folder in (site, home / "bin", home / "python", home / "libraries", home / "source"):
            folder.mkdir(parents=True)
        (site / "all.pth").write_text("/opt/gilmsg/source\n/opt/gilmsg/libraries\n")
        (home / "pyvenv.cfg").write_text("home = /opt/gilmsg/python/bin\n")
        (home / "bin" / "python3").symlink_to(f"/opt/gilmsg/python/bin/{version}")
        for command in ("check", "pki", "tail"):
            self._add(home / "bin" / f"gilmsg-{command}", f"from gilmsg.commands.{command} import main as run")
        self._add(home / "bin" / "fedmsg-hub", "from fedmsg.commands.hub import hub as run")
        self._add(home / "bin" / "pip", "from pip._internal.cli.main import main as run")

    def _add(self, path, line):
        path.write_text(f"#!/opt/gilmsg/bin/python3\nimport sys\n{line}\nsys.exit(run())\n")
        path.chmod(0o755)

    def _stand_in_for_scp(self, folder):
        """What the guide copies over the network is copied on the disk: no host has an sshd."""
        path = self.root / "opt" / "bin" / "scp"
        path.parent.mkdir()
        lines = ["while [[ $1 = -* ]]; do [[ $1 != -o ]] || shift; shift; done", "last=${@: -1} host=${last#*@}", f'cp "${{@:1:$#-1}}" {folder}/${{host%%.*}}${{last#*:}}']
        path.write_text("\n".join(["#!/bin/bash", *lines, ""]))
        path.chmod(0o755)

    @property
    def prefix(self):
        """Put before a command, it runs the command on this host."""
        mounts = {
            sys.base_prefix: self.root / "opt/gilmsg/python", sysconfig.get_path("purelib"): self.root / "opt/gilmsg/libraries",
            REPOSITORY: self.root / "opt/gilmsg/source",
        }  # fmt: skip
        lines = [f"hostname {self.name}.example.com", *(f"mount --bind {shlex.quote(str(a))} {b}" for a, b in mounts.items())]
        lines += [f"mount --rbind {self.root}/{name} /{name}" for name in ("opt", "etc", "root")]
        path = "/opt/bin:/opt/gilmsg/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        pip = "PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1"
        lines.append(f'cd / && exec env -i HOME=/root LANG=C.UTF-8 PATH={path} {pip} "$@"')
        return [*self._host.prefix, "unshare", "--mount", "--uts", "sh", "-e", "-c", "\n".join(lines), "sh"]

    def write(self, path, text):
        """Write a file as an editor does."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def type(self, command, shown):
        """Run *command*; return what it shows, *shown* if it ever does."""
        words = shlex.split(command)
        if words[0] == "systemctl":
            self._systemctl(words[1:])
            return ""
        if words[0] == "journalctl":
            read = functools.partial(last_lines, self.services[words[words.index("-u") + 1]], len(shown.splitlines()))
        else:
            read = functools.partial(self._run, command)
        told = [read()]
        if words[0] in ("journalctl", "runuser"):  # on a busy machine who is connected, or has printed, may come late
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: alike(told[-1], shown) or told.append(read()), f"it shows {shown}")
        return told[-1]

    def _run(self, command):
        done = run(["bash", "-c", command], prefix=self.prefix, limit=LIMIT)
        return (done.stdout + done.stderr).rstrip("\n")

    def _systemctl(self, words):
        """Do what systemd would: the units of the guide are read, and their commands run as their users."""
        if words == ["daemon-reload"] or words[-1].endswith(".timer"):
            return
        section = self._unit(words[-1])["Service"]
        user = section.get("User", ["root"])[0]
        commands = [["runuser", "-u", user, "--", *shlex.split(one.replace("$$", "$"))] for one in section["ExecStart"]]
        if section.get("Type") == ["oneshot"]:
            for command in commands:
                done = run(command, prefix=self.prefix)
                assert done.returncode == 0, done
            return
        assert words[:-1] == ["enable", "--now"], words
        program = Program(commands[0], prefix=self.prefix, log=self.root / f"{words[-1]}.log")
        self.services[words[-1]] = program
        wait_for(lambda: "Running the MokshaHub reactor" in program.out() or not program.alive, f"it is up: {program}")
        assert program.alive, program

    def _unit(self, name):
        """The file of a unit: section -> key -> values."""
        found = {}
        for line in joined((self.root / f"etc/systemd/system/{name}.service").read_text()).splitlines():
            if line.startswith("["):
                section = found.setdefault(line.strip("[]"), {})
            elif line:
                key, _, value = line.partition("=")
                section.setdefault(key, []).append(value)
        return found


def joined(unit):
    """The text of a unit, with each setting on one line."""
    return unit.replace("\\\n", " ")


def last_lines(program, count):
    return "\n".join(program.lines[-count:])


def alike(told, shown):
    """Whether they say the same, but for what differs each time."""
    return masked(told) == masked(shown)


def masked(text):
    for pattern, name in VARIES:
        text = re.sub(pattern, name, text)
    return [line.rstrip() for line in text.splitlines()]


class Site(Whole):
    """The hosts of the guide, empty, on one network; each lets in what it has asked for, and nothing else."""

    def __init__(self, folder):
        self._folder, self.network, self.machines = folder, hosts.Network(["app01", "backend01", "admin"]), {}

    def _start(self):
        self.network.__enter__()
        names = ("app01", "backend01", "admin")
        addresses = "".join(f"{self.network[name].address} {name}.example.com {name}\n" for name in names)
        for name in names:
            self.machines[name] = Machine(self._folder, self.network[name], addresses)
            for rule in ("-P INPUT DROP", "-A INPUT -i lo -j ACCEPT", "-A INPUT -m state --state ESTABLISHED -j ACCEPT"):
                hosts.run(*self.network[name].prefix, "iptables", "-w", *rule.split())

    def __exit__(self, *_):
        for machine in self.machines.values():
            for program in machine.services.values():
                program.__exit__()
        self.network.remove()

    def follow(self, block):
        """Do what *block* says; yield what was typed, what that showed, and what it should have."""
        for name in block.hosts:
            if block.path:
                self.machines[name].write(block.path, block.text)
            else:
                for command, shown in block.commands():
                    yield f"{name}# {command}", self.machines[name].type(command, shown), shown


@pytest.mark.slow
@pytest.mark.long
def test_the_guide_leads_from_empty_hosts_to_a_confirmed_message(tmp_path, guide=shown_all(GUIDE)):
    """Whoever does what it says, in its order, on the hosts that it names, sees what it shows."""
    missing = [tool for tool in ("unshare", "runuser", "useradd", "mount") if shutil.which(tool) is None]
    if hosts.unavailable() or missing:
        pytest.skip(hosts.unavailable() or f"it needs {', '.join(missing)}")
    with Site(tmp_path) as site:
        for block in blocks([block.text for block in guide]):
            for command, told, shown in site.follow(block):
                assert masked(told) == masked(shown), f"{command}\n{told}"


def test_the_units_of_the_guide_are_in_order(tmp_path, guide=shown_all(GUIDE)):
    """systemd itself, where it is, finds no fault with them; a host that is down keeps the CRL from no other, and is told."""
    units = {block.path.rpartition("/")[2]: block.text for block in blocks([one.text for one in guide]) if "/systemd/" in (block.path or "")}
    assert sorted(units) == ["bus-crl.service", "bus-crl.timer", "stock.service"]
    for name, text in units.items():
        (tmp_path / name).write_text(re.sub(r"/opt/gilmsg/bin/\S+", sys.executable, text))  # systemd looks whether that is there
    if shutil.which("systemd-analyze"):
        done = run(["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in units)])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    scp = tmp_path / "scp"
    scp.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncase "$*" in *@app01*) exit 1; esac\n')
    scp.chmod(0o755)
    copying = shlex.split(re.search(r"^ExecStart=(/bin/sh .*)", joined(units["bus-crl.service"]), re.MULTILINE)[1].replace("$$", "$"))
    assert run(["env", f"PATH={tmp_path}:/usr/bin:/bin", *copying]).returncode == 1
    assert [re.search(r"@(\w+)", line)[1] for line in (tmp_path / "asked").read_text().splitlines()] == ["app01", "backend01"]
