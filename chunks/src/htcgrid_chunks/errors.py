"""What can go wrong with storage that agent and control plane share. `retryable` says whether a retry may succeed."""


class ChunkStoreError(Exception):
    """The root of this package's errors."""

    retryable = False


class StorageUnavailable(ChunkStoreError):
    """Raised when DynamoDB or SQS kept refusing a request after its retries."""

    retryable = True
