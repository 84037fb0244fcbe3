"""Templates as data, with CloudFormation's short forms spelt out and YAML's anchors resolved."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
PARTITION = load("partition.yaml")
TASK_QUEUES = {"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${AWS::StackName}-*TaskQueue*"}
"""The task queues of all partitions, whose stacks have names that begin with that of the grid's."""
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


def rendered(**given: Any) -> dict[str, Any]:
    """What CloudFormation would make of the template with these parameters: only what is there, and no `Fn::If`."""
    conditions = Conditions(TEMPLATE["Conditions"], _parameters(given))
    whole: dict[str, Any] = conditions.resolved(TEMPLATE)
    for section in ("Resources", "Outputs"):
        whole[section] = {
            name: each
            for name, each in whole[section].items()
            if conditions.holds({"Condition": each.get("Condition")})
        }
    return whole


def complaints(**given: Any) -> list[str]:
    """What the rules of the template say of these parameters."""
    conditions = Conditions({}, _parameters(given))
    return [
        assertion["AssertDescription"]
        for rule in TEMPLATE["Rules"].values()
        if conditions.holds(rule.get("RuleCondition", {"Condition": None}))
        for assertion in rule["Assertions"]
        if not conditions.holds(assertion["Assert"])
    ]


@dataclass(frozen=True)
class Conditions:
    """The conditions of a template, with the values of its parameters."""

    named: Mapping[str, Any]
    parameters: Mapping[str, Any]

    def holds(self, condition: Any) -> bool:
        """Whether a condition holds; the one of a resource that has none does."""
        [(function, operands)] = condition.items()
        match function:
            case "Condition":
                return operands is None or self.holds(self.named[operands])
            case "Fn::Equals":
                first, second = (str(self._value(each)) for each in operands)
                return first == second
            case "Fn::Contains":
                return self._value(operands[1]) in self._value(operands[0])
            case "Fn::Not":
                return not self.holds(operands[0])
            case "Fn::And":
                return all(self.holds(each) for each in operands)
            case "Fn::Or":
                return any(self.holds(each) for each in operands)
        raise NotImplementedError(function)

    def resolved(self, value: Any) -> Any:
        """A value without `Fn::If`, and without what stands for nothing."""
        if isinstance(value, dict):
            if "Fn::If" in value:
                condition, then, otherwise = value["Fn::If"]
                return self.resolved(then if self.holds({"Condition": condition}) else otherwise)
            return {name: each for name, inner in value.items() if (each := self.resolved(inner)) != NOTHING}
        if isinstance(value, list):
            return [each for inner in value if (each := self.resolved(inner)) != NOTHING]
        return value

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            [(function, operand)] = value.items()
            if function == "Fn::Length":
                return len(self._value(operand))
            return self.parameters[operand]
        return value


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    values = {name: each.get("Default") for name, each in TEMPLATE["Parameters"].items()} | given
    lists = {name for name, each in TEMPLATE["Parameters"].items() if "List" in each["Type"]}
    return {name: each.split(",") if name in lists else each for name, each in values.items()}


NOTHING: Final = {"Ref": "AWS::NoValue"}


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


def statements(effect: str = "Allow", **given: Any) -> Iterator[Statement]:
    """Every statement that allows something to a role of the stack with these parameters, or denies it."""
    for name, role in rendered(**given)["Resources"].items():
        if role["Type"] == "AWS::IAM::Role":
            for policy in role["Properties"]["Policies"]:
                for statement in policy["PolicyDocument"]["Statement"]:
                    if statement["Effect"] == effect:
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
