"""Why shared data is not at hand."""

from htcgrid_agent.errors import AgentError


class DataUnusable(AgentError):
    """Raised when tasks that refer to the data fail, now and whenever they are tried again; one sentence says why."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        """The `type` of the task's error."""


class DataUnavailable(AgentError):
    """Raised when the data cannot be had for now: the store does not answer, or there is no room for it."""

    retryable = True


class FetchStopped(AgentError):
    """Raised when the agent ends before the data has come."""
