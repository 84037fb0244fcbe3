"""Templates as data, with CloudFormation's short forms spelt out and YAML's anchors resolved."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Statement:
    """One statement of a role's policy, with lists where IAM allows one or many."""

    role: str
    sid: str
    actions: tuple[str, ...]
    resources: tuple[Any, ...]
    condition: dict[str, Any]


class _Loader(yaml.CSafeLoader):
    """Spells out the short forms. cfn-lint's own reader, which `make lint` uses, takes seconds to import."""


def _spelt_out(loader: yaml.CSafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    match node:
        case yaml.ScalarNode():
            value = loader.construct_scalar(node)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case yaml.MappingNode():
            value = loader.construct_mapping(node, deep=True)
    if name == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name if name in {"Ref", "Condition"} else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _spelt_out)


def load(name: str = "template.yaml") -> dict[str, Any]:
    template: dict[str, Any] = yaml.load((ROOT / name).read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader
    return template


TEMPLATE = load()
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]


def of_type(*types: str) -> dict[str, dict[str, Any]]:
    """The properties of all resources of these types, by their names in the template."""
    return {name: each.get("Properties", {}) for name, each in RESOURCES.items() if each["Type"] in types}


def names(*types: str) -> list[str]:
    found = list(of_type(*types))
    assert found, types
    return found


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def references(value: Any) -> set[str]:
    """Names of resources and parameters to which a value refers."""
    if isinstance(value, dict):
        if "Ref" in value:
            return {value["Ref"]}
        if "Fn::GetAtt" in value:
            return {value["Fn::GetAtt"][0]}
        if "Fn::Sub" in value and isinstance(value["Fn::Sub"], str):
            return {part.split("}")[0].split(".")[0] for part in value["Fn::Sub"].split("${")[1:]}
        return set().union(*(references(inner) for inner in value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*(references(inner) for inner in value)) if value else set()
    return set()


def statements() -> Iterator[Statement]:
    """Every statement that allows something to a role of the stack."""
    for name, properties in of_type("AWS::IAM::Role").items():
        for policy in properties["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                assert statement["Effect"] == "Allow"
                yield Statement(
                    name,
                    statement["Sid"],
                    tuple(many(statement["Action"])),
                    tuple(many(statement["Resource"])),
                    statement.get("Condition", {}),
                )


def resource_policies(type_: str, field: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """For each resource that policies of this type name in `field`, the statements of one."""
    for properties in of_type(type_).values():
        for target in many(properties[field]):
            yield target["Ref"], properties["PolicyDocument"]["Statement"]
