"""Errors of the control plane. `retryable` says whether the same call may succeed later."""

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta


class ControlPlaneError(Exception):
    """The root of the control plane's errors."""

    retryable = False


class SessionNotFound(ControlPlaneError):
    """Raised when a session does not exist or belongs to another tenant: the two are not told apart."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no session {session_id} among yours.")


class SessionConflict(ControlPlaneError):
    """Raised when a request contradicts what the session already holds."""

    @classmethod
    def used_id(cls, session_id: str) -> "SessionConflict":
        """The error of an id that cannot be used for a new session. It does not tell whose session has it, or had it
        until it expired."""
        return cls(f"The id {session_id} has been used for a session before: choose a new one.")


class SessionClosed(ControlPlaneError):
    """Raised when chunks are added to a session that is being cancelled, has timed out or has ended."""


class SessionChanged(ControlPlaneError):
    """Raised when a session was stopped, paused or resumed while it was given chunks: the request is to be repeated."""

    retryable = True


class QuotaExceeded(ControlPlaneError):
    """Raised when a tenant uses as much as it may; `retry_after` says when to ask again."""

    retryable = True

    def __init__(self, message: str, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ScalingFailed(ControlPlaneError):
    """Raised when it could not be published how many agents some partitions want."""

    retryable = True

    def __init__(self, partitions: Sequence[str]) -> None:
        super().__init__(
            f"It could not be published how many agents are wanted for {', '.join(partitions)}; the log says why."
        )


class DataNotFound(ControlPlaneError):
    """Raised when a tenant has put no such shared data, or it has expired."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"There is no shared data {sha256} of yours: put it.")


class DataMissing(ControlPlaneError):
    """Raised when a session is given tasks that refer to shared data which is not there."""

    def __init__(self, digests: Collection[str]) -> None:
        named = ", ".join(sorted(digests))
        super().__init__(f"Shared data is missing: put {named} first, and complete the upload.")


class DataConflict(ControlPlaneError):
    """Raised when a request contradicts what is known of shared data, or comes before its upload is whole."""


class DataInUse(ControlPlaneError):
    """Raised when shared data is to be deleted to which sessions refer whose deadline has not passed."""


class DataBusy(ControlPlaneError):
    """Raised when shared data is being deleted or written by another request: the request is to be repeated."""

    retryable = True

    def __init__(self, sha256: str) -> None:
        super().__init__(f"Another request is changing the shared data {sha256}: repeat this one.")


class NotAllowed(ControlPlaneError):
    """Raised when a tenant's limits do not allow what a request asks for, whenever it comes."""


class TaskNotFound(ControlPlaneError):
    """Raised when a session has no task with an index."""


class UnknownPartition(ControlPlaneError):
    """Raised when a session names a partition that this grid does not have."""


class UnknownStore(ControlPlaneError):
    """Raised when a request names a payload store that this grid does not have, or passes nothing on to."""

    @classmethod
    def of(cls, store: str, known: Iterable[str]) -> "UnknownStore":
        """The error of a store that the grid does not have."""
        return cls(f"This grid has no payload store '{store}'; it has: {', '.join(sorted(known))}.")


class PartRefused(ControlPlaneError):
    """Raised when what a request says of a part of a payload does not fit together."""


class PayloadExists(ControlPlaneError):
    """Raised when a payload is put where another one lies."""


class PartitionDraining(UnknownPartition):
    """Raised when a new session names a partition that is being removed."""


class PartitionTaken(ControlPlaneError):
    """Raised when a stack registers a partition under a name that another stack's has."""


class PartitionInUse(ControlPlaneError):
    """Raised when a partition is to be removed that still has sessions; says how many."""


class TicketRefused(ControlPlaneError):
    """Raised when a push ticket is unknown, used or past its time."""


class AccountOpen(ControlPlaneError):
    """Raised when a session is to end although submitted differs from completed + failed + cancelled."""

    retryable = True
