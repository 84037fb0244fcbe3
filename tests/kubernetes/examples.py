"""The examples of `examples/runtimes`, built as their README says, where the network is still there."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.kubernetes.images import FOLDER, ROOT, locked, made_once, tree_digest

_EXAMPLES = ROOT / "examples/runtimes"
_COMMANDS = {
    "go": ("go", "build", "-o", "bootstrap", "."),
    "java": ("mvn", "--quiet", "--batch-mode", "package"),
    "nodejs": (),
}
LANGUAGES = tuple(_COMMANDS)


def example(language: str) -> Path:
    """The folder of the function that the example of a language is."""
    sources, copy = _EXAMPLES / language, FOLDER / "examples" / language
    copy.parent.mkdir(parents=True, exist_ok=True)
    with locked(), made_once(copy, [tree_digest(sources)]) as due:
        if due:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(sources, copy, ignore=shutil.ignore_patterns("target", "bootstrap"))
            if command := _COMMANDS[language]:
                subprocess.run(command, cwd=copy, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    return copy / "target/function" if language == "java" else copy
