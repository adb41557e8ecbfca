"""What all containers have as /etc/fedmsg.d/bus.py. The host name of each, in compose.yaml, says who it is."""

import socket

NAMES = ["deliverer", "mailer", "warehouse"]

config = {
    "name": socket.gethostname(),
    "topic_prefix": "org.example",
    "environment": "dev",
    "endpoints": {name: [f"tcp://{name}:3000"] for name in NAMES},
    "certnames": {name: name for name in NAMES},
    "zmq_enabled": True,  # else fedmsg-hub does not start
    "sign_messages": True,
    "validate_signatures": True,
    "ssldir": "/etc/pki/fedmsg",
    "ca_cert_location": "/etc/pki/fedmsg/ca.crt",
    "crl_location": "/etc/pki/fedmsg/crl.pem",
}
