"""What the documents name exists, and their examples hold."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from htcgrid import Profile
from htcgrid_agent.settings import Settings
from htcgrid_eks import node_drainer
from htcgrid_events import SessionState
from tests.template.stack import TEMPLATE

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {".py", ".yaml", ".json", ".toml", ".in", ".txt", ".csv"}
SKIPPED = {"node_modules", "__pycache__"}

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
NAME = re.compile(r"^(?:[A-Za-z]\w*_\w+|\w*[a-z][A-Z]\w*)$")
"""A word with an inner capital or an underscore: no word of English, so the name of something."""

OF_AWS = {
    "ApproximateAgeOfOldestMessage",
    "BatchWriteItem",
    "ERROR_CODE",
    "ERROR_MESSAGE",
    "RULE_ARN",
    "TARGET_ARN",
    "TransactWriteItems",
}
"""Names of AWS that no source file needs."""
PLACEHOLDERS = {"DEADLINE_AT"}


def below(folder: Path) -> Iterator[Path]:
    """All files, without what tools and builds leave behind."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in SKIPPED:
            continue
        if path.is_dir():
            yield from below(path)
        else:
            yield path


FILES = list(below(ROOT))


def files(*suffixes: str) -> list[Path]:
    return [path for path in FILES if path.suffix in suffixes]


DOCUMENTS = files(".md")
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@cache
def source() -> str:
    """All that is no document, this file excepted."""
    code = [path for path in files(*SOURCES) if path != Path(__file__).resolve()]
    return "\n".join(path.read_text(encoding="utf-8") for path in [*code, ROOT / "Makefile"])


@cache
def words() -> frozenset[str]:
    return frozenset(re.findall(r"\w+", source()))


@cache
def workflows() -> dict[str, dict[str, dict[str, Any]]]:
    """The states of each workflow, those inside Map and Parallel states among them."""
    files = sorted((ROOT / "statemachines").glob("*.asl.json"))
    return {file.name.removesuffix(".asl.json"): dict(inside(json.loads(file.read_text("utf-8")))) for file in files}


def inside(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in machine["States"].items():
        yield name, state
        for each in [state["ItemProcessor"]] if "ItemProcessor" in state else state.get("Branches", []):
            yield from inside(each)


def blocks(document: Path, *languages: str) -> list[str]:
    """The fenced blocks in one of these languages, all if none is named."""
    found = FENCE.findall(document.read_text(encoding="utf-8"))
    return [
        "\n".join(line.removeprefix(indent) for line in text.split("\n"))
        for indent, language, text in found
        if not languages or language in languages
    ]


def prose(document: Path) -> str:
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def spans(document: Path) -> set[str]:
    return set(SPAN.findall(prose(document)))


def anchors(document: Path) -> set[str]:
    """How GitHub names the places of a document's headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(prose(document))}


def test_there_is_something_to_check() -> None:
    assert ROOT / "README.md" in DOCUMENTS
    assert len(list((ROOT / "docs/adr").glob("0*.md"))) >= 11


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for link in LINK.findall(prose(document)):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, part = link.partition("#")
        target = (document.parent / place).resolve() if place else document
        if not target.exists() or (part and part not in anchors(target)):
            broken.append(link)
    assert broken == []


@every_document
def test_targets_of_make_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    code = [*blocks(document), *spans(document)]
    named = {name for text in code for name in re.findall(r"(?:^|[\s(])make ([a-z][a-z-]*)", text, re.MULTILINE)}
    assert named - targets == set()


@every_document
def test_names_exist_in_the_code(document: Path) -> None:
    fields = [*Settings.model_fields, *node_drainer.Settings.model_fields]
    settings = {f"HTCGRID_{field.upper()}" for field in fields}
    metrics = {f"Sessions{state.title().replace('_', '')}" for state in SessionState if state.ended}
    known = words() | settings | metrics | OF_AWS | PLACEHOLDERS
    named = {word for span in spans(document) for word in re.findall(r"[\w-]+", span) if NAME.match(word)}
    assert sorted(word for word in named if word not in known) == []


@every_document
def test_files_exist(document: Path) -> None:
    paths = {str(path.relative_to(ROOT)) for path in files(*SOURCES)}
    named = {span for span in spans(document) if re.match(r"^[\w./-]+\.(py|yaml|asl\.json|toml|csv)$", span)}
    assert sorted(name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in paths)) == []


@every_document
def test_commands_name_what_the_template_has(document: Path) -> None:
    text = "\n".join(blocks(document)) + "\n".join(spans(document))
    outputs = re.findall(r"\$\(out (\w+)\)", text)
    resources = re.findall(r"(?:--logical-resource-id|look) ([A-Z]\w+)", text)
    assert set(outputs) - TEMPLATE["Outputs"].keys() == set()
    assert set(resources) - TEMPLATE["Resources"].keys() == set()


@every_document
def test_commands_of_the_local_grid_exist(document: Path) -> None:
    from htcgrid_local.commands import app

    commands = {
        command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands
    }
    text = "\n".join([*blocks(document), *spans(document)])
    assert set(re.findall(r"htcgrid local ([a-z]+)", text)) - commands == set()


@every_document
def test_commands_and_their_options_exist(document: Path) -> None:
    code = [line for text in blocks(document) for line in text.replace("\\\n", " ").splitlines()]
    for line in [*code, *spans(document)]:
        for words in re.findall(r"(?:^|[\s|/])htcgrid ((?!local|import)[a-z][^|>`]*)", line):
            assert unknown_of(words.split()) == [], line


def unknown_of(words: list[str]) -> list[str]:
    """What of a command line the commands do not know: its names and its options."""
    from typer.main import get_command

    from htcgrid.cli import app

    command: Any = get_command(app)
    given = list(words)
    while given and hasattr(command, "commands"):
        name = given.pop(0)
        if name not in command.commands:
            return [name]
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return [word for word in given if word.startswith("-") and word != "-" and word not in known]


def test_every_command_is_documented_with_an_example() -> None:
    from typer.main import get_command

    from htcgrid.cli import app

    def names(command: Any, prefix: str) -> Iterator[str]:
        for name, child in command.commands.items():
            if hasattr(child, "commands"):
                yield from names(child, f"{prefix} {name}")
            else:
                yield f"{prefix} {name}"

    examples = "\n".join(blocks(ROOT / "docs/command-line.md"))
    named = {name for name in names(get_command(app), "htcgrid") if name != "htcgrid version"}
    assert {name for name in named if not re.search(rf"{name}\b", examples)} == set()


@every_document
def test_python_examples_compile(document: Path) -> None:
    for block in blocks(document, "python"):
        compile(block, str(document), "exec")


@every_document
def test_json_examples_parse(document: Path) -> None:
    for block in blocks(document, "json"):
        json.loads(block)


def test_the_profile_of_the_readme_has_the_fields_of_a_profile() -> None:
    (example,) = (json.loads(block) for block in blocks(ROOT / "README.md", "json"))
    required = {name for name, field in Profile.model_fields.items() if field.is_required()}
    assert required <= example.keys() <= Profile.model_fields.keys()


def test_agents_get_every_setting_that_has_no_default() -> None:
    required = {f"HTCGRID_{name.upper()}" for name, field in Settings.model_fields.items() if field.is_required()}
    assert required <= set(re.findall(r"HTCGRID_\w+", prose(ROOT / "README.md")))


def test_every_parameter_is_explained_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", prose(ROOT / "docs/operations.md"), re.MULTILINE)
    defaults = {name: str(parameter["Default"]) or "empty" for name, parameter in TEMPLATE["Parameters"].items()}
    assert {name: default for name, default in rows if name in defaults} == defaults


def test_every_alarm_has_a_runbook() -> None:
    alarms = {name for name, item in TEMPLATE["Resources"].items() if item["Type"] == "AWS::CloudWatch::Alarm"}
    runbooks = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/runbooks").glob("*.md"))
    assert {name for name in alarms if f"`{name}`" not in runbooks} == set()


@pytest.mark.parametrize("workflow", workflows())
def test_the_diagram_of_a_workflow_in_its_runbook_is_the_workflow(workflow: str) -> None:
    (diagram,) = blocks(ROOT / f"docs/runbooks/{workflow}.md", "mermaid")
    drawn = set(re.findall(r"^ *(\w+) --> (\w+)", diagram, re.MULTILINE))
    written = set()
    for name, state in workflows()[workflow].items():
        routes = [state, *state.get("Catch", []), *state.get("Choices", [])]
        written |= {(name, route[key]) for route in routes for key in ("Next", "Default") if key in route}
    assert drawn == written


def test_what_the_code_says_of_documents_is_there() -> None:
    named = set(re.findall(r"\bdocs/(?:adr/\d{4}|[\w/-]+\.md)", source()))
    assert named
    missing = [name for name in named if not (list(ROOT.glob(f"{name}-*.md")) or (ROOT / name).is_file())]
    assert missing == []
