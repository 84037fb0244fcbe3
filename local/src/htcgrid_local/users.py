"""Users of the grid, in its Cognito pool."""

from __future__ import annotations

import secrets
from typing import Any


def add_user(cognito: Any, pool_id: str, name: str) -> str:
    """Create a user who can sign in at once, and return the random password."""
    # Pools ask for kinds of characters that a random token may lack.
    password = secrets.token_urlsafe(18) + "-aA1"
    # Named from the start, because MiniStack's own temporary password may break the pool's policy.
    cognito.admin_create_user(UserPoolId=pool_id, Username=name, TemporaryPassword=password, MessageAction="SUPPRESS")
    cognito.admin_set_user_password(UserPoolId=pool_id, Username=name, Password=password, Permanent=True)
    return password
