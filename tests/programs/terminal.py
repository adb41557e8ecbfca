"""Run the command in the arguments on a pseudo terminal; end as it does."""

import os
import pty
import sys

if __name__ == "__main__":
    sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
