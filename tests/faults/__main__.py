"""``python -m tests.faults --seconds 3600 --seed N``: random faults, and whether the promise held.

The seed is printed first: with it a run can be repeated. Exit status 0: no violation. 1: there
were some; they are printed, and the logs are kept. 2: bad usage, or the run could not be made.
"""

import argparse
import os
import random
import sys
import traceback

from . import hosts
from .history import check
from .run import Run

#: Violations that are printed in full.
_SHOWN = 20


def main(arguments=None):
    return go(parser("python -m tests.faults", __doc__).parse_args(arguments), _played)


def go(options, played):
    """Have *played* (seed, whether there are partitions, options) return verdict and folder; return the exit status."""
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}, {options.seconds:g} s", flush=True)
    reason = hosts.unavailable()
    if reason:
        print(f"without partitions: {reason}", flush=True)
        if os.environ.get("GILMSG_NO_SKIPS"):
            print("GILMSG_NO_SKIPS forbids that", file=sys.stderr)
            return 2
    try:
        verdict, folder = played(seed, not reason, options)
    except Exception:  # noqa: BLE001  whatever it is, it is told
        traceback.print_exc()
        return 2
    return report(verdict, folder)


def _played(seed, partitions, options):
    with Run(seed, options.seconds, partitions, options.forgetful) as run:
        verdict = check(*run.play())
        run.keep = bool(verdict.violations)
    return verdict, run.folder


def report(verdict, folder):
    """Print the figures; return the exit status."""
    for name, number in sorted(verdict.figures.items()):
        print(f"{name:<40} {number}")
    for what, seconds in sorted(verdict.seconds.items()):
        print(f"{what:<40} {seconds:.2f} s")
    print(f"{'violations':<40} {len(verdict.violations)}")
    for violation in verdict.violations[:_SHOWN]:
        print("VIOLATION " + violation)
    if verdict.violations:
        print(f"the logs are in {folder}")
    return 1 if verdict.violations else 0


def parser(program, description):
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--seconds", type=float, default=30.0, help="for how long faults happen (30)")
    parser.add_argument("--seed", type=int, help="of a run to repeat; random by default")
    parser.add_argument(
        "--forgetful", action="store_true",
        help="one recipient loses every second message that it has acknowledged: a run that has to fail",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
