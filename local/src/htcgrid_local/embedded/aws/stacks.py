"""Stacks whose deletion fails in part keep what the rest needs, as CloudFormation's do.

MiniStack goes on with whatever a resource needs that could not be deleted: with the queues of a partition, say, while
sessions are open in it.
"""

from typing import Any

from ministack.services.cloudformation import _stacks, stacks


def keep_what_is_needed() -> None:
    """Have no resource deleted that another one needs which could not be deleted."""
    delete = stacks._delete_resource

    def delete_unless_needed(
        kind: str, physical_id: str, properties: dict[str, Any], stack: str, logical_id: str
    ) -> None:
        if needing := _undeleted(_stacks.get(stack) or {}, logical_id):
            raise RuntimeError(f"{needing}, which needs it, could not be deleted")
        delete(kind, physical_id, properties, stack, logical_id)

    stacks._delete_resource = delete_unless_needed


def _undeleted(stack: dict[str, Any], logical_id: str) -> str:
    """The resource that needs another one and could not be deleted; nothing if there is none."""
    resources = stack.get("_resources", {})
    definitions = stack.get("_template", {}).get("Resources", {})
    for name, resource in resources.items():
        failed = name != logical_id and resource.get("ResourceStatus") == "DELETE_FAILED"
        if failed and logical_id in stacks._with_dependencies([name], definitions, set(resources)):
            return str(name)
    return ""
