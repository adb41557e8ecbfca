"""A WSGI application that publishes at each request, and at import where AT_IMPORT is set: see test_gunicorn."""

import json
import os

import gilmsg


def publish():
    with open("config.json") as stream:
        config = json.load(stream)
    call = {**config, "topic": "t", "msg": {}, "recipients": ["alice"], "ack_timeout": 10, "gilmsg.head_start": 20.0}
    return ",".join(gilmsg.publish(**call).acks)


loaded = publish() if os.environ.get("AT_IMPORT") else ""


def app(environ, start_response):
    """Answer with our pid, and who acknowledged, or what was raised."""
    try:
        answer = publish()
    except Exception as error:  # noqa: BLE001  whatever it is, it is told
        answer = repr(error)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])
    return [f"{os.getpid()} {answer}".encode()]
