"""The right to begin a task of a batch, which a worker and its agent can both take, and only one of them gets."""

import contextlib
import os


class Permits:
    """A semaphore of the kernel that is shared with one worker: one permit for each task that has not been begun.

    The worker takes one before it begins a task. The agent may take the rest away at any time, without asking a worker
    that is busy: the last tasks of the batch, as many as it got permits, will not be begun there.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)

    def give(self, count: int) -> None:
        """Let the worker begin so many tasks."""
        os.eventfd_write(self.descriptor, count)

    def take_back(self, most: int) -> int:
        """Take up to so many; gives how many there were to take."""
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while taken < most:
                os.eventfd_read(self.descriptor)
                taken += 1
        return taken

    def close(self) -> None:
        """Free the descriptor."""
        os.close(self.descriptor)
