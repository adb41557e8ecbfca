"""``python -m tests.faults.outbox --seconds 3600 --database sqlite --seed N``: random faults, and whether the outbox kept its promise.

The seed is printed first: with it a run can be repeated. Exit status 0: no violation. 1: there
were some; they are printed, and the logs are kept. 2: bad usage, or the run could not be made.
"""

import sys

from .. import __main__ as program
from ..history import Verdict
from .history import check
from .places import KINDS
from .run import Run


def main(arguments=None):
    parser = program.parser("python -m tests.faults.outbox", __doc__)
    parser.add_argument("--database", choices=sorted(KINDS), default="sqlite", help="where the outbox is (sqlite)")
    return program.go(parser.parse_args(arguments), _played)


def _played(seed, partitions, options):
    run = Run(seed, options.seconds, partitions, options.database, options.forgetful)
    with run:
        figures, violations = check(run.play())
        run.keep = bool(violations)
    seconds = {"until all was delivered": run.drained}
    return Verdict({**figures, **run.faults()}, violations, seconds), run.folder


if __name__ == "__main__":
    sys.exit(main())
