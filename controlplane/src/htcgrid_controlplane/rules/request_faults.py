"""What is wrong with a request to the API, found before its fields are validated, and told in few words. Pure."""

import base64
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

MAX_DIGITS = 38
"""Most digits of a number: DynamoDB keeps no more ("Supported data types and naming rules in Amazon DynamoDB")."""
MAX_FAULTS = 10
"""Most faults that an answer names."""
_MAX_PLACE = 200
_MAX_WORDS = 300
"""Characters of a fault's place, which a client may have made up, and of its description."""
_JSON = "application/json"


class RequestUnreadable(Exception):
    """Raised when the body of a request is no JSON text; has the status of the answer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_body(headers: Mapping[str, str], body: str | None, *, is_base64: bool) -> None:
    """See that a body, if there is one, is said to be JSON and is text.

    Raises:
        RequestUnreadable: it is something else.
    """
    if not body:
        return
    content_type = headers.get("content-type", _JSON).partition(";")[0].strip().lower()
    if content_type != _JSON:
        raise RequestUnreadable(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send the body as {_JSON}.")
    if is_base64:
        try:
            base64.b64decode(body, validate=True).decode()
        except ValueError as error:
            raise RequestUnreadable(HTTPStatus.UNPROCESSABLE_ENTITY, "The body is not text in UTF-8.") from error


def parse_json(text: str) -> Any:
    """The value that a JSON text stands for.

    Raises:
        json.JSONDecodeError: it is no JSON, or holds an integer of more than `MAX_DIGITS` digits.
    """

    def integer(digits: str) -> int:
        if len(digits.lstrip("-")) > MAX_DIGITS:
            raise json.JSONDecodeError(f"an integer has more than {MAX_DIGITS} digits", digits[:MAX_DIGITS], 0)
        return int(digits)

    return json.loads(text, parse_int=integer)


def sentence_of(faults: Sequence[Mapping[str, Any]]) -> str:
    """The first faults that a validation has found, as one sentence of bounded length."""
    named = [_named(fault) for fault in faults[:MAX_FAULTS]]
    more = f"; and {len(faults) - MAX_FAULTS:,} more" if len(faults) > MAX_FAULTS else ""
    return f"The request is not valid: {'; '.join(named)}{more}."


def _named(fault: Mapping[str, Any]) -> str:
    words = str(fault["msg"])
    if reason := fault.get("ctx", {}).get("error") if fault.get("type") == "json_invalid" else None:
        words = f"{words}: {reason}"
    return f"{_short('.'.join(map(str, fault['loc'])), _MAX_PLACE)}: {_short(words, _MAX_WORDS)}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
