"""What a Python handler returned as JSON; or which value of it is not JSON, where, and what to return instead.

Runs beside the user's code, so it needs nothing but Lambda's own runtime client.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from awslambdaric.lambda_runtime_exception import FaultException
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller

_UNABLE = "Unable to marshal response"
"""How Lambda's own message begins."""
_MAX_DEPTH = 500
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""Words that the marshaller writes, and that JSON does not have."""

_ADVICE = {
    "bytes": "base64.b64encode(value).decode(), or value.decode() if it is a text",
    "bytearray": "base64.b64encode(value).decode()",
    "set": "sorted(value) or list(value)",
    "frozenset": "sorted(value) or list(value)",
    "generator": "list(value)",
    "datetime": "value.isoformat()",
    "date": "value.isoformat()",
    "time": "value.isoformat()",
    "Timestamp": "value.isoformat()",
    "timedelta": "value.total_seconds()",
    "datetime64": "str(value)",
    "timedelta64": "value.astype('timedelta64[ns]').astype(int)",
    "complex": "[value.real, value.imag]",
    "UUID": "str(value)",
    "PosixPath": "str(value)",
    "DataFrame": "value.to_dict('records')",
    "Series": "value.tolist()",
}
"""What to return instead of values of these types."""


def encoded(marshaller: LambdaMarshaller, returned: object) -> tuple[bytes, str]:
    """What a handler returned as JSON, with its type of content.

    Raises:
        FaultException: it is not JSON; says which value at which place, and what to return instead.
    """
    try:
        text, content_type = marshaller.marshal_response(returned)
        if isinstance(text, bytes):
            json.loads(text)
            return text, content_type
    except Exception as error:
        raise _refusal(marshaller, returned, error) from error
    if any(word in text for word in _NOT_FINITE) and (fault := _fault(marshaller, returned)):
        raise FaultException(FaultException.MARSHAL_ERROR, f"{_UNABLE}: {fault}", None)
    # Halves of surrogate pairs lie in texts alone, where their escapes are those of JSON.
    return text.encode(errors="backslashreplace"), content_type


def _refusal(marshaller: LambdaMarshaller, returned: object, error: Exception) -> FaultException:
    try:
        fault = _fault(marshaller, returned)
    except Exception:  # noqa: BLE001 - keys of the user's classes are shown, which runs their code
        fault = ""
    said = error.msg if isinstance(error, FaultException) else f"{_UNABLE}: {error}"
    return FaultException(FaultException.MARSHAL_ERROR, f"{_UNABLE}: {fault}" if fault else said, None)


def _fault(marshaller: LambdaMarshaller, returned: object) -> str:
    """Which value is not JSON, where, and what to return instead; nothing if all are."""
    encode = marshaller.jsonEncoder.encode
    waiting: list[tuple[str, int, Any]] = [("", 0, returned)]  # and no recursion, as a result may hold itself
    while waiting:
        place, depth, value = waiting.pop()
        at = f"at {place} " if place else ""
        if depth > _MAX_DEPTH:
            return f"the result is nested more than {_MAX_DEPTH} deep, or holds itself"
        if isinstance(value, dict):
            wrong = [key for key in value if not _is_json(encode, {key: None})]
            if wrong:
                return f"the result {at}has a key of type {type(wrong[0]).__name__}: return keys that are texts"
            waiting += [(f"{place}[{key!r}]", depth + 1, item) for key, item in value.items()][::-1]
        elif isinstance(value, list | tuple):
            waiting += [(f"{place}[{number}]", depth + 1, item) for number, item in enumerate(value)][::-1]
        elif not _is_json(encode, value):
            return f"the result {at}{_why_not(value)}"
    return ""


def _is_json(encode: Callable[[object], str], value: object) -> bool:
    if isinstance(value, bytes):
        return False
    try:
        return encode(value) not in _NOT_FINITE
    except Exception:  # noqa: BLE001 - as above
        return False


def _why_not(value: object) -> str:
    name = type(value).__name__
    if isinstance(value, float) or name == "Decimal":
        return f"is {value}, which JSON does not have: return a finite number, or None"
    advice = _ADVICE.get(name, "numbers, texts, lists and dicts")
    if name not in _ADVICE and any(kind.__module__ == "numpy" for kind in type(value).__mro__):
        advice = "value.tolist()"
    elif dataclasses.is_dataclass(value):
        advice = "dataclasses.asdict(value)"
    return f"is of type {name}, which JSON does not have: return {advice}"
