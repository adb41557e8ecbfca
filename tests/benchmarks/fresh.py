"""A fresh process: ``python -m tests.benchmarks.fresh MODULE [TIMES]``.

It prints the seconds of the import of MODULE, gilmsg or fedmsg, and of each of TIMES publishes by it.
"""

import importlib
import sys
import time

began = time.perf_counter()
module = importlib.import_module(sys.argv[1])
print(time.perf_counter() - began)
for _ in range(int(sys.argv[2]) if sys.argv[2:] else 0):
    began = time.perf_counter()
    module.publish(topic="tail", modname="benchmark", msg={"n": 1}, recipients=["tail"], ack_timeout=60)
    print(time.perf_counter() - began)
