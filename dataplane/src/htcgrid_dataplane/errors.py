"""Errors of the payload stores."""


class DataPlaneError(Exception):
    """The root of the data plane's errors. `retryable` says whether the same call may succeed later."""

    retryable = False


class PayloadMissing(DataPlaneError):
    """Raised when nothing lies under a key, because it was never put there or has expired."""


class PayloadCorrupt(DataPlaneError):
    """Raised when bytes are not compressed JSON lines, hold another number of lines than said, are too many, or are not
    as many as was announced."""


class PayloadTooLarge(DataPlaneError):
    """Raised when the texts of a chunk are more than a reader of the payload would take."""


class StoreUnavailable(DataPlaneError):
    """Raised when the store refused or did not answer after the client's own retries."""

    retryable = True


class StoreFull(StoreUnavailable):
    """Raised when the store has no room. It passes when payloads expire, or the store is made larger."""


class StoreMisconfigured(DataPlaneError):
    """Raised when a store is opened that cannot keep payloads safely as it is set up; the message says what to do."""
