"""What the second opinion needs on this machine. `python -m tests.second_opinion.tools` says what is missing."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Tool:
    """A program on the PATH, and the oldest version that will do."""

    name: str
    command: tuple[str, ...]
    oldest: tuple[int, ...] = ()

    @property
    def missing(self) -> str | None:
        """What to say of it, if it is not here or too old."""
        wanted = f"{self.name} {'.'.join(map(str, self.oldest))} or newer" if self.oldest else self.name
        if shutil.which(self.command[0]) is None:
            return wanted
        version = self._version()
        if version >= self.oldest:
            return None
        return f"{wanted} (this one is {'.'.join(map(str, version)) or 'of no known version'})"

    def _version(self) -> tuple[int, ...]:
        said = subprocess.run(self.command, capture_output=True, text=True, check=False)
        found = re.search(r"\d+(?:\.\d+)*", said.stdout + said.stderr)
        return tuple(map(int, found[0].split("."))) if found else ()


TOOLS = (
    Tool("Java", ("java", "-version"), (17,)),
    Tool("Maven", ("mvn", "--version")),
    Tool("cargo", ("cargo", "--version"), (1, 88)),
)


def main() -> int:
    """Give 0 if everything is here."""
    missing = [text for tool in TOOLS if (text := tool.missing)]
    if missing:
        sys.stderr.write(
            f"The second opinion is not asked, because it needs {', '.join(missing)}. On Debian: "
            "apt-get install openjdk-17-jre-headless maven; rustup brings a cargo that is new enough.\n"
        )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
