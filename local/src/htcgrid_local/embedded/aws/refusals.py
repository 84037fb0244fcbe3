"""Requests that DynamoDB refuses and MiniStack would execute.

A `BatchExecuteStatement` that names a row twice, and an update that names a document path twice, such as SET and REMOVE
of one attribute.
"""

import functools
import threading
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from ministack.services import dynamodb

_DUPLICATES = "Provided list of item keys contains duplicates"
_OVERLAP = (
    "Two document paths overlap with each other; must remove or rewrite one of these paths; "
    "path one: {0}, path two: {1}"
)
_CLAUSES = frozenset({"SET", "REMOVE", "ADD", "DELETE"})

Path = Sequence[str | int]

_parse = dynamodb._parse_partiql
_execute_batch = dynamodb._batch_execute_statement
_update = dynamodb._partiql_update
_apply = dynamodb._apply_update_expression
_parsed = threading.local()
"""Of the batch that a thread executes: what its statements were parsed into, by text and parameters."""


def refuse_as_dynamodb_does() -> None:
    """Make MiniStack refuse such requests."""
    dynamodb._parse_partiql = _parse_once
    dynamodb._batch_execute_statement = _execute_distinct
    dynamodb._partiql_update = _update_distinct
    dynamodb._apply_update_expression = _apply_distinct


def _parse_once(text: str, parameters: Any) -> Any:
    known = getattr(_parsed, "statements", {}).get((text, id(parameters)))
    return _parse(text, parameters) if known is None else known


def _execute_distinct(request: dict[str, Any]) -> Any:
    rows = set()
    _parsed.statements = {}
    try:
        for statement in request.get("Statements") or ():
            parameters = statement.setdefault("Parameters", [])
            try:
                parsed = _parse(statement.get("Statement", ""), parameters)
            except ValueError:
                continue
            _parsed.statements[statement["Statement"], id(parameters)] = parsed
            row = _row_of(parsed)
            if row in rows:
                return dynamodb.error_response_json("ValidationException", _DUPLICATES, 400)
            if row:
                rows.add(row)
        return _execute_batch(request)
    finally:
        _parsed.statements = {}


def _row_of(parsed: dict[str, Any]) -> tuple[str, str, str] | None:
    """Table and key of the row that a statement names, if it names one."""
    table = dynamodb._tables.get(parsed["table"])
    if not table:
        return None
    if parsed["op"] == "INSERT":
        item = parsed.get("item") or {}
        values = item.get("M", item)
    else:
        values = {name: value for name, operator, value in parsed.get("conditions") or () if operator == "="}
    names = [name for name in (table["pk_name"], table["sk_name"]) if name]
    if not all(name in values for name in names):
        return None
    partition, *sort = (dynamodb._extract_key_val(values[name]) for name in names)
    return parsed["table"], partition, sort[0] if sort else ""


def _update_distinct(table: Any, parsed: dict[str, Any], *more: Any, **named: Any) -> Any:
    paths = [parts for parts, _ in parsed.get("assignments") or ()] + list(parsed.get("removes") or ())
    if message := _overlap_of(paths):
        return dynamodb.error_response_json("ValidationException", message, 400)
    return _update(table, parsed, *more, **named)


def _apply_distinct(item: Any, expression: str, values: Any, names: Any, *more: Any, **named: Any) -> Any:
    if message := _overlap_in(expression, tuple(sorted((names or {}).items()))):
        raise ValueError(f"Invalid UpdateExpression: {message}")
    return _apply(item, expression, values, names, *more, **named)


@functools.lru_cache(maxsize=256)
def _overlap_in(expression: str, names: tuple[tuple[str, str], ...]) -> str:
    clauses: list[list[Any]] = []
    for token in dynamodb._tokenize(expression):
        if token[0] == "IDENT" and token[1].upper() in _CLAUSES:
            clauses.append([])
        elif clauses and token[0] != "EOF":
            clauses[-1].append(token)
    entries = (entry for clause in clauses for entry in dynamodb._split_by_comma(clause))
    # A path ends where its value begins.
    return _overlap_of([dynamodb._parse_path_from_tokens(entry, dict(names)) for entry in entries])


def _overlap_of(paths: Iterable[Path]) -> str:
    """What DynamoDB says of paths of which one lies within another; nothing if none does."""
    for one, two in combinations(paths, 2):
        shorter = min(len(one), len(two))
        if list(one[:shorter]) == list(two[:shorter]):
            return _OVERLAP.format(_shown(one), _shown(two))
    return ""


def _shown(path: Path) -> str:
    return f"[{', '.join(str(part) for part in path)}]"
