"""fedmsg's contexts and configuration, with our publisher in them: the only user of fedmsg.core.

A context is fedmsg's: thread-local, in ``fedmsg.__local.__context``, so that ``fedmsg`` and
``gilmsg`` share it. Only ``context.publisher`` is ours. Relied on, of fedmsg.core:

- ``FedMsgContext(mute=True, **config)`` binds nothing, gives ``io_threads`` to ``zmq.Context`` and to
  nothing else, and reads no other key of ``config`` that we change here; ``post_init_sleep`` is slept in its
  constructor.
- ``publish`` uses ``context.publisher.send_multipart(parts, flags=...)``, ``destroy`` its ``close()``.
- the rules by which a name and a certificate are chosen, repeated in `named_after` and `certname`.
"""

import socket
import warnings
from typing import Any, Dict, Mapping, Optional

import fedmsg  # type: ignore[import-untyped]
import fedmsg.core  # type: ignore[import-untyped]

from . import _config_files, _config_types, _contexts, _settings, _sockets
from ._caller import calling_module
from ._directory import Directory
from ._outlet import Address, gone
from ._outlets import SharedPublisher
from .errors import ConfigurationError

#: Mangled only inside a class: fedmsg's thread-local, which is gilmsg's too.
_local = getattr(fedmsg, "__local")


def init(**config: Any) -> Any:
    """Make the calling thread's context, as ``fedmsg.init`` does.

    Differs in three ways: the socket is shared by all threads that publish under the same name,
    nothing is slept (a message waits for its head start when it is sent), and gilmsg sees who
    listens.

    Args:
        **config: fedmsg configuration; wins over what is in fedmsg.d.

    Returns:
        fedmsg.core.FedMsgContext: the context, also found in ``gilmsg.__local``.

    Raises:
        ValueError: the thread has a context already.
        ConfigurationError: no declared port is free (then it is an IOError too),
            ``active`` is set and no relay is configured, a value has the wrong type, or
            the process has too many open files.
    """
    if current() is not None:
        raise ValueError("fedmsg already initialized")
    context = _new_context(named_after(loaded(config), calling_module()))
    setattr(_local, "__context", context)
    return context


def current() -> Any:
    """Return the calling thread's context, or None."""
    return getattr(_local, "__context", None)


def context(config: Mapping[str, Any]) -> Any:
    """Return the calling thread's context with our publisher in it, made of *config* if need be."""
    found = current()
    if found is None:
        return init(**config)
    adopt(found)
    return found


def adopt(context: Any) -> None:
    """Replace the publisher of a context that plain ``fedmsg.init`` made by ours, same endpoint."""
    plain = getattr(context, "publisher", None)
    if plain is None or isinstance(plain, SharedPublisher):
        return
    address = require_publisher(context.c)  # there was one when it was made: the user may have changed it
    closed = bool(getattr(plain, "closed", False))  # by us: it was interrupted before the next line
    bound = plain.LAST_ENDPOINT.decode("ascii") if not address.active and not closed else ""
    plain.close()
    context.publisher = SharedPublisher(address, context.c, preferred=bound)


def loaded(overrides: Mapping[str, Any]) -> Dict[str, Any]:
    """Return fedmsg's configuration with *overrides*, which fedmsg.init keeps for the process too.

    Where no file names any endpoint and the overrides do, they are enough.

    Raises:
        ConfigurationError: there is none, a file of it cannot be used, or a value has the wrong type.
    """
    config = _config_files.current(overrides)
    whole = {**config, **overrides}
    _config_types.require(whole)  # before fedmsg keeps it
    _settings.require_known(whole)
    config.update(overrides)
    return config


def publisher(context: Any) -> SharedPublisher:
    """Return the publisher of *context*.

    Raises:
        ConfigurationError: it has none, with the setting that is to blame.
        ListenerError: a signal handler called ``destroy()`` since :func:`context` returned it.
    """
    found = getattr(context, "publisher", None)
    if found is None:
        if context is not current():
            raise gone()
        require_publisher(context.c)
        raise ConfigurationError(
            "this context was destroyed, or was initialized without a publisher; "
            "call gilmsg.destroy() and initialize it again"
        )
    return found  # type: ignore[no-any-return]


def directory(context: Any) -> Directory:
    """Return who publishes where, by the configuration of *context* as it is now."""
    handle = publisher(context)
    if handle.directory is None or not handle.directory.holds_for(context.c):
        handle.directory = Directory(context.c)
    return handle.directory


def require_publisher(config: Mapping[str, Any]) -> Address:
    """Return where *config* publishes.

    Raises:
        ConfigurationError: nowhere, with the setting that is to blame.
    """
    if not config.get("zmq_enabled", True):
        raise ConfigurationError("zmq_enabled is False; gilmsg needs ZeroMQ")
    if config.get("mute", False):
        raise ConfigurationError("mute is True: this context cannot publish")
    address = _address(config)
    if address is None:
        names = ", ".join(sorted(_sockets.publishing_endpoints(config)))
        raise ConfigurationError(
            "endpoints has no entry for the name %r, so it has no port to publish on; declare one%s"
            % (config.get("name"), ", or set name to one of: " + names if names else "")
        )
    return address


def certname(config: Mapping[str, Any]) -> str:
    """Return the certificate file name (without suffix) under which *config* signs.

    Raises:
        ConfigurationError: certnames has no entry for us.
    """
    if "cert_prefix" in config:
        index = "%s.%s" % (config["cert_prefix"], hostname())
    else:
        index = str(config.get("name"))
        if index == _sockets.RELAY_INBOUND:
            index = "shell.%s" % hostname()
    try:
        return str((config.get("certnames") or {})[index])
    except KeyError:
        raise ConfigurationError(
            "sign_messages is on, but certnames has no entry for %r; add one with the name of its "
            "key and certificate files in ssldir" % (index,)
        ) from None


def hostname() -> str:
    """Return the short host name that fedmsg puts into names."""
    return socket.gethostname().partition(".")[0]


def named_after(config: Mapping[str, Any], module: str) -> Dict[str, Any]:
    """Return a copy of *config* with the name that fedmsg would guess for *module*."""
    config = dict(config)
    config["endpoints"] = dict(config.get("endpoints") or {})
    if not config.get("name"):
        if config.get("active", False):
            config["name"] = _sockets.RELAY_INBOUND
        else:
            guessed = "%s.%s" % (module, hostname())
            config["name"] = None if guessed.startswith("fedmsg") else guessed
    return config


def _address(config: Mapping[str, Any]) -> Optional[Address]:
    """Return where *config* publishes, None if it has nowhere to."""
    name, active = config.get("name"), bool(config.get("active", False))
    if not name:
        return None
    endpoints = _sockets.listed(config.get(name) if active else config["endpoints"].get(name))
    if not endpoints and active:
        raise ConfigurationError(
            "active is True, but %r does not say where the relay is; set it to its endpoint" % name
        )
    return Address(name, tuple(endpoints), active) if endpoints else None


def _new_context(config: Dict[str, Any]) -> Any:
    """Return a context of fedmsg's that was kept from binding a port, with our publisher in it."""
    publishes = config.get("zmq_enabled", True) and not config.get("mute", False)
    address = _address(config) if publishes else None
    handle = SharedPublisher(address, config) if address is not None else None
    # Ours, which an interrupt does not leave half made. fedmsg's own becomes a shadow of it, and is dropped.
    zmq_context = _contexts.idle(config)
    quiet = dict(config, mute=True, active=False, post_init_sleep=0, name=config["name"] or "-")
    context = fedmsg.core.FedMsgContext(**dict(quiet, io_threads=zmq_context))
    context.context, context.c = zmq_context, config
    if handle is not None:
        context.publisher = handle
    elif publishes:
        warnings.warn(
            "fedmsg is not configured to send any zmq messages for name %r" % config["name"],
            stacklevel=3,
        )
    return context
