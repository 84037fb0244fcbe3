"""Errors of the storage that agent and control plane share. `retryable` says whether a retry may succeed."""


class ChunkStoreError(Exception):
    """The root of this package's errors."""

    retryable = False


class StorageUnavailable(ChunkStoreError):
    """Raised when DynamoDB or SQS kept refusing a request after its retries."""

    retryable = True


class WriteRefused(ChunkStoreError):
    """Raised when DynamoDB refuses a write for what it contains, so that it will always be refused. The other writes of
    the same request have been made."""
