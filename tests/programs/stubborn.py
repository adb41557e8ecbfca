"""Ignore the signals that ask to end, and start orphans in sessions of their own; at a terminal, read a line."""

import os
import signal
import subprocess
import time

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    subprocess.call(["setsid", "-f", "sleep", "1000"])
    subprocess.Popen(["sleep", "1001"])
    print("stubborn", flush=True)
    if os.isatty(0):
        print("got", input(), flush=True)
    while True:
        time.sleep(1000)
