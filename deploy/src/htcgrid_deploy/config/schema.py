"""The JSON Schema of a grid's file, for editors and for those who make such files.

`python -m htcgrid_deploy.config.schema FILE` writes it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from htcgrid_deploy.config.first_grid import REPLACED
from htcgrid_deploy.config.grid_config import GridConfig

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """The schema. Keys of the first HTC-Grid that mean nothing here are deprecated in it."""
    schema: dict[str, Any] = {"$schema": _DIALECT, **GridConfig.model_json_schema()}
    properties = schema["properties"]
    for key, instead in REPLACED.items():
        properties[key] = {"deprecated": True, "description": f"Means nothing here: {instead}."}
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
