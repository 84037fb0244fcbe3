"""The HTTP API as OpenAPI 3.1, made of its routes and their models.

`python -m functions.openapi [file]` writes it. The project keeps it in `docs/openapi.json`, and a test sees that it is
in step with the code.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

from htcgrid_controlplane.rules.request_faults import PAYLOAD_TYPE
from htcgrid_controlplane.settings import Settings
from htcgrid_events import ErrorBody

_ROOT = Path(__file__).resolve().parents[1]
_LIMITS = """{"open_sessions": 1, "tasks": 1, "submissions_per_second": 1, "bytes_per_day": 1, "data_gigabytes": 1,
"high_priority": true, "task_timeout_seconds": 1}"""
_PLACEHOLDERS = {
    "retention_days": "7",
    "tenant_limits": _LIMITS,
    "agent_workers": "1",
    "scaling_target_seconds": "60",
}
"""Of settings that are no texts; nothing is asked of AWS here."""

_ABOUT = """Sessions of tasks: submit, follow, control, inspect.

Sign in at the Cognito user pool and give the ID token as bearer. Requests may be repeated: ids are made by the client,
and what was done is not done twice. An answer of 400 or above has an `ErrorBody`; 429 and 5xx say "not now"."""
_UNAUTHORISED = (
    "Without a token, or with one that the user pool did not give or that has expired: of API Gateway itself. With a "
    "token of another kind than an ID token: an `ErrorBody`."
)
_PART = {PAYLOAD_TYPE: {"schema": {"type": "string", "format": "binary"}}}
_REFUSED = "Refused: `error` is a stable word, `message` a sentence."


def document() -> dict[str, Any]:
    """The whole API."""
    api = _api()
    made: dict[str, Any] = json.loads(
        api.app.get_openapi_json_schema(
            title="HTC-Grid",
            version="1",
            description=_ABOUT,
            openapi_version="3.1.0",
        )
    )
    made["servers"] = [
        {
            "url": "{api_url}",
            "description": "The stack's output ApiUrl.",
            "variables": {"api_url": {"default": "http://127.0.0.1"}},
        }
    ]
    made["security"] = [{"cognito": []}]
    components = made["components"]
    components["securitySchemes"] = {"cognito": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    for name in ("HTTPValidationError", "ResponseValidationError", "ValidationError"):
        components["schemas"].pop(name, None)  # the framework's own; this API answers with an ErrorBody
    components["schemas"]["ErrorBody"] = ErrorBody.model_json_schema()
    for operation in _operations(made):
        _tell(operation, api)
    made["paths"] = dict(sorted(made["paths"].items()))
    components["schemas"] = dict(sorted(components["schemas"].items()))
    return made


def _api() -> ModuleType:
    """The function's module, in an environment that is none."""
    for name in (name for name, field in Settings.model_fields.items() if field.is_required()):
        os.environ.setdefault(f"HTCGRID_{name.upper()}", _PLACEHOLDERS.get(name, "none"))
    os.environ.setdefault("POWERTOOLS_TRACE_DISABLED", "true")
    spec = importlib.util.spec_from_file_location("sessions_api", _ROOT / "functions/sessions_api/app.py")
    assert spec is not None  # noqa: S101 - the file is beside this one
    assert spec.loader is not None  # noqa: S101
    module = sys.modules["sessions_api"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _operations(made: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in made["paths"].values():
        yield from path.values()


def _tell(operation: dict[str, Any], api: ModuleType) -> None:
    """Name an operation after its function, and tell of its answers what the framework does not know."""
    function = _function(operation["operationId"], api)
    operation["operationId"] = function.__name__
    operation["summary"] = (function.__doc__ or "").strip().split("\n", 1)[0]
    responses = operation["responses"]
    if function.__name__ == "get_payload":
        responses["200"] = {"description": "The part: up to 4 MiB.", "content": _PART}
    elif function.__name__ == "put_payload":
        operation["requestBody"] = {"required": True, "content": _PART}
        responses.pop("200")
        responses[str(HTTPStatus.NO_CONTENT.value)] = {"description": "The part is kept."}
    elif "Response" in str(function.__annotations__["return"]):  # the answer to what is only asked for
        responses[str(HTTPStatus.ACCEPTED.value)] = {
            **responses.pop("200"),
            "description": "Asked for; it will be done.",
        }
    else:
        responses["200"]["description"] = "Done."
    responses.pop("422", None)
    responses["401"] = {"description": _UNAUTHORISED}
    refused = {"schema": {"$ref": "#/components/schemas/ErrorBody"}}
    responses["default"] = {"description": _REFUSED, "content": {"application/json": refused}}
    operation["responses"] = dict(sorted(responses.items()))


def _function(operation_id: str, api: ModuleType) -> Any:
    """The framework makes an operation's id of the function's name and its path."""
    names = (name for name in vars(api) if operation_id.startswith(f"{name}_") and callable(getattr(api, name)))
    return getattr(api, max(names, key=len))


def text() -> str:
    """The document as it stands in its file."""
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else _ROOT / "docs/openapi.json"
    place.write_text(text(), encoding="utf-8")
