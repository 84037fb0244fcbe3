"""Settings read from environment variables into one frozen model."""

import os
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from htcgrid_eks.errors import BadSettings


class EnvironmentSettings(BaseModel):
    """Each field of a subclass is the environment variable `HTCGRID_<FIELD>`."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the settings.

        Raises:
            BadSettings: a variable is missing or illegal.
        """
        values = {name: environment[_variable(name)] for name in cls.model_fields if _variable(name) in environment}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            faults = "; ".join(f"{_variable(str(fault['loc'][0]))}: {fault['msg']}" for fault in error.errors())
            raise BadSettings(f"The environment is not right: {faults}") from error


def _variable(field: str) -> str:
    return f"HTCGRID_{field.upper()}"
