"""What stops an agent, and what only delays it."""

from typing import Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_dataplane import StoreUnavailable

OUT_OF_REACH: Final = (StorageUnavailable, StoreUnavailable, ClientError, BotoCoreError)
"""What a request to AWS raises after the client's own retries. Tried again after a backoff; anything else is a bug."""


class AgentError(Exception):
    """The root of the agent's errors."""

    retryable = False


class BadSettings(AgentError):
    """Raised when a setting is missing or illegal; the message names each and says what is legal."""


class ServiceAvoided(HTTPClientError):
    """Raised instead of asking a service that has kept failing, until its pause is over."""

    fmt = "{service} kept failing: it is not asked for another {seconds:.1f} s"

    def __init__(self, service: str, seconds: float) -> None:
        super().__init__(service=service, seconds=seconds)
        self.seconds = seconds


class HandlerNotLoaded(AgentError):
    """Raised when a worker was started for a trial and could not load the handler."""


class BadFunction(AgentError):
    """Raised when the program that would run the function is missing."""
