"""Dead letters that are alike, as one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from htcgrid.cli.output import one_line

if TYPE_CHECKING:
    from htcgrid_events import DeadLetter

_EXAMPLES = 5


@dataclass
class Group:
    """The tasks of a session that failed alike."""

    first: "DeadLetter"
    count: int = 0
    examples: tuple[int, ...] = ()
    """Numbers of some of its tasks."""

    def as_json(self) -> dict[str, Any]:
        """As programs read it."""
        letter = self.first
        return {
            "fingerprint": letter.fingerprint,
            "tasks": self.count,
            "kind": letter.kind.value,
            "type": letter.type,
            "message": letter.message,
            "examples": list(self.examples),
        }

    def row(self) -> tuple[str, ...]:
        """As people read it."""
        letter = self.first
        examples = ", ".join(map(str, self.examples)) + (" …" if self.count > len(self.examples) else "")
        return (
            letter.fingerprint,
            f"{self.count:,}",
            letter.kind.value,
            letter.type,
            one_line(letter.message, 60),
            examples,
        )


def group(letters: "Iterable[DeadLetter]") -> list[Group]:
    """Letters by their fingerprints, those of most tasks first."""
    groups: dict[str, Group] = {}
    for letter in letters:
        found = groups.setdefault(letter.fingerprint, Group(letter))
        found.count += len(letter.tasks)
        found.examples = (*found.examples, *letter.tasks)[:_EXAMPLES]
    return sorted(groups.values(), key=lambda each: -each.count)
