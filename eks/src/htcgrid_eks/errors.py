"""The root of this package's errors."""


class EksError(Exception):
    """The root of all errors that this package raises by itself."""


class BadSettings(EksError):
    """Raised when an environment variable is missing or has an illegal value; the message names each."""
