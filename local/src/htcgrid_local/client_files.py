"""Files in the home by which clients find the grid: a profile, and a configuration of the first HTC-Grid.

The grid writes them when it is ready and removes them when it ends. What somebody else wrote stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from htcgrid.errors import ProfileInvalid
from htcgrid.private_files import write_private
from htcgrid.profile import Profile
from htcgrid_local.errors import HomeError
from htcgrid_local.home import Home

_WRITER: Final = "htcgrid local up"
"""Stands in the profile; only what has it is overwritten or removed."""


def check_client_files(home: Home) -> None:
    """Make sure that the profile of this grid's name is free or an earlier grid's.

    Raises:
        HomeError: somebody else wrote it.
    """
    try:
        owner = Profile.load(home.profile).written_by if home.profile.exists() else _WRITER
    except ProfileInvalid:
        owner = None
    if owner != _WRITER:
        raise HomeError(
            f"The profile {home.profile} is not one of a local grid and is left as it is: "
            "rename it, since a local grid writes its profile there."
        )


def write_client_files(home: Home, profile: Profile, outputs: Mapping[str, str]) -> None:
    """Write both files, readable by their owner alone."""
    profile.model_copy(update={"written_by": _WRITER}).save(home.profile)
    configuration = json.dumps(_first_grid_configuration(profile, outputs), indent=2)
    write_private(home.first_grid_configuration, f"{configuration}\n")


def remove_client_files(home: Home) -> None:
    """Remove what a grid wrote, since it leads nowhere once the grid is down."""
    Profile.remove(home.profile, written_by=_WRITER)
    home.first_grid_configuration.unlink(missing_ok=True)


def _first_grid_configuration(profile: Profile, outputs: Mapping[str, str]) -> dict[str, Any]:
    """With the keys that the first HTC-Grid's clients read, so that a program finds each, used or not."""
    return {
        "region": profile.region,
        "public_api_gateway_url": profile.api_url,
        "private_api_gateway_url": profile.api_url,
        "api_gateway_key": "",
        "user_pool_id": outputs["UserPoolId"],
        "cognito_userpool_client_id": profile.user_pool_client_id,
        "push_url": profile.push_url,
        "aws_endpoint_url": profile.aws_endpoint_url,
        "username": profile.username,
        "password": profile.password.get_secret_value() if profile.password else "",
        "dynamodb_results_pull_interval_sec": 0.5,
        "task_input_passed_via_external_storage": 1,
        "grid_storage_service": "S3",
        "s3_bucket": outputs["DataBucket"],
        "s3_kms_key_id": "",
        "redis_url": "",
        "redis_password": "",
    }
