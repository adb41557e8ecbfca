"""Listen at the ports that are named, until stdin ends."""

import socket
import sys

holders = [socket.create_server(("", int(port)), reuse_port=False) for port in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.read()
