"""What can go wrong with a local grid. Every message is one sentence for the person at the terminal."""


class LocalGridError(Exception):
    """Root of the local grid's errors."""


class NotInstalledError(LocalGridError):
    """Raised when the source tree or one of the tools that `make install` brings is missing."""


class OptionError(LocalGridError):
    """Raised when a grid is asked for in a form that none can have."""


class HomeError(LocalGridError):
    """Raised when the home directory is none, or cannot be made or used."""


class HandlerError(LocalGridError):
    """Raised when the function that the agents should run cannot be found where it was said to be."""


class PortInUseError(LocalGridError):
    """Raised when the port that was asked for is taken."""


class GridRunningError(LocalGridError):
    """Raised when another process already runs a grid in the same home directory."""


class NoGridError(LocalGridError):
    """Raised when a command needs a running grid and there is none."""


class EmulatorError(LocalGridError):
    """Raised when the embedded AWS does not start, or ends while the grid is up."""


class AgentStartError(LocalGridError):
    """Raised when an agent ends, or says nothing, while the grid starts."""


class DeployError(LocalGridError):
    """Raised when `sam build` or `sam deploy` fails; the message names the resource and the reason."""
