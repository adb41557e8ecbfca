"""KeyboardInterrupt at any moment of publish: ``python -m tests.faults.interrupts --count 500``.

Two ways to interrupt, in a process of its own: a real signal at a random time, and an exception
raised before a given line of gilmsg's own code (each line in turn, so none is left to chance). The
same for ``destroy()``, by a signal handler or another thread: before a given line of gilmsg's, or of fedmsg's.
After each of them the process must be as it was: see USABLE.
"""

import argparse
import random
import sys

from gilmsg.sandbox import Sandbox

from .children import UNMEASURED, run

#: What is printed in full of what is wrong.
_SHOWN = 10

USABLE = """
import collections, linecache, random, psutil

process = psutil.Process()
config["gilmsg.head_start"] = 20.0


def free(lock):
    # Tried by another thread: these locks are re-entrant.
    if lock.acquire(timeout=5):
        lock.release()
        got.append(True)


def check(where):
    # Nothing waits, no lock is held, one listener and one socket, and a publish is confirmed.
    global got
    got = []
    locks = [_listeners._listeners.lock, _outlets._outlets.lock]
    locks += [one._lock for one in list(_listeners._listeners.values()) + list(_outlets._outlets.values())]
    if len(locks) > 4: say("%s: %d locks" % (where, len(locks)))
    threads = [threading.Thread(target=free, args=(lock,)) for lock in locks]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    if len(got) != len(locks): say("%s: a lock is held" % where)
    if waiting(): say("%s: an entry is left" % where)
    try:
        if not publish(ack_timeout=5.0).acks: say("%s: no ACK" % where)
    except BaseException as error:
        say("%s: then %r" % (where, error))


def state():
    gc.collect()
    # Connections come and go with the peers, theirs to us and ours to them; the rest is ours alone.
    connections = [one for one in process.net_connections("tcp") if one.status != "LISTEN"]
    descriptors = process.num_fds() - len(connections)
    return process.num_threads(), descriptors, len(_outlets._outlets), len(_listeners._listeners)


def kinds():
    # How many descriptors of each kind there are; a socket says in which state.
    states = {one.fd: "socket " + one.status for one in process.net_connections("all")}
    found = collections.Counter()
    for number in os.listdir("/proc/self/fd"):
        try: link = os.readlink("/proc/self/fd/" + number)
        except OSError: continue  # that of the folder itself
        found[states.get(int(number), link.partition(":[")[0])] += 1
    return dict(found)


def same():
    # libzmq's threads and descriptors end a moment after the call that ends them.
    try:
        _process.wait_for(lambda: not any(now > then for now, then in zip(state(), before)), "all is given back", 10)
    except TimeoutError:
        return False
    return True


publish(); publish()
before, kinds_before = state(), kinds()
"""

BY_SIGNAL = USABLE + """
def strike(*_):
    global struck
    struck += 1
    raise KeyboardInterrupt


def ignored(what):
    # Python raises nothing out of a __del__ or a callback: then the interrupt is lost, and none of ours.
    lost.append(repr(what.object))


signal.signal(signal.SIGALRM, strike)
sys.unraisablehook = ignored
random.seed(SEED)
hits = struck = 0
lost = []
for number in range(COUNT):
    if number % 10 == 9: gilmsg.destroy()
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.expovariate(1 / 0.003) + 1e-6, 10.0)
            while True: publish()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        hits += 1
    except BaseException as error:
        say("%d: %r" % (number, error))
    check(number)
if struck > hits + len(lost): say("of %d interrupts %d were swallowed" % (struck, struck - hits))
if lost: print("lost in", lost, file=sys.stderr)
if not same(): say("left behind: %s, before %s: %s, %s" % (state(), before, kinds(), kinds_before))
say("hits %d" % hits)
"""

#: Acts before the n-th line of the code under test that a publish comes to.
EACH_LINE = USABLE + """
import fedmsg.core

class Interrupter:
    # Calls *act* before the n-th line of *files* that this thread comes to.
    def __init__(self, at, act, files):
        self.left, self.act, self.files, self.where = at, act, files, None

    def __call__(self, frame, event, _):
        return self.line if frame.f_code.co_filename.startswith(self.files) else None

    def line(self, frame, event, _):
        # CPython looks for signals after calls and backward jumps only. So none can strike where a
        # "with" line comes again, between the body and the release, nor before this assignment, nor
        # at a "try:", whose NOP CPython 3.11 leaves out of the exception table of a "with" around it.
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not text.startswith(("with ", "try:", "self._busy = False")):
            self.left -= 1
            if self.left == 0:
                self.where = "%s:%d" % (os.path.basename(frame.f_code.co_filename), frame.f_lineno)
                self.act()
        return self.line


def traced(at, cold, act, files, **more):
    # Return (where it was, the error of the publish or None, how many lines were left to go to).
    if cold: gilmsg.destroy()
    tracer = Interrupter(at, act, files)
    try:
        sys.settrace(tracer)
        publish(**more)
    except BaseException as error:
        return tracer.where, error, tracer.left
    finally:
        sys.settrace(None)
    return tracer.where, None, tracer.left


def each(act, expected, files, **more):
    # Return how often *act* came; the publish must end well, or with *expected*.
    acted = 0
    for cold in (False, True):
        total = -traced(0, cold, act, files, **more)[2]
        chosen = range(1, total) if COUNT >= total else sorted(random.sample(range(1, total), COUNT))
        if cold and COUNT < 1000: chosen = chosen[::8]
        for at in chosen:
            began = time.monotonic()
            where, error, _ = traced(at, cold, act, files, **more)
            if not isinstance(error, (type(None), expected)): say("%s: %r" % (where, error))
            if time.monotonic() - began > 10: say("%s: waited for what cannot come" % where)
            while threads: threads.pop().join()
            check(where)
            acted += where is not None
    return acted


threads = []
OURS = os.path.dirname(gilmsg.__file__)
random.seed(SEED)
"""

BY_LINE = EACH_LINE + """
def interrupt(): raise KeyboardInterrupt


hits = each(interrupt, KeyboardInterrupt, OURS)
if not same(): say("left behind: %s, before %s: %s, %s" % (state(), before, kinds(), kinds_before))
say("hits %d" % hits)
"""


DESTROY_BY_LINE = EACH_LINE + """
def in_a_handler(end):
    sys.settrace(None)
    end()


def in_a_thread(end):
    sys.settrace(None)
    thread = threading.Thread(target=end)
    thread.start()
    thread.join(0.3)  # at most: it may wait for a lock that is held where we are
    threads.append(thread)


files, hits = (OURS, fedmsg.core.__file__), 0
for way, end in (
    (in_a_handler, gilmsg.destroy),
    (in_a_thread, gilmsg.destroy),
    (in_a_thread, _listeners.stop_all),  # the last step of destroy(): what was opened since the one before stays
):
    for more in ({}, {"recipients": []}):
        hits += each(lambda: way(end), gilmsg.ListenerError, files, **more)
if not same(): say("left behind: %s, before %s: %s, %s" % (state(), before, kinds(), kinds_before))
say("hits %d" % hits)
"""


def interrupt(kind, config, cwd, count, seed, limit):
    """Return (exit code, what is wrong, how many interrupts hit, stderr)."""
    code = "SEED, COUNT = %d, %d\n" % (seed, count) + kind
    status, lines, errors = run(code, config, cwd, limit=limit, environment=UNMEASURED)
    hits = [int(line.split()[1]) for line in lines if line.startswith("hits ")]
    wrong = [line for line in lines if not line.startswith("hits ")]
    return status, wrong, sum(hits), errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    print("seed %d" % arguments.seed)
    failed = False
    with Sandbox(["alice"]) as bus:
        for name, kind in (("signals", BY_SIGNAL), ("lines", BY_LINE), ("destroy", DESTROY_BY_LINE)):
            status, wrong, hits, errors = interrupt(
                kind, bus.config, bus.directory, arguments.count, arguments.seed, 60 + 4 * arguments.count
            )
            print("%s: %d interrupts, exit code %d, wrong: %d" % (name, hits, status, len(wrong)))
            # A lock that is held makes whatever comes after it wrong, too: the first is what counts.
            print("".join("  %s\n" % one for one in wrong[:_SHOWN]), end="", flush=True)
            failed = failed or bool(status or wrong)
            if status:
                print(errors[-3000:])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
