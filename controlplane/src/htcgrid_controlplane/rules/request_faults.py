"""What is wrong with a request to the API, found before its fields are validated, and told in few words. Pure."""

import base64
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from email.message import Message
from http import HTTPStatus
from typing import Any

MAX_DIGITS = 38
"""Most digits of a number: DynamoDB keeps no more ("Supported data types and naming rules in Amazon DynamoDB")."""
MAX_FAULTS = 10
"""Most faults that an answer names."""
_MAX_PLACE = 200
_MAX_WORDS = 300
"""Characters of a fault's place, which a client may have made up, and of its description."""
PAYLOAD_TYPE = "application/zlib"
"""What a payload is, as headers say it."""
_JSON = "application/json"
_CHARSET = "utf-8"
_SEVERAL = ","
"""How API Gateway joins the values of a parameter that was given more than once; no value of ours has one in it."""


class RequestUnreadable(Exception):
    """Raised when a request cannot be read as what it should be; has the status of the answer."""

    def __init__(self, status: HTTPStatus, message: str, name: str = "InvalidRequest") -> None:
        super().__init__(message)
        self.status = status
        self.name = name
        """The word for programs."""


def check_token(claims: Mapping[str, str]) -> None:
    """See that a token which API Gateway has verified is an ID token: it takes access tokens as well.

    Raises:
        RequestUnreadable: it is of another kind.
    """
    if claims.get("token_use") != "id":
        raise RequestUnreadable(
            HTTPStatus.UNAUTHORIZED, "Send the ID token of the user pool: this token is of another kind.", "WrongToken"
        )


def check_body(headers: Mapping[str, str], body: str | None, *, is_base64: bool) -> None:
    """See that a body, if there is one, is said to be JSON and is text in UTF-8.

    Raises:
        RequestUnreadable: it is something else.
    """
    if not body:
        return
    said = [value for name, value in headers.items() if name.lower() == "content-type"]
    if len(said) != 1 or not _is_json(said[0]):
        raise RequestUnreadable(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send the body as {_JSON} in UTF-8, and say so in Content-Type."
        )
    if is_base64:
        try:
            base64.b64decode(body, validate=True).decode()
        except ValueError as error:
            raise RequestUnreadable(HTTPStatus.UNPROCESSABLE_ENTITY, "The body is not text in UTF-8.") from error


def check_part(headers: Mapping[str, str], body: str | None, *, is_base64: bool) -> bytes:
    """The bytes of a body that is a part of a payload.

    Raises:
        RequestUnreadable: it is said to be something else.
    """
    said = [value for name, value in headers.items() if name.lower() == "content-type"]
    if said != [PAYLOAD_TYPE]:
        raise RequestUnreadable(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send the part as {PAYLOAD_TYPE}, and say so in Content-Type."
        )
    # API Gateway hands on as text only what its type says is text.
    return base64.b64decode(body or "") if is_base64 else (body or "").encode()


def _is_json(content_type: str) -> bool:
    """Whether a content type is JSON's, as RFC 9110 has it: capitals mean nothing, nor do quotes around a charset."""
    message = Message()
    message["content-type"] = content_type
    charset = str(message.get_param("charset", _CHARSET))
    return message.get_content_type() == _JSON and charset.lower() == _CHARSET


def parse_json(text: str) -> Any:
    """The value that a JSON text stands for.

    Raises:
        json.JSONDecodeError: it is no JSON, holds an integer of more than `MAX_DIGITS` digits, or an object with two
            fields of one name, of which each reader would take another.
    """

    def integer(digits: str) -> int:
        if len(digits.lstrip("-")) > MAX_DIGITS:
            raise json.JSONDecodeError(f"an integer has more than {MAX_DIGITS} digits", digits[:MAX_DIGITS], 0)
        return int(digits)

    def no_number(name: str) -> Any:
        raise json.JSONDecodeError("JSON has no such number", name, 0)

    return json.loads(text, parse_int=integer, parse_constant=no_number, object_pairs_hook=_object)


def _object(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(fields)
    if len(made) != len(fields):
        names = Counter(name for name, _ in fields)
        twice = _short(names.most_common(1)[0][0], _MAX_PLACE)
        raise json.JSONDecodeError(f"the field {twice!r} occurs twice", twice, 0)
    return made


def check_query(sent: Mapping[str, str], known: Collection[str]) -> None:
    """See that the parameters of a query are those that its route knows, and that each has one value.

    Raises:
        RequestUnreadable: there is another one, or one has two values.
    """
    for name, value in sent.items():
        if name not in known:
            named = ", ".join(sorted(known)) or "none"
            words = f"query.{_short(name, _MAX_PLACE)}: there is no such parameter; those that exist: {named}"
            raise RequestUnreadable(HTTPStatus.UNPROCESSABLE_ENTITY, f"The request is not valid: {words}.")
        if _SEVERAL in value:
            raise RequestUnreadable(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"The request is not valid: query.{name}: give one value."
            )


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
