"""What may go wrong while a grid is described, brought up or taken down."""

from typing import ClassVar


class DeployError(Exception):
    """Root of the errors of this package. Each is one sentence that says what to do."""

    exit_code: ClassVar[int] = 1
    """With which the program ends."""


class ConfigInvalid(DeployError):
    """Raised when a grid's file is not what it must be; names each wrong key and what is legal. Nothing was done."""

    exit_code = 2
