"""The root of this package's errors."""


class EksError(Exception):
    """The root of all errors that this package raises by itself."""


class PodsUnknown(EksError):
    """Raised when the API server did not say which pods a node has for as long as there was time."""


class BadSettings(EksError):
    """Raised when an environment variable is missing or has an illegal value; the message names each."""
