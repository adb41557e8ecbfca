"""publish and destroy called where nobody expects it: in signal handlers, __del__, logging."""

import json

from ..conftest import own_config
from ..processes import python
from .children import UNMEASURED, run

#: A handler that does *job* at random moments of a main thread that publishes at full speed.
HANDLER = """
import random
random.seed(7)
done, refused, wrong, over = [], [], [], []

def handler(*_):
    try:
        done.append(job())
    except gilmsg.ConfigurationError as error:
        if "signal handler" not in str(error): wrong.append(error)
        refused.append(error)
    except BaseException as error:
        wrong.append(error)
    if not over: signal.setitimer(signal.ITIMER_REAL, 0.002 + random.random() * span)

config["gilmsg.head_start"] = 20.0
publish()
# As often as this machine can bear: faster than that, and nothing but the handler would ever run.
span = time.monotonic()
publish(), publish()
span = max(0.005, time.monotonic() - span)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001)
until_then = time.monotonic() + 60
ended = 0
while len(done) < 40 and time.monotonic() < until_then:
    try:
        publish()
    except gilmsg.ListenerError:
        ended += 1
over.append(True)  # not SIG_IGN: Python complains of a signal that comes while that is set
signal.setitimer(signal.ITIMER_REAL, 0)
say("done" if len(done) >= 40 else "too few: %d" % len(done))
say("wrong: %s" % wrong)
say("ended by destroy" if ended else "never ended")
say(list(publish().acks))
say(sum(len(one._ledger) for one in _listeners._listeners.values()))
"""


def test_publish_in_a_signal_handler(bus, tmp_path):
    """A handler's publish is confirmed, or refused within a send; the interrupted one is confirmed."""
    code = "job = lambda: publish()\n" + HANDLER
    status, lines, errors = run(code, own_config(bus), tmp_path, limit=90, environment=UNMEASURED)
    assert (status, errors) == (0, "")
    assert lines == ["done", "wrong: []", "never ended", "['alice']", "0"]


def test_destroy_in_a_signal_handler(bus, tmp_path):
    """A handler's destroy never deadlocks; the interrupted publish is a ListenerError or goes on."""
    code = "job = gilmsg.destroy\n" + HANDLER.replace("40", "10").replace("0.002 +", "0.05 +")
    status, lines, errors = run(code, own_config(bus), tmp_path, limit=90, environment=UNMEASURED)
    assert (status, errors) == (0, ""), errors
    assert lines[:2] == ["done", "wrong: []"] and lines[3:] == ["['alice']", "0"]


HELD = """
import logging, zmq
config["gilmsg.head_start"] = 20.0
publish()
logged, held = logging.StreamHandler(open(os.devnull, "w")), []
logging.getLogger("gilmsg").addHandler(logged)

def handler(*_):
    held.append(list(publish().acks))

signal.signal(signal.SIGALRM, handler)
future = gilmsg.publish_async(**dict(config, topic="t", msg={}, recipients=["alice"], ack_timeout=10.0))
with future._condition:  # as in result(), add_done_callback(), as_completed()
    signal.raise_signal(signal.SIGALRM)
say(list(future.result(10).acks))

listener = list(_listeners._listeners.values())[0]
publisher = zmq.Context.instance().socket(zmq.PUB)
publisher.bind(JUNK)
until(lambda: listener.connected(JUNK))
logged.acquire()  # as in a log call of this thread's own
def junk():
    while len(held) < 2:
        publisher.send_multipart([listener.bus.ack_topic.encode(), b"x" * (gilmsg._acks.LARGEST_ACK + 1)])
        time.sleep(0.01)  # the pace of the sender: nothing is waited for
sender = threading.Thread(target=junk)
sender.start()
until(lambda: listener._warn._next)
signal.raise_signal(signal.SIGALRM)
logged.release()
sender.join()
zmq.Context.instance().destroy(linger=0)
say(held)
"""


def test_a_handler_publishes_while_its_thread_holds_what_others_wait_for(bus, tmp_path):
    """The listener needs no lock of a future, nor of logging: a handler's publish is confirmed."""
    junk = bus.ports.endpoint()
    config = own_config(bus)
    config["endpoints"]["junk"] = [junk]
    code = HELD.replace("JUNK", repr(junk))
    status, lines, errors = run(code, config, tmp_path)
    assert (status, errors) == (0, ""), errors
    assert lines == ["['alice']", "[['alice'], ['alice']]"]


FINALIZER = """
class Loud:
    def __init__(self): self.me = self  # only the garbage collector ends it
    def __del__(self):
        try: seen.append(list(publish().acks))
        except gilmsg.GilmsgError as error: seen.append(str(error))

seen = []
config["gilmsg.head_start"] = 20.0
publish()
gc.set_threshold(50)
for _ in range(60):
    Loud()
    publish()
gc.disable()
# Some may be in the hands of a collection on another thread: until that ends, one here does nothing.
until(lambda: (gc.collect(), len(seen) >= 60)[1])
odd = [one for one in seen if one != ["alice"] and "another thread" not in one and "thread of its own" not in one]
say(odd)
say(list(publish().acks))
"""


def test_publish_in_a_finalizer(bus, tmp_path):
    """A __del__ that publishes, run by the collector anywhere, is confirmed or refused clearly."""
    status, lines, errors = run(FINALIZER, own_config(bus), tmp_path, limit=90)
    assert (status, errors) == (0, "")
    assert lines == ["[]", "['alice']"]


LOGGING = """
import logging
refused = []

class Handler(logging.Handler):
    def emit(self, record):
        try: publish(topic="log")
        except gilmsg.ConfigurationError as error: refused.append((threading.current_thread().name, str(error)))

config["gilmsg.head_start"] = 20.0
publish()
def fail(*_): raise OSError("injected")
plain, _wakeup.Wakeup.clear = _wakeup.Wakeup.clear, fail
logging.getLogger("gilmsg").addHandler(Handler())
wake_until(lambda: refused)
_wakeup.Wakeup.clear = plain
say(refused[0][0]); say("listener's own thread" in refused[0][1])
say(list(publish().acks))
"""


def test_a_logging_handler_that_publishes(bus, tmp_path):
    """A handler that publishes what the listener logs is refused on the listener's own thread."""
    status, lines, errors = run(LOGGING, own_config(bus), tmp_path)
    assert (status, errors) == (0, "")
    assert lines == ["gilmsg-listener", "True", "['alice']"]


DESTROYER = """
config["gilmsg.head_start"] = 20.0
del config["endpoints"]["publisher"][1:]
over, counts, wrong = threading.Event(), {"confirmed": 0, "ended": 0}, []

def work():
    while not over.is_set():
        try:
            publish(); counts["confirmed"] += 1
        except gilmsg.ListenerError: counts["ended"] += 1
        except BaseException as error: wrong.append(error)

threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
for number in range(10):
    confirmed = counts["confirmed"]
    until(lambda: counts["confirmed"] > confirmed + 4 or wrong)
    gilmsg.destroy()
over.set()
[thread.join() for thread in threads]
say(wrong)
gilmsg.destroy()
say(list(publish().acks))
say(sorted([len(_outlets._outlets), len(_listeners._listeners)]))
"""


def test_destroy_while_threads_publish(bus, tmp_path):
    """With one port and four publishing threads, destroy ends what is in flight and nothing else."""
    status, lines, errors = run(DESTROYER, own_config(bus), tmp_path, limit=90)
    assert (status, errors) == (0, "")
    assert lines == ["[]", "['alice']", "[1, 1]"]


#: A handler closes the outlet that its own thread is looking at, while eight threads publish.
CLOSED_BELOW = """
import faulthandler, json, signal, sys, threading, time
import gilmsg
from gilmsg import _outlets
faulthandler.dump_traceback_later(20, exit=True)
config = json.loads(sys.argv[1])
mine = gilmsg.init(**config).publisher
shared = _outlets.SharedPublisher(mine.address, config)
over = threading.Event()

def send():
    while not over.wait(0.0005):
        try: shared.outlet().send([b"a", b"{}"])
        except Exception: pass  # closed meanwhile: that is what happens here all the time

signal.signal(signal.SIGTERM, lambda *_: gilmsg.destroy())
threads = [threading.Thread(target=send) for _ in range(8)]
for thread in threads: thread.start()
fired, end = 0, time.monotonic() + 1.5
while fired < 5 or time.monotonic() < end:
    outlet = _outlets._outlets.get(mine.address)
    if outlet is None or outlet.closed:
        time.sleep(0.001)  # until the next look, of which there are as many as fit in
        continue
    with outlet.look():
        fired += 1
        signal.raise_signal(signal.SIGTERM)
over.set()
for thread in threads: thread.join()
print(fired)
"""


def test_a_handler_may_close_what_its_thread_looks_at(bus, tmp_path):
    """destroy() in a handler, over a frame that holds the outlet, does not lock up who opens the next."""
    done = python(CLOSED_BELOW, tmp_path, json.dumps(own_config(bus, post_init_sleep=0)))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5
