"""KeyboardInterrupt at any moment of publish leaves a usable process."""

import pytest

from ..conftest import own_config
from ..helpers import sampled
from . import interrupts


@pytest.mark.parametrize(
    "kind, count, least", sampled([("BY_SIGNAL", 20, 10), ("BY_LINE", 40, 10)], brief=("BY_SIGNAL", 4, 2))
)
def test_an_interrupt_leaves_a_usable_process(bus, tmp_path, kind, count, least):
    """After each of many interrupts no lock is held, no entry left, and the next publish works."""
    status, wrong, hits, errors = interrupts.interrupt(
        getattr(interrupts, kind), own_config(bus), tmp_path, count, 4, 100
    )
    assert (status, wrong) == (0, []), errors
    assert hits >= least


@pytest.mark.parametrize("count", sampled([40], brief=3))
def test_destroy_before_any_line_of_a_publish(bus, tmp_path, count):
    """destroy(), by a handler or another thread, at whatever step of a publish: that ends at once, or goes on."""
    status, wrong, hits, errors = interrupts.interrupt(
        interrupts.DESTROY_BY_LINE, own_config(bus), tmp_path, count, 4, 300
    )
    assert (status, wrong) == (0, []), errors
    assert hits >= 5 * count


#: Strikes when a lock of Python's own ``threading`` has just been taken, in Python code, for a "with"
#: that has not begun: it stays taken. ``threading.Event`` is such a lock.
TAKEN = interrupts.USABLE + """
hit = []

def trace(frame, event, _):
    code = frame.f_code
    if event == "return" and not hit:
        hit.append(code)
        raise KeyboardInterrupt
    return trace if code.co_name == "__enter__" and code.co_filename == threading.__file__ else None

for cold in (False, True):
    if cold: gilmsg.destroy()
    hit.clear()
    sys.settrace(trace)
    try: publish()
    except KeyboardInterrupt: pass
    finally: sys.settrace(None)
    publish()
if not same(): say("left behind: %s, before %s: %s, %s" % (state(), before, kinds(), kinds_before))
say("usable")
"""


def test_an_interrupt_takes_no_lock_along(bus, tmp_path):
    """A publish, the first one too, takes no lock that an interrupt could leave taken: the next works."""
    status, wrong, _, errors = interrupts.interrupt(TAKEN, own_config(bus), tmp_path, 1, 1, 60)
    assert (status, wrong) == (0, ["usable"]), errors


CONTEXTS = interrupts.USABLE + """
from gilmsg import _bus, _contexts

class Lost(Exception): pass

def strike(*_): raise KeyboardInterrupt

signal.signal(signal.SIGALRM, strike)
random.seed(SEED)
hits = 0
while hits < COUNT:
    kept = []  # so that none is being given back when the interrupt comes
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.expovariate(1 / 5e-5) + 1e-6, 5.0)
            while True:
                # An interrupt that comes within a __del__ is lost. (As the loop's condition this would be outside
                # of the try, for a signal on CPython 3.13.)
                if len(kept) == 100: raise Lost
                kept.append(MAKE)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Lost: pass
    except KeyboardInterrupt:
        hits += 1
    for context in kept: END
if not same(): say("left behind: %s, before %s: %s, %s" % (state(), before, kinds(), kinds_before))
say("hits %d" % hits)
"""


@pytest.mark.parametrize(
    "make, end",
    [
        ("_contexts.new(config)", "context.term()"),
        ("_bus._new_context(dict(config, mute=True))", "context.destroy()"),
    ],
)
@pytest.mark.parametrize("count", sampled([10000], brief=100))
def test_an_interrupted_context_leaves_no_descriptor(bus, tmp_path, make, end, count):
    """A context, zmq's or fedmsg's with one in it, that is interrupted in the making is given back whole.

    (That the signal hits another thread, which is just giving it back, is one case in some thousand.)
    """
    code = CONTEXTS.replace("MAKE", make).replace("END", end)
    status, wrong, hits, errors = interrupts.interrupt(code, own_config(bus), tmp_path, count, 1, 120)
    assert (status, wrong, hits) == (0, [], count), errors


LISTENERS = interrupts.USABLE + """
from gilmsg import _listener

def strike(*_): raise KeyboardInterrupt

bus = list(_listeners._listeners)[0]
signal.signal(signal.SIGALRM, strike)
random.seed(SEED)
hits = 0
while hits < COUNT:
    made = None
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.expovariate(1 / 2e-4) + 1e-6, 5.0)
            made = _listener.Listener(bus, config)
            made.launch()
            while True: pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        hits += 1
    if made is not None: made.stop()
made = None
if not same(): say("left behind: %s, before %s: %s, %s" % (state(), before, kinds(), kinds_before))
say("hits %d" % hits)
"""


@pytest.mark.parametrize("count", sampled([200], brief=20))
def test_an_interrupted_listener_leaves_no_thread(bus, tmp_path, count):
    """A listener that is interrupted while it is made and launched ends, and leaves nothing behind."""
    status, wrong, hits, errors = interrupts.interrupt(LISTENERS, own_config(bus), tmp_path, count, 1, 60)
    assert (status, wrong, hits) == (0, [], count), errors
