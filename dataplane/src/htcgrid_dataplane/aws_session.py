"""The AWS session of a process that runs agents or stores."""

from typing import Final

import botocore.session

_REGION: Final = {"region": ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"], None, None)}
"""botocore alone knows the second variable only; Lambda, containers and the other SDKs of AWS have the first."""


def open_session() -> botocore.session.Session:
    """A session with the region of `AWS_REGION`, else of `AWS_DEFAULT_REGION`, else of the profile."""
    return botocore.session.Session(session_vars=_REGION)
