"""Run the function of a console script, ``module:name``: fedmsg's commands have no other way to be started here."""

import importlib
import sys

module, _, name = sys.argv[1].partition(":")
sys.argv[1:] = sys.argv[2:]
sys.exit(getattr(importlib.import_module(module), name)())
