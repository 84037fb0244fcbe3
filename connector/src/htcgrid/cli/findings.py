"""What a check of `htcgrid doctor` found, and what to do about it."""

from dataclasses import dataclass

from htcgrid.errors import (
    AuthenticationFailed,
    GridError,
    GridUnavailable,
    GridUnreachable,
    ProfileInvalid,
    ProfileMissing,
    RequestRejected,
    UnexpectedAnswer,
)


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    check: str
    good: bool
    found: str
    what_to_do: str = ""


def advice_on(error: GridError) -> str:
    """What to do about an error, as far as there is something."""
    said = str(error).lower()
    if "certificate" in said or "ssl" in said:
        return "if a proxy of your company opens TLS, name its certificates in SSL_CERT_FILE; else check the clock"
    if isinstance(error, ProfileMissing):
        return "write one with `htcgrid config set`, or start a grid with `htcgrid local up`"
    if isinstance(error, ProfileInvalid):
        return "mend it with `htcgrid config set`"
    if isinstance(error, AuthenticationFailed):
        return "check user and password: `htcgrid config set --username NAME --ask-password`"
    if isinstance(error, GridUnreachable):
        return "check the address in `htcgrid config show`, the network, and HTTPS_PROXY"
    if isinstance(error, GridUnavailable):
        return "try again later; if it stays so, ask who runs the grid"
    if isinstance(error, UnexpectedAnswer):
        return "check that the address is a grid's, and of this connector's version"
    if isinstance(error, RequestRejected):
        return "ask who runs the grid whether your user may use it"
    return ""
