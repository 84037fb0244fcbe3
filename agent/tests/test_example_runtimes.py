"""The examples of `examples/runtimes`, built as their README says and run by an agent."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from agent.tests.embedded import ROOT
from agent.tests.harness import Place

from htcgrid_events import FailureKind

EXAMPLES = ROOT / "examples/runtimes"
NODE_CLIENT = ROOT / ".tools/node/node_modules/.bin/aws-lambda-ric"
TOOLS = {"java": ("java", "mvn"), "go": ("go",), "cpp": ("g++",), "bash": ("bash", "curl"), "nodejs": ("node",)}


def built_with(*command: str, folder: str = ".") -> Callable[[Path], Path]:
    def build(copy: Path) -> Path:
        subprocess.run(command, cwd=copy, check=True, timeout=300)
        return copy / folder

    return build


BUILD: dict[str, Callable[[Path], Path]] = {
    "java": built_with("mvn", "-q", "-B", "package", folder="target/function"),
    "go": built_with("go", "build", "-o", "bootstrap", "."),
    "cpp": built_with("g++", "-std=c++17", "-O2", "-o", "bootstrap", "bootstrap.cpp"),
}


@pytest.mark.parametrize(
    ("language", "runtime", "handler"),
    [
        ("python", "python", "handler.handler"),
        ("nodejs", "nodejs", "handler.handler"),
        ("java", "java", "example.Sum::handle"),
        ("go", "provided", "none"),
        ("bash", "provided", "none"),
        ("cpp", "provided", "none"),
    ],
)
def test_the_example_runs(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, runtime: str, handler: str
) -> None:
    if not all(map(shutil.which, TOOLS.get(language, ()))) or (language == "nodejs" and not NODE_CLIENT.exists()):
        pytest.skip(f"needs {TOOLS[language]}")
    monkeypatch.setenv("PATH", f"{NODE_CLIENT.parent}{os.pathsep}{os.environ['PATH']}")
    copy = Path(shutil.copytree(EXAMPLES / language, tmp_path / language, ignore=shutil.ignore_patterns("target")))
    function = BUILD[language](copy) if language in BUILD else copy
    place.agent(function_dir=function, handler=handler, runtime=runtime, workers=1)
    results = place.results(place.submit([{"numbers": [1, 2, 3]}, {"numbers": [-5]}]), within=60)
    if language == "bash":
        assert results == ["6 by bash", "-5 by bash"]
    else:
        assert [result["sum"] for result in results] == [6, -5]


TEXT = """#!/bin/bash
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while curl -sS -D /tmp/headers -o /tmp/event "$api/next"; do
    id=$(tr -d '\\r' </tmp/headers | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
    printf "$(sed 's/"//g; s/byte-/\\\\/' /tmp/event)" | curl -sS -o /dev/null "$api/$id/response" --data-binary @-
done
"""


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_text_that_is_not_json_is_a_result_as_on_lambda(place: Place, tmp_path: Path) -> None:
    function = tmp_path / "function"
    function.mkdir()
    (function / "bootstrap").write_text(TEXT)
    (function / "bootstrap").chmod(0o755)
    place.agent(function_dir=function, runtime="provided", handler="none", workers=1, sandbox="namespaces")
    session = place.submit(["two words", "7", "NaN", "", "byte-377"], max_retries=0)
    words, number, nan, nothing, binary = place.results(session)
    assert (words, number, nan, nothing) == ("two words", 7, "NaN", "")
    assert (binary.kind, binary.type) == (FailureKind.HANDLER, "Runtime.MarshalError")
