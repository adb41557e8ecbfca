"""The configuration of a bus that we make ourselves: everything that a host's own files might set is set."""

from typing import Any, Dict, List, Mapping

from ._pki import Authority

TOPIC_PREFIX = "org.example"


def signed_bus(
    authority: Authority,
    endpoints: Mapping[str, List[str]],
    certnames: Mapping[str, str],
    topic_prefix: str = TOPIC_PREFIX,
    **changes: Any
) -> Dict[str, Any]:
    """Return the configuration of a bus that signs and validates with the keys of *authority*.

    The socket settings are those that fedmsg ships; *changes* win over everything.
    """
    config = {
        "topic_prefix": topic_prefix,
        "topic_prefix_re": topic_prefix.replace(".", r"\.") + r"\.[^\W\d_]+",
        "environment": "dev",
        "endpoints": dict(endpoints),
        "certnames": dict(certnames),
        "sign_messages": True,
        "validate_signatures": True,
        "crypto_backend": "x509",
        "crypto_validate_backends": ["x509"],
        "ssldir": authority.folder,
        "ca_cert_location": authority.ca_file,
        "crl_location": authority.crl_file,
        "routing_policy": {},
        "routing_nitpicky": False,
        "zmq_enabled": True,
        "active": False,
        "mute": False,
        "io_threads": 1,
        "post_init_sleep": 0.5,
        "high_water_mark": 0,
        "zmq_linger": 1000,
        "zmq_reconnect_ivl": 100,
        "zmq_reconnect_ivl_max": 1000,
    }
    return dict(config, **changes)
