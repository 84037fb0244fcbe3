"""Ends the processes of a supervisor that was killed.

Run as a script with nothing but the standard library. It reads lines from its standard input: `+<group>` puts a
process group under guard, `-<group>` releases it. When the pipe closes, the supervisor is gone in whatever way,
and every group still guarded is killed.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    """Guard process groups until standard input ends."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
