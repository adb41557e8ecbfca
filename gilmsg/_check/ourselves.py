"""Lines about ourselves: configuration, keys, CA, CRL, and the port that a publish would use."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import fedmsg.config

from .. import _client, _engine, _protocol, _settings, _trust
from .._settings import AddressBook
from ..errors import ConfigurationError, EndpointError, GilmsgError, Refused
from .report import FAIL, OK, UNKNOWN, WARNING, Line

#: Of an engine that is to open a port; the latter two of libzmq, of a setting that it cannot take.
_REFUSALS = (GilmsgError, ValueError, TypeError)


def _attempt(check: str, examine: Callable[..., object], *arguments: object) -> Line:
    """Return the line of *examine*, which returns its detail, or a list of it and warnings, or raises what is wrong."""
    try:
        found = examine(*arguments)
    except (ValueError, TypeError, Refused) as error:  # ConfigurationError is a ValueError
        return Line(check, FAIL, str(error))
    told = found if isinstance(found, list) else [str(found)]
    return Line(check, WARNING if len(told) > 1 else OK, "; ".join(told))


def lines(loaded: _settings.Loaded, config: dict[str, Any], warn_days: float | None) -> list[Line]:
    """Return what there is to say of *config*, which *loaded* became; take out of it what cannot be used.

    A certificate that ends within *warn_days* is a warning.
    """
    found = [*_configuration(loaded, config), *_own_keys(loaded, config), _attempt("crypto", _crypto, config)]
    if not found[-1].ok:
        return found
    files = [_attempt("ca", _ca, config, warn_days), _attempt("crl", _crl, config)]
    if config.get("sign_messages", False):
        files += _pair(config, warn_days)
        if all(line.ok for line in files):
            files.append(_attempt("signature", _signature, config))
    return found + files


def _configuration(loaded: _settings.Loaded, config: dict[str, Any]) -> list[Line]:
    """Take out of *config* what has the wrong type for any further look; return lines about that and the files read."""
    problems = []
    for (key, *name), problem in _settings.wrong(config):
        problems.append(problem)
        if name:
            del config[key][name[0]]
        else:
            config[key] = copy.deepcopy(fedmsg.config.defaults.get(key))
    found = [Line("configuration", FAIL, problem) for problem in [*problems, *loaded.problems]]
    found += [Line("configuration", WARNING, problem) for problem in loaded.passed_over]
    if not loaded.passed_over and (loaded.files or not loaded.problems):  # else a line says so already
        looked = f"no file read (looked in {', '.join(_settings.places())})" if not loaded.files else ""
        found.append(Line("configuration", OK, looked or f"read: {', '.join(loaded.files)}"))
    return found


def _own_keys(loaded: _settings.Loaded, config: dict[str, Any]) -> list[Line]:
    """Have *config* say for each gilmsg.* key what counts; take out what is wrong.

    Return a line for each that is wrong, or, if none is, one about all that are set: value and source.
    """
    found, told = [_attempt("settings", _settings.require_known, config)], []
    near = [Line("settings", WARNING, sentence) for sentence in loaded.said.near]
    for key in _settings.KEYS:
        try:
            value, source = _settings.sourced(key, loaded.said, config)
            _settings.checked(key, value, source if source in _settings.VARIABLES.values() else key)
        except ConfigurationError as error:
            found.append(Line("settings", FAIL, str(error)))
            config.pop(key, None)
            continue
        if source != _settings.DEFAULT:
            config[key] = value
        if source != _settings.DEFAULT or key in (_settings.ACK_TIMEOUT, _settings.HEAD_START):
            source = _naming(key, loaded.files) if source == _settings.FILES else source
            told.append(f"{key}{_shown(key, value)} ({source})")
    return near + ([line for line in found if not line.ok] or [Line("settings", OK, ", ".join(told))])


def _shown(key: str, value: Any) -> str:
    """Return the value as it may be told: a database's URL may hold a password, and a table is long."""
    if key == _settings.DATABASE:
        return ""
    if key == _settings.RECIPIENTS:
        return f" of {len(value or ())} topics"
    return f" {value:g} s" if isinstance(_settings.default(key), float) else f" {value}"


def _naming(key: str, files: Sequence[str]) -> str:
    """Return those of *files* that say something of *key*: of recipients all count, else the last."""
    found = [path for path in files if key in _settings.read_files([path]).config]
    return ", ".join(found if key == _settings.RECIPIENTS else found[-1:]) or _settings.FILES


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


def _ca(config: Mapping[str, Any], warn_days: float | None) -> list[str]:
    path = _trust.location(config, "ca_cert_location")
    span = _trust.read_ca(path).span
    span.require_current()
    return [f"{path}, valid until {span.until()}", *span.ending(warn_days)]


def _crl(config: Mapping[str, Any]) -> str | list[str]:
    """Examine the CRL by itself first: what is wrong with the CA must not hide it."""
    if not config.get("crl_location"):
        return "crl_location is not set: revoked certificates are accepted"
    path, ca = _trust.location(config, "crl_location"), None
    crl = _trust.read_crl(path)
    crl.span.require_current()
    with contextlib.suppress(ConfigurationError):  # a line says so already
        ca = _trust.read_ca(_trust.location(config, "ca_cert_location"))
    if ca is not None:
        _trust.require_issued(crl, ca)
    return [f"{path}, current until {crl.span.until()}", *crl.span.ending()]


def _pair(config: Mapping[str, Any], warn_days: float | None) -> list[Line]:
    """Return lines about our key, our certificate, and whether they belong together."""
    try:
        pair = _trust.key_pair(config, _client.names.certname(config))
    except ConfigurationError as error:
        return [Line("key", FAIL, str(error))]

    def certificate() -> list[str]:
        _, name, span = pair.load_certificate()
        span.require_current()
        if never := _protocol.unnameable(name):
            raise ConfigurationError(f"{pair.certificate_file}: {never}")
        return [f"{pair.certificate_file}, {name}, valid until {span.until()}", *span.ending(warn_days)]

    def match() -> str:
        pair.require_match(pair.load_key(), pair.load_certificate()[0])
        return "key and certificate belong together"

    key = _attempt("key", lambda: [pair.key_file, *pair.weaknesses(pair.load_key())])
    found = [key, _attempt("certificate", certificate)]
    return [*found, _attempt("pair", match)] if all(line.ok for line in found) else found


def ending(name: str, config: Mapping[str, Any], warn_days: float | None) -> list[str]:
    """Return a warning if the certificate of the recipient *name* lies in ``ssldir`` here, and ends soon."""
    with contextlib.suppress(ConfigurationError):
        _, common_name, span = _trust.key_pair(config, name).load_certificate()
        if common_name == name:
            return span.ending(warn_days)
    return []


def _signature(config: Mapping[str, Any]) -> str:
    """Sign a message that goes nowhere, and verify it as a recipient with our CA and CRL would."""
    signer = _trust.signer(config, _client.names.certname(config))
    message = {"topic": "", "msg": {}, "crypto": "x509"}
    covered = _protocol.canonical(message)
    try:
        name = _trust.verifier(config).signer_of(signer.seal(covered).on(message), covered)
    except Refused as refusal:
        raise ConfigurationError(
            f"what we sign with {signer.certificate_file} (ssldir, certnames) counts for nobody under our CA and CRL: "
            f"{refusal.reason}"
        ) from refusal
    return f"what we sign verifies as {name} under our CA and CRL"


def prefix(config: Mapping[str, Any]) -> str:
    """Return the beginning of every topic on which *config* publishes."""
    return f"{config.get('topic_prefix')}.{config.get('environment')}."


def foreign(topic: str, config: Mapping[str, Any]) -> Line:
    """Return the line that says that *topic* is none of this bus."""
    told = f"{topic!r} does not begin with {prefix(config)!r}, topic_prefix and environment, so nothing is published on it here"
    return Line("topic", FAIL, f"{told}; give the full topic, or mend those")


def asked(
    named: Sequence[str] | None, topic: str | None, config: Mapping[str, Any], found: list[Line]
) -> Sequence[str]:
    """Return the recipients to look for, by *config* if none are *named*; add to *found* what is wrong with that."""
    if topic is not None and not topic.startswith(prefix(config)):
        found.append(foreign(topic, config))
    if named is not None:
        return named
    table = _settings.plain(_settings.RECIPIENTS, config)
    every = dict.fromkeys(one for row in table.values() for one in row)
    entries = tuple(every) if topic is None else _settings.recipients_for(topic, table)
    if not entries:
        where = "any topic" if topic is None else repr(topic)
        found.append(Line("recipients", FAIL, f"none were given, and {_settings.RECIPIENTS} names none for {where}"))
    return entries


def opened(
    config: Mapping[str, Any], book: AddressBook, found: list[Line], handles: contextlib.ExitStack
) -> _engine.Port | None:
    """Return a port with what can be opened of a publisher and a listener, None if neither can.

    Lines about both are added to *found*; what is open is closed with *handles*.
    """
    port = endpoint(config, found, handles)
    try:
        port = _engine.publisher(port.address if port else None, book, config)
        handles.callback(port.close)
        whose = "this process's own listener" if port.shared_listener else "can listen"
        found.append(Line("listener", OK, f"{whose} for {book.ack_topic}"))
    except _REFUSALS as error:
        found.append(Line("listener", FAIL, f"cannot listen for ACKs: {error}"))
    return port


def endpoint(
    config: Mapping[str, Any], found: list[Line], handles: contextlib.ExitStack, consumes: bool = False
) -> _engine.Port | None:
    """Return a port with a publisher, None if it cannot be opened; add the line about it to *found*.

    Of a host that *consumes*, the consumer may well run, and hold it.
    """
    try:
        address = _client.context.require_publisher(config)
        _refuse_fedmsgs_own(_client.context.current())
        port = _engine.publisher(address, None, config)
    except EndpointError as error:
        found.append(_not_bound(address, str(error), consumes))
        return None
    except _REFUSALS as error:
        found.append(Line("endpoint", FAIL, str(error)))
        return None
    handles.callback(port.close)
    by = " by this process's own publisher" if port.shared else ""
    bound = f"{port.endpoint} (endpoints[{address.name!r}]) {'is' if by else 'can be'} bound{by}"
    connects = f"connects to the relay at {port.endpoint} (relay_inbound){by}"
    found.append(Line("endpoint", OK, connects if address.active else bound))
    return port


def _refuse_fedmsgs_own(current: Any) -> None:
    """Refuse to look where this thread publishes by fedmsg's own socket, which shows no subscribers."""
    plain = getattr(current, "publisher", None)
    if plain is not None and not isinstance(plain, _client.context.SharedPublisher):
        raise ConfigurationError(
            "this thread's publisher was made by fedmsg.init, and that shows nobody who listens; "
            "it is left as it is: use gilmsg.init, or check from another process"
        )


def _not_bound(address: _engine.Address, error: str, consumes: bool) -> Line:
    """Return the line that says why no port of *address* can be bound: *error*, or plain words if all are taken."""
    if error.count(os.strerror(errno.EADDRINUSE)) < len(address.endpoints):
        return Line("endpoint", FAIL, error)
    here = _engine.listening_ports()
    ours = [one for one in address.endpoints if _settings.port(one) in here]
    holder = f"another process, and for {', '.join(ours)} this one, holds" if ours else "another process holds"
    if len(ours) == len(address.endpoints):
        holder = "this process itself holds, by a publisher that is not this one,"
    pids = {one: _engine.listening_process(_settings.port(one)) for one in address.endpoints if one not in ours}
    every = ", ".join(f"{one} (process {pids[one]})" if pids.get(one) else one for one in address.endpoints)
    told = f"{holder} all our declared ports, endpoints[{address.name!r}]: {every}; declare one for each process that publishes"
    if consumes and not ours:
        return Line("endpoint", UNKNOWN, f"{told}; that may well be the consumer itself")
    return Line("endpoint", FAIL, told)
