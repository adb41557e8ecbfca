"""Lines about ourselves: configuration, keys, CA, CRL, and the port that a publish would use."""

from __future__ import annotations

import copy
import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

import fedmsg.config

from .. import _engine, _protocol, _settings, _trust
from .._client import context
from .._settings import AddressBook
from ..errors import ConfigurationError, EndpointError, GilmsgError, Refused


class Line(NamedTuple):
    """One thing about ourselves: which, whether it is in order, and one sentence."""

    check: str
    ok: bool
    detail: str


def _attempt(check: str, examine: Callable[..., object], *arguments: object) -> Line:
    """Return the line of *examine*, which returns its detail or raises what is wrong."""
    try:
        return Line(check, True, str(examine(*arguments)))
    except (ValueError, TypeError, Refused) as error:  # ConfigurationError is a ValueError
        return Line(check, False, str(error))


def lines(loaded: _settings.Loaded, config: dict[str, Any]) -> list[Line]:
    """Return what there is to say of *config*, which *loaded* became; take out of it what has the wrong type."""
    found = _shape(config) + [Line("configuration", False, problem) for problem in loaded.problems]
    looked = f"no file read (looked in {', '.join(_settings.places())})"
    read = f"read: {', '.join(loaded.files)}" if loaded.files else looked
    found += [Line("configuration", True, read), *_own_keys(config), _attempt("crypto", _crypto, config)]
    if not found[-1].ok:
        return found
    files = [_attempt("ca", _ca, config), _attempt("crl", _crl, config)]
    if config.get("sign_messages", False):
        files += _pair(config)
        if all(line.ok for line in files):
            files.append(_attempt("signature", _signature, config))
    return found + files


def _shape(config: dict[str, Any]) -> list[Line]:
    """Take out of *config* what has the wrong type for any further look; return a line for each."""
    found = _settings.wrong(config)
    for (key, *name), _ in found:
        if name:
            del config[key][name[0]]
        else:
            config[key] = copy.deepcopy(fedmsg.config.defaults.get(key))
    return [Line("configuration", False, problem) for _, problem in found]


def _own_keys(config: Mapping[str, Any]) -> list[Line]:
    """Return a line for each gilmsg.* key that is wrong, one in all if none is."""
    found = [_attempt("settings", _settings.require_known, config)]
    found += [_attempt("settings", _settings.read, key, config) for key in _settings.KEYS]
    times = (_settings.ACK_TIMEOUT, _settings.HEAD_START)
    wrong = [line for line in found if not line.ok]
    return wrong or [Line("settings", True, ", ".join(f"{key} {_settings.read(key, config):g} s" for key in times))]


def _crypto(config: Mapping[str, Any]) -> str:
    _trust.require_x509(config)
    _trust.require_crypto()
    if config.get("sign_messages", False):
        return "on: we sign, and verify ACKs"
    if config.get("validate_signatures", False):
        raise ConfigurationError(
            "sign_messages is off while validate_signatures is on: recipients of such a configuration "
            "drop what we send; set sign_messages to True"
        )
    return "on for ACKs, but sign_messages is off: recipients that validate drop what we send"


def _ca(config: Mapping[str, Any]) -> str:
    path = _trust.location(config, "ca_cert_location")
    span = _trust.verifying.read_ca(path).span
    span.require_current()
    return f"{path}, valid until {span.until()}"


def _crl(config: Mapping[str, Any]) -> str:
    """Examine the CRL by itself first: what is wrong with the CA must not hide it."""
    if not config.get("crl_location"):
        return "crl_location is not set: revoked certificates are accepted"
    path = _trust.location(config, "crl_location")
    crl = _trust.verifying.read_crl(path)
    crl.span.require_current()
    try:
        ca = _trust.verifying.read_ca(_trust.location(config, "ca_cert_location"))
    except ConfigurationError:
        pass  # a line says so already
    else:
        _trust.verifying.require_issued(crl, ca)
    return f"{path}, current until {crl.span.until()}"


def _pair(config: Mapping[str, Any]) -> list[Line]:
    """Return lines about our key, our certificate, and whether they belong together."""
    try:
        pair = _trust.key_pair(config, context.certname(config))
    except ConfigurationError as error:
        return [Line("key", False, str(error))]
    loaded: dict[str, Any] = {}

    def key() -> str:
        loaded["key"] = pair.load_key()
        return pair.key_file

    def certificate() -> str:
        loaded["certificate"], name, span = pair.load_certificate()
        span.require_current()
        return f"{pair.certificate_file}, {name}, valid until {span.until()}"

    def match() -> str:
        pair.require_match(loaded["key"], loaded["certificate"])
        return "key and certificate belong together"

    found = [_attempt("key", key), _attempt("certificate", certificate)]
    return [*found, _attempt("pair", match)] if len(loaded) == 2 else found


def _signature(config: Mapping[str, Any]) -> str:
    """Sign a message that goes nowhere, and verify it as a recipient with our CA and CRL would."""
    signer = _trust.signer(config, context.certname(config))
    message = {"topic": "", "msg": {}, "crypto": "x509"}
    covered = _protocol.canonical(message)
    try:
        name = _trust.verifier(config).signer_of({**message, **signer.seal(covered)}, covered)
    except Refused as refusal:
        raise ConfigurationError(
            f"what we sign with {signer.certificate_file} (ssldir, certnames) counts for nobody under our CA and CRL: "
            f"{refusal.reason}"
        ) from refusal
    return f"what we sign verifies as {name} under our CA and CRL"


def prefix(config: Mapping[str, Any]) -> str:
    """Return the beginning of every topic on which *config* publishes."""
    return f"{config.get('topic_prefix')}.{config.get('environment')}."


def asked(named: Sequence[str] | None, topic: str | None, config: Mapping[str, Any]) -> tuple[Sequence[str], list[Line]]:
    """Return the recipients to look for, by *config* if none are *named*, and lines about them and *topic*."""
    found = []
    if topic is not None and not topic.startswith(prefix(config)):
        detail = (
            f"{topic!r} does not begin with {prefix(config)!r}, topic_prefix and environment, so nothing is published "
            "on it here; give the full topic, or mend those"
        )
        found.append(Line("topic", False, detail))
    try:
        table = _settings.read(_settings.RECIPIENTS, config) if named is None else {}
    except ConfigurationError:
        return (), found  # a line says so already
    if named is None:
        every = dict.fromkeys(one for row in table.values() for one in row)
        named = tuple(every) if topic is None else _settings.recipients_for(topic, table)
        if not named:
            where = "any topic" if topic is None else repr(topic)
            none = f"none were given, and {_settings.RECIPIENTS} names none for {where}"
            found.append(Line("recipients", False, none))
    return named, found


def head_start(config: Mapping[str, Any]) -> float:
    """Return for how many seconds a young publisher waits under *config*."""
    try:
        return float(_settings.read(_settings.HEAD_START, config))
    except ConfigurationError:
        return _settings.DEFAULT_HEAD_START


def opened(config: Mapping[str, Any]) -> tuple[_engine.Port | None, AddressBook | None, list[Line]]:
    """Return a port with what can be opened of a publisher and a listener, who publishes where, and lines."""
    found: list[Line] = []
    out = port = book = address = None
    try:
        wanted = context.require_publisher(config)
        _refuse_fedmsgs_own(context.current())
        out, address = _engine.publisher(wanted, None, config), wanted
        found.append(Line("endpoint", True, _told(out, wanted)))
    except EndpointError as error:
        found.append(Line("endpoint", False, _in_so_many_words(wanted, str(error))))
    except (GilmsgError, ValueError, TypeError) as error:
        found.append(Line("endpoint", False, str(error)))
    try:
        book = AddressBook(config)
        port = _engine.publisher(address, book, config)
        whose = "this process's own listener" if port.shared_listener else "can listen"
        found.append(Line("listener", True, f"{whose} for {book.ack_topic}"))
    except (GilmsgError, KeyError, TypeError, ValueError) as error:
        found.append(Line("listener", False, f"cannot listen for ACKs: {error}"))
    if out is not None and port is not None:
        out.close()
    return port or out, book, found


def _refuse_fedmsgs_own(current: Any) -> None:
    """Refuse to look where this thread publishes by fedmsg's own socket, which shows no subscribers."""
    plain = getattr(current, "publisher", None)
    if plain is not None and not isinstance(plain, context.SharedPublisher):
        raise ConfigurationError(
            "this thread's publisher was made by fedmsg.init, and that shows nobody who listens; "
            "it is left as it is: use gilmsg.init, or check from another process"
        )


def _told(port: _engine.Port, address: _engine.Address) -> str:
    by = " by this process's own publisher" if port.shared else ""
    if address.active:
        return f"connects to the relay at {port.endpoint} (relay_inbound){by}"
    return f"{port.endpoint} (endpoints[{address.name!r}]) {'is' if by else 'can be'} bound{by}"


def relay(endpoint: str, absent: str | None) -> Line:
    """Return the line about the relay, with why it is *absent*."""
    there = f"the relay at {endpoint} (relay_inbound) is there; recipients behind it cannot be seen"
    return Line("relay", absent is None, f"{absent} (relay_inbound)" if absent else there)


def _in_so_many_words(address: _engine.Address, otherwise: str) -> str:
    """Return why none of our ports can be bound: in plain words if all are taken."""
    ports = {endpoint: _settings.port(endpoint) for endpoint in address.endpoints}
    if not all(map(_is_taken, ports.values())):
        return otherwise
    here = _engine.listening_ports()
    ours = [endpoint for endpoint, port in ports.items() if port in here]
    holder = f"another process, and for {', '.join(ours)} this one, holds" if ours else "another process holds"
    if len(ours) == len(ports):
        holder = "this process itself holds, by a publisher that is not this one,"
    return (
        f"{holder} all our declared ports, endpoints[{address.name!r}]: {', '.join(address.endpoints)}; "
        "declare one for each process that publishes"
    )


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        # As libzmq does; without it, a port with a connection in TIME_WAIT looks taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        return False
