"""What ``gilmsg.check`` finds out about ourselves without a socket: configuration, keys, CA, CRL.

Each finding is a line of its own, and none hides another: what ``publish`` would refuse at
its first look is looked at in parts here.
"""

import copy
import importlib
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple

import fedmsg.config  # type: ignore[import-untyped]

from . import _acks, _bus, _config_files, _config_types, _settings, _trust
from ._report import Line
from .errors import ConfigurationError


def lines(loaded: _config_files.Loaded, config: Mapping[str, Any]) -> List[Line]:
    """Return what there is to say of *config*, which *loaded* became."""
    found = list(_configuration(loaded)) + _own_keys(config)
    crypto = attempt("crypto", lambda: _crypto(config))
    found.append(crypto)
    if not crypto.ok:
        return found
    trust = [attempt("ca", lambda: _ca(config)), attempt("crl", lambda: _crl(config))]
    found += trust
    if config.get("sign_messages", False):
        pair = list(_pair(config))
        found += pair
        if all(line.ok for line in trust + pair):
            found.append(attempt("signature", lambda: _signature(config)))
    return found


def shape(config: Dict[str, Any]) -> List[Line]:
    """Take out of *config* what has the wrong type for any further look; return a line for each."""
    found = _config_types.wrong(config)
    for (key, *name), _ in found:
        if name:
            del config[key][name[0]]
        else:
            config[key] = copy.deepcopy(fedmsg.config.defaults.get(key))
    return [Line("configuration", False, problem) for _, problem in found]


def attempt(check: str, examine: Callable[[], str]) -> Line:
    """Return the line of *examine*, which returns its detail or raises what is wrong."""
    try:
        return Line(check, True, examine())
    except (ValueError, TypeError, _acks.Refused) as error:  # ConfigurationError is a ValueError
        return Line(check, False, str(error))


def _configuration(loaded: _config_files.Loaded) -> Iterator[Line]:
    for problem in loaded.problems:
        yield Line("configuration", False, problem)
    if loaded.files:
        yield Line("configuration", True, "read: %s" % ", ".join(loaded.files))
    else:
        yield Line("configuration", True, "no file read (looked in %s)" % _config_files.places())


def _own_keys(config: Mapping[str, Any]) -> List[Line]:
    """Return a line for each gilmsg.* key that is wrong, one in all if none is."""
    found = [attempt("settings", lambda: _known(config))]
    found += [attempt("settings", lambda: str(_settings.read(key, config))) for key in _settings.KEYS]
    wrong = [line for line in found if not line.ok]
    times = (_settings.ACK_TIMEOUT, _settings.HEAD_START)
    return wrong or [
        Line("settings", True, ", ".join("%s %g s" % (key, _settings.read(key, config)) for key in times))
    ]


def _known(config: Mapping[str, Any]) -> str:
    _settings.require_known(config)
    return "no unknown key"


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
    anchor = _module("_anchor").Anchor(path, None)
    anchor.check_dates()
    return "%s, valid until %s" % (path, anchor.spans[0].until())


def _crl(config: Mapping[str, Any]) -> str:
    """Examine the CRL by itself first: what is wrong with the CA must not hide it."""
    if not config.get("crl_location"):
        return "crl_location is not set: revoked certificates are accepted"
    path = _trust.location(config, "crl_location")
    _anchor = _module("_anchor")
    crl = _anchor.read_crl(path)
    crl.span.require_current()
    try:
        ca = _anchor.read_ca(_trust.location(config, "ca_cert_location"))
    except ConfigurationError:  # a line says so already
        pass
    else:
        _anchor.require_issued(crl, ca)
    return "%s, current until %s" % (path, crl.span.until())


def _pair(config: Mapping[str, Any]) -> Iterator[Line]:
    """Yield lines about our key, our certificate, and whether they belong together."""
    _keypair = _module("_keypair")
    try:
        pair = _trust.key_pair(config, _bus.certname(config))
    except ConfigurationError as error:
        yield Line("key", False, str(error))
        return
    key, line = _loaded(_keypair.load_key, pair.key_file, "key")
    yield line
    certificate, line = _loaded(_keypair.load_certificate, pair.certificate_file, "certificate")
    if certificate is not None:
        line = attempt("certificate", lambda: _certificate(certificate, pair.certificate_file))
    yield line
    if key is not None and certificate is not None:
        yield attempt("pair", lambda: _match(key, pair.key_file, certificate, pair.certificate_file))


def _loaded(load: Callable[[str], Any], path: str, check: str) -> Tuple[Any, Line]:
    try:
        return load(path), Line(check, True, path)
    except ConfigurationError as error:
        return None, Line(check, False, str(error))


def _certificate(certificate: Any, path: str) -> str:
    _keypair = _module("_keypair")
    name, span = _keypair.owner(certificate, path), _keypair.span(certificate, path)
    span.require_current()
    return "%s, %s, valid until %s" % (path, name, span.until())


def _match(*key_and_certificate: Any) -> str:
    _module("_keypair").require_match(*key_and_certificate)
    return "key and certificate belong together"


def _signature(config: Mapping[str, Any]) -> str:
    """Sign a message that goes nowhere, and verify it as a recipient with our CA and CRL would."""
    pair = _trust.signing_key(config, _bus.certname(config))
    try:
        signer = _trust.trust_store(config).signer_of(pair.sign({"topic": "", "msg": {}}))
    except _acks.Refused as refusal:
        raise ConfigurationError(
            "what we sign with %s (ssldir, certnames) counts for nobody under our CA and CRL: %s"
            % (pair.certificate_file, refusal.reason)
        ) from refusal
    return "what we sign verifies as %s under our CA and CRL" % signer


def _module(name: str) -> Any:
    """Return one of our modules that need the crypto libraries; it is loaded once the line on these is there."""
    return importlib.import_module("." + name, __package__)
