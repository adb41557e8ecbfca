"""The shop on one machine: start a bus and all services, order something, kill the warehouse, order again.

``python run.py`` ends then; with ``--stay`` the shop stays open until Ctrl-C. All files are in a temporary folder.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request

from gilmsg.sandbox import Sandbox

HERE = pathlib.Path(__file__).resolve().parent

#: Services on the bus, and what Python is told to run each; the warehouse is in fedmsg-hub.
ON_THE_BUS = {
    "deliverer": ["-m", "gilmsg", "outbox", "run"],
    "mailer": [str(HERE / "mailer.py")],
    "warehouse": ["-c", "from fedmsg.commands.hub import hub; hub()", "--with-consumers", "warehouse:Warehouse"],
}
SERVICES = {"web": ["-m", "flask", "--app", "web", "run"], **ON_THE_BUS}

#: Seconds: what is not true by then has failed.
PATIENCE = 60


def start(name, folder, **variables):
    """Start a service as on a host of its own: with the fedmsg.d that is in *folder*, and a file that says who it is."""
    home, path = pathlib.Path(folder, name), os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    shutil.copytree(pathlib.Path(folder, "fedmsg.d"), home / "fedmsg.d", dirs_exist_ok=True)
    (home / "fedmsg.d" / "zzz-name.py").write_text(f"config = {{'name': {name!r}}}\n")
    environment = {**os.environ, "PYTHONPATH": path, **{key: str(value) for key, value in variables.items()}}
    with open(home / "log", "ab") as log:
        words = [sys.executable, *SERVICES[name]]
        return subprocess.Popen(words, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)


def kill(service):
    """Kill a process, whatever it is doing: that is done when it is started again."""
    service.kill()
    service.wait()


class Shop:
    """All services, their databases and their letters, in *folder*; the web application listens on *port*."""

    def __init__(self, folder, port):
        self.folder, self.url, self.running = pathlib.Path(folder), f"http://127.0.0.1:{port}", {}
        database = self.folder / "shop.sqlite"
        self._variables = {
            "FLASK_RUN_PORT": port, "SHOP_DATABASE": database, "GILMSG_OUTBOX_DATABASE": database,
            "GILMSG_OUTBOX_ACK_TIMEOUT": 2, "LETTERS": self.folder, "WAREHOUSE_DATABASE": self.folder / "warehouse.sqlite",
        }  # fmt: skip

    def open(self, *names):
        """Start these services."""
        for name in names:
            self.running[name] = start(name, self.folder, **self._variables)

    def close(self, *names):
        """Kill these services, by default all of them."""
        for name in names or list(self.running):
            kill(self.running.pop(name))

    def until(self, condition):
        """Return what *condition* does, once that is true; if a service ends, or nothing comes of it, show the logs."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and all(service.poll() is None for service in self.running.values()):
            with contextlib.suppress(urllib.error.URLError):  # the web application is not there yet
                if found := condition():
                    return found
            time.sleep(0.1)
        sys.exit("\n".join(f"{log.parent.name}:\n{log.read_text()}" for log in self.folder.glob("*/log")))

    def ask(self, path, question=None):
        """Return what the web application answers to a GET, or to a POST of *question*."""
        data = None if question is None else json.dumps(question).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def order(self, customer, item):
        """Order something; return the answer."""
        return self.until(lambda: self.ask("/orders", {"customer": customer, "item": item}))

    def show(self, order, confirmed, missing=()):
        """Say who has confirmed an order, and for whom it waits, as soon as it is these."""

        def stands_so():
            message = self.ask(order["message"])
            return (message["confirmed"], list(message["missing"])) == (list(confirmed), list(missing))

        self.until(stands_so)
        print(f"Order {order['order']}: confirmed by {' and '.join(confirmed)}, waits for {' and '.join(missing) or 'nobody'}.")


def main():
    """Run the shop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    bus = Sandbox(recipients=[])  # nobody stands in for our services: they get keys and ports of their own
    for name in ON_THE_BUS:
        bus.authority.issue(name)
        bus.config["certnames"][name] = name
        bus.config["endpoints"][name] = [bus.ports.endpoint()]
    with bus, contextlib.closing(Shop(bus.directory, bus.ports.take())) as shop:
        shop.open(*SERVICES)
        shop.show(shop.order("Ada", "a teapot"), ["mailer", "warehouse"])
        shop.close("warehouse")
        print("The warehouse is killed.")
        order = shop.order("Blaise", "a cup")
        shop.show(order, ["mailer"], missing=["warehouse"])
        shop.open("warehouse")
        print("The warehouse is started again.")
        shop.show(order, ["mailer", "warehouse"])
        for letter in sorted(shop.folder.glob("order-*.txt")):
            print(f"{letter.name}: {letter.read_text()}", end="")
        with contextlib.closing(sqlite3.connect(shop.folder / "warehouse.sqlite")) as database:
            for customer, item in database.execute("SELECT customer, item FROM parcels ORDER BY id"):
                print(f"Parcel for {customer}: {item}")
        if "--stay" in sys.argv[1:]:
            print(f"Open until Ctrl-C: {shop.url}/orders", flush=True)
            signal.pause()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
