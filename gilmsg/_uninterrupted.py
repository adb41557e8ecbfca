"""Work that an interrupt must not leave half done.

A signal handler may raise (KeyboardInterrupt, or a time limit of the user's) between any two steps of the
main thread. There are steps that do not bear it: what libzmq or the kernel has opened and nobody
holds yet is lost; a ``Thread.start`` that is interrupted in the lock of its event leaves a thread that waits for
that lock for ever.
"""

import _thread
import sys
from typing import Callable, List, TypeVar

from .errors import ListenerError

Made = TypeVar("Made")


def uninterrupted(make: Callable[[], Made]) -> Made:
    """Return what *make* returns, or raise what it raises; it runs to its end, come what may.

    It does so on a thread of its own: Python runs signal handlers on the main thread only. (To block
    signals would not do: any other thread may take them.) ``_thread``, because of what is said above.
    The caller may be interrupted while it waits; then what was made is dropped, as a whole.
    *make* must not need a lock that the caller holds.

    Raises:
        ListenerError: the interpreter is shutting down; another thread would never get to run.
    """
    if sys.is_finalizing():  # pragma: no cover  # by then coverage has saved what it measured
        raise ListenerError("the interpreter is shutting down; nothing was sent")
    made: List[Made] = []
    failures: List[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def work() -> None:
        try:
            made.append(make())
        except BaseException as error:  # noqa: B902  raised below
            failures.append(error)
        finally:
            done.release()

    if not _started(work):
        return make()
    done.acquire()
    if failures:
        raise failures.pop()
    return made.pop()


def _started(work: Callable[[], None]) -> bool:
    try:
        _thread.start_new_thread(work, ())
    except RuntimeError:  # no more threads, or the interpreter ends
        return False
    return True
