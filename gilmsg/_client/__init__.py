"""The caller's side: contexts, the recipe of publish, receiving.

A caller's thread checks, marks and signs; the engine thread (:mod:`gilmsg._engine`) owns every socket, so a context
holds only a handle, the ``SharedPublisher``. It is fedmsg's context, in fedmsg's thread-local: ``fedmsg.publish``
and ``gilmsg.publish`` of one thread leave through one socket, and all threads that publish under one name share it.
The settings of a thread's context hold, as in fedmsg, save the ``gilmsg.*`` keys, which each call may give.

Floors above use the modules ``acknowledge``, ``context``, ``end``, ``message``, ``names``, ``prepared``, ``publish``,
``receive`` and ``tail``.
"""

from __future__ import annotations

from .. import _engine, _trust
from . import acknowledge, context, end, message, names, prepared, publish, receive, tail

__all__ = ["acknowledge", "context", "end", "message", "names", "prepared", "publish", "receive", "tail"]

#: Logging may block, and a verifier is used on the engine thread.
_trust.later = _engine.callbacks.run
