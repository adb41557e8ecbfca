"""The caller's side: contexts, the recipe of publish, receiving.

A caller's thread checks, marks and signs; the engine thread (:mod:`gilmsg._engine`) owns every socket, so a context
holds only a handle, the ``SharedPublisher``. It is fedmsg's context, in fedmsg's thread-local: ``fedmsg.publish``
and ``gilmsg.publish`` of one thread leave through one socket, and all threads that publish under one name share it.
The settings of a thread's context hold, as in fedmsg, save the ``gilmsg.*`` keys, which each call may give.

Floors above use the module ``context`` (``context.current()``, ``context.certname(config)``) and the names below.
"""

from __future__ import annotations

from .. import _engine, _trust
from . import context
from .context import SharedPublisher, destroy, init
from .isolation import isolated

__all__ = ["SharedPublisher", "context", "destroy", "init", "isolated"]

#: Logging may block, and a verifier is used on the engine thread.
_trust.later = _engine.callbacks.run
