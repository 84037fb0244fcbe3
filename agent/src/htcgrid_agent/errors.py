"""The errors of the agent, and what to do about errors of AWS."""

from http import HTTPStatus
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from htcgrid_chunks.errors import StorageUnavailable, WriteRefused
from htcgrid_dataplane import StoreUnavailable

AWS_ERRORS: Final = (StorageUnavailable, WriteRefused, StoreUnavailable, ClientError, BotoCoreError)
"""What a request to AWS raises after the client's own retries. Anything else is a bug."""

_THROTTLED: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_BAD_CONTENT: Final = frozenset(
    {
        "BatchEntryIdsNotDistinct",
        "BatchRequestTooLong",
        "InvalidBatchEntryId",
        "InvalidMessageContents",
        "InvalidParameterValue",
        "ItemCollectionSizeLimitExceededException",
        "SerializationException",
        "ValidationException",
    }
)
"""Codes by which DynamoDB and SQS refuse a whole request for what one entry of it contains."""


def is_transient(error: ClientError) -> bool:
    """Whether the same request may succeed a little later."""
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or error_code(error) in _THROTTLED


def refuses_content(error: Exception) -> bool:
    """Whether the same request will always be refused, because of what it contains.

    Anything else is retried after a backoff: also what an operator must mend, such as a missing permission.
    """
    return isinstance(error, WriteRefused) or (isinstance(error, ClientError) and error_code(error) in _BAD_CONTENT)


def error_code(error: ClientError) -> str:
    """The code of an error, without the prefix that older protocols of SQS put before it."""
    return error.response["Error"]["Code"].removeprefix("AWS.SimpleQueueService.")


class AgentError(Exception):
    """The root of the agent's errors."""

    retryable = False


class BadSettings(AgentError):
    """Raised when a setting is missing or illegal; the message names each and says what is legal."""


class BadFunction(AgentError):
    """Raised when the program that would run the function is missing."""


class FunctionNotFetched(AgentError):
    """Raised when the archive of a function cannot be fetched, is not the one that was meant, or cannot be unpacked."""


class CircuitOpen(HTTPClientError):
    """Raised instead of sending a request while the circuit breaker of its service is open."""

    fmt = "the circuit breaker of {service} is open for another {seconds:.1f} s"

    def __init__(self, service: str, seconds: float) -> None:
        super().__init__(service=service, seconds=seconds)
        self.seconds = seconds


class HandlerNotLoaded(AgentError):
    """Raised when a worker was started for a trial and could not load the handler."""
