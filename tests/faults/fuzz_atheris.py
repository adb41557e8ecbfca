"""Coverage-guided fuzzing of what parses what came from the bus; by hand, not part of the tests.

    pip install atheris        # not in the test extra; has wheels for CPython 3.11 to 3.13 on Linux
    python -m tests.faults.fuzz_atheris -max_total_time=60

Options are libFuzzer's. The first byte chooses what is fuzzed; a finding ends the run with its traceback
and leaves its input in a file ``crash-*``, which is given as an argument to run it again.
"""

import base64
import json
import os
import sys
import warnings

import atheris

with atheris.instrument_imports(include=["gilmsg"]):
    from . import parsers

HEAD, TAIL = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"


def main():
    warnings.simplefilter("ignore")  # cryptography says what it tolerates
    ground = parsers.Ground()
    child = os.fork()
    if child:  # libFuzzer ends its process without Python's say: somebody else has to tidy up
        try:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        finally:
            ground.close()
    topic = parsers.TOPIC.encode()

    def certificate(data):
        pem = HEAD + base64.encodebytes(data) + TAIL
        message = dict(ground.ack, certificate=base64.encodebytes(pem).decode())
        ground.verify(message)
        ground.take([topic, json.dumps(message).encode()])

    def insertion(data):
        """Bytes put into the real ACK at any place."""
        at = int.from_bytes(data[:2], "big") % len(ground.wire)
        ground.take([topic, ground.wire[:at] + data[3:] + ground.wire[at + (data[2:3] or b"\0")[0] % 8:]])

    targets = [
        lambda data: parsers.frame(data.split(b"\n", 1)),
        lambda data: parsers.frame([b"t", data]),
        lambda data: ground.take([topic, data]),
        lambda data: parsers.peers(data.split(b"\n")),
        certificate,
        insertion,
    ]

    def one(data):
        if data:
            targets[data[0] % len(targets)](data[1:])

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
