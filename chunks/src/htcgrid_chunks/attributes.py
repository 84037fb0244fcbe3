"""Converts Python values to DynamoDB's typed attributes and back, for the few types that the tables use."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef


def text(value: str) -> "AttributeValueTypeDef":
    """A string attribute."""
    return {"S": value}


def number(value: int) -> "AttributeValueTypeDef":
    """A number attribute."""
    return {"N": str(value)}


def flag(value: bool) -> "AttributeValueTypeDef":
    """A truth value."""
    return {"BOOL": value}


def binary(value: bytes) -> "AttributeValueTypeDef":
    """A binary attribute."""
    return {"B": value}


def numbers(values: Iterable[int]) -> "AttributeValueTypeDef":
    """A number set, which must not be empty."""
    return {"NS": [str(value) for value in values]}


def texts(values: Iterable[str]) -> "AttributeValueTypeDef":
    """A string set, which must not be empty."""
    return {"SS": sorted(values)}


class Item:
    """Reads typed attributes of an item. A missing one gives the default; a wrong type is an error."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._attributes = attributes

    def __contains__(self, name: str) -> bool:
        return name in self._attributes

    def text(self, name: str, default: str = "") -> str:
        """A string attribute."""
        return str(self._attributes[name]["S"]) if name in self else default

    def number(self, name: str, default: int = 0) -> int:
        """A number attribute without a fraction."""
        return int(self._attributes[name]["N"]) if name in self else default

    def flag(self, name: str) -> bool:
        """A truth value; false when missing."""
        return bool(self._attributes[name]["BOOL"]) if name in self else False

    def binary(self, name: str) -> bytes | None:
        """A binary attribute."""
        return bytes(self._attributes[name]["B"]) if name in self else None

    def numbers(self, name: str) -> frozenset[int]:
        """A number set; empty when missing."""
        return frozenset(int(value) for value in self._attributes[name]["NS"]) if name in self else frozenset()

    def texts(self, name: str) -> frozenset[str]:
        """A string set; empty when missing."""
        return frozenset(self._attributes[name]["SS"]) if name in self else frozenset()

    def number_map(self, name: str) -> dict[str, int]:
        """A map of numbers; empty when missing."""
        if name not in self:
            return {}
        entries = cast("Mapping[str, Mapping[str, str]]", self._attributes[name]["M"])
        return {key: int(value["N"]) for key, value in entries.items()}

    def scalar_map(self, name: str) -> dict[str, int | bool | str]:
        """A map of whole numbers, truth values and texts; empty when missing."""
        if name not in self:
            return {}
        entries = cast("Mapping[str, Mapping[str, Any]]", self._attributes[name]["M"])
        return {key: next(iter(value.values())) for key, value in entries.items()}
