"""User pools in which nobody signs up himself where the template says so, and attributes keep what must not change.

MiniStack keeps `AllowAdminCreateUserOnly` and `Mutable` and does not obey them.
"""

from collections.abc import Iterable
from typing import Any

from ministack.services import cognito

_sign_up = cognito._sign_up
_update = cognito._update_user_attributes
_admin_update = cognito._admin_update_user_attributes


def obey_template() -> None:
    """Make MiniStack refuse what the pool refuses on AWS."""
    cognito._sign_up = _sign_up_where_allowed
    cognito._update_user_attributes = _update_mutable
    cognito._admin_update_user_attributes = _admin_update_mutable


def _sign_up_where_allowed(request: dict[str, Any]) -> Any:
    for pool in cognito._user_pools.values():
        if request.get("ClientId") in pool["_clients"] and pool["AdminCreateUserConfig"].get(
            "AllowAdminCreateUserOnly"
        ):
            return cognito.error_response_json(
                "NotAuthorizedException", "SignUp is not permitted for this user pool", 400
            )
    return _sign_up(request)


def _update_mutable(request: dict[str, Any]) -> Any:
    _, pool = cognito._user_pool_for_access_token(request.get("AccessToken", ""))
    return _refusal(pool, _names(request)) or _update(request)


def _admin_update_mutable(request: dict[str, Any]) -> Any:
    pool, _ = cognito._resolve_pool(request.get("UserPoolId"))
    return _refusal(pool, _names(request)) or _admin_update(request)


def _names(request: dict[str, Any]) -> list[str]:
    return [str(attribute.get("Name")) for attribute in request.get("UserAttributes") or ()]


def _refusal(pool: dict[str, Any] | None, names: Iterable[str]) -> Any:
    """The answer to a change of what cannot be changed or does not exist; none if all of it can be."""
    if pool is None:
        return None
    mutable = {attribute["Name"]: attribute["Mutable"] for attribute in pool["SchemaAttributes"]}
    for name in names:
        if name not in mutable:
            return cognito.error_response_json(
                "InvalidParameterException", f"Attributes did not conform to the schema: {name} is not defined", 400
            )
        if not mutable[name]:
            return cognito.error_response_json(
                "InvalidParameterException", f"user.{name}: Attribute cannot be updated.", 400
            )
    return None
