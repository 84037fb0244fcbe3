"""Who asks: tokens of the grid's user pool, renewed before they expire and without a word."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from htcgrid.errors import AuthenticationFailed, GridError, GridUnavailable, GridUnreachable

if TYPE_CHECKING:
    from mypy_boto3_cognito_idp import CognitoIdentityProviderClient
    from mypy_boto3_cognito_idp.type_defs import InitiateAuthResponseTypeDef

    from htcgrid.profile import Profile

_RENEW_BEFORE_SECONDS = 120.0
"""How long before its end a token is renewed: longer than a request may wait on its way."""

_REFUSED = {"NotAuthorizedException", "UserNotFoundException"}
_USER_UNREADY = {"PasswordResetRequiredException", "UserNotConfirmedException"}
_CLIENT_WRONG = {"ResourceNotFoundException", "InvalidParameterException"}


@dataclass(frozen=True, slots=True)
class Grant:
    """What the user pool gives to a user it knows."""

    id_token: str = field(repr=False)
    lifetime: float
    """Seconds."""
    refresh_token: str | None = field(repr=False, default=None)


class UserPool(Protocol):
    """Gives tokens; may block."""

    def with_password(self, username: str, password: str) -> Grant:
        """Sign in. Raises `AuthenticationFailed` for a wrong user or password."""

    def with_refresh_token(self, refresh_token: str) -> Grant:
        """A new token. Raises `AuthenticationFailed` when the refresh token has expired or was revoked."""


class Tokens:
    """The current token of one user."""

    def __init__(
        self, pool: UserPool, username: str, password: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._username = username
        self._password = password
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token = ""
        self._renew_at = float("-inf")
        self._refresh_token: str | None = None

    async def current(self) -> str:
        """A token that is good for a while.

        Raises:
            AuthenticationFailed: the user pool refuses the user.
            GridUnreachable: the user pool does not answer.
        """
        if self._clock() >= self._renew_at:
            async with self._lock:
                if self._clock() >= self._renew_at:  # else another request has renewed it meanwhile
                    await self._renew()
        return self._token

    async def instead_of(self, refused: str) -> str:
        """Another token than one that the grid refused. Raises as `current` does."""
        async with self._lock:
            if self._token == refused:
                await self._renew()
        return self._token

    async def _renew(self) -> None:
        grant = await asyncio.to_thread(self._ask)
        # Half the lifetime at most, so that short-lived tokens are not renewed at every request.
        self._renew_at = self._clock() + grant.lifetime - min(_RENEW_BEFORE_SECONDS, grant.lifetime / 2)
        self._token = grant.id_token
        self._refresh_token = grant.refresh_token or self._refresh_token

    def _ask(self) -> Grant:
        if self._refresh_token is not None:
            try:
                return self._pool.with_refresh_token(self._refresh_token)
            except AuthenticationFailed:
                self._refresh_token = None  # it has expired; the password still holds
        return self._pool.with_password(self._username, self._password)


class Cognito:
    """The grid's Amazon Cognito user pool."""

    def __init__(self, profile: "Profile") -> None:
        self._profile = profile
        self._where = profile.aws_endpoint_url or f"Cognito in {profile.region}"
        self._made: CognitoIdentityProviderClient | None = None

    def with_password(self, username: str, password: str) -> Grant:
        """See `UserPool.with_password`."""
        return self._initiate("USER_PASSWORD_AUTH", {"USERNAME": username, "PASSWORD": password})

    def with_refresh_token(self, refresh_token: str) -> Grant:
        """See `UserPool.with_refresh_token`."""
        return self._initiate("REFRESH_TOKEN_AUTH", {"REFRESH_TOKEN": refresh_token})

    def _client(self) -> "CognitoIdentityProviderClient":
        if self._made is None:
            import boto3
            from botocore import UNSIGNED
            from botocore.config import Config

            # The user needs no AWS credentials: sign-in is an unsigned request.
            settings = Config(
                signature_version=UNSIGNED, connect_timeout=5, read_timeout=15, retries={"mode": "standard"}
            )
            self._made = boto3.client(
                "cognito-idp",
                region_name=self._profile.region,
                endpoint_url=self._profile.aws_endpoint_url,
                config=settings,
            )
        return self._made

    def _initiate(self, flow: str, parameters: dict[str, str]) -> Grant:
        client = self._client()
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = client.initiate_auth(
                ClientId=self._profile.user_pool_client_id,
                AuthFlow=flow,  # type: ignore[arg-type]  # the two literals that are given above
                AuthParameters=parameters,
            )
        except ClientError as error:
            raise self._explained(error.response["Error"]["Code"]) from None
        except BotoCoreError as error:
            raise GridUnreachable(f"the grid's user pool cannot be reached at {self._where}: {error}") from error
        return _grant(answer)

    def _explained(self, code: str) -> GridError:
        if code in _REFUSED:
            return AuthenticationFailed("the grid does not know this user, or the password is wrong")
        if code in _USER_UNREADY:
            return AuthenticationFailed(f"the user must first confirm the account or set a new password ({code})")
        if code in _CLIENT_WRONG:
            return AuthenticationFailed(
                f"the user pool at {self._where} has no client {self._profile.user_pool_client_id!r} that allows "
                f"sign-in by password ({code}): is the profile that of another grid?"
            )
        return GridUnavailable(f"the grid's user pool at {self._where} refused to sign in for now: {code}")


def _grant(answer: "InitiateAuthResponseTypeDef") -> Grant:
    result = answer.get("AuthenticationResult")
    if not result or "IdToken" not in result:
        raise AuthenticationFailed(
            f"the user pool asks for more than a password ({answer.get('ChallengeName', 'no token')}): "
            "set a permanent password first"
        )
    return Grant(result["IdToken"], float(result.get("ExpiresIn", 3600)), result.get("RefreshToken"))
