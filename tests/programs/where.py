"""Print where gilmsg would be imported from. It needs nothing of tests: run it by its path."""

import importlib.util
import sys

sys.path.pop(0)  # this folder
print(importlib.util.find_spec("gilmsg").origin)
