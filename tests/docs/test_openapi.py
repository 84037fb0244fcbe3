"""The description of the HTTP API is in step with the code, and the guide with the description."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs/openapi.json"
DOCUMENT = json.loads(FILE.read_text(encoding="utf-8"))
GUIDE = (ROOT / "docs/http-api.md").read_text(encoding="utf-8")
METHODS = {"get", "put", "post", "delete"}


def operations() -> list[tuple[str, str]]:
    return [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]


def test_the_description_is_that_of_the_code(tmp_path: Path) -> None:
    made = tmp_path / "openapi.json"
    subprocess.run([sys.executable, "-m", "functions.openapi", str(made)], cwd=ROOT, check=True)
    assert made.read_text(encoding="utf-8") == FILE.read_text(encoding="utf-8"), (
        "run: .venv/bin/python -m functions.openapi"
    )


def test_every_operation_wants_a_token_and_says_what_it_does() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["security"] == [{"cognito": []}]
    for method, path in operations():
        operation = DOCUMENT["paths"][path][method]
        assert operation["summary"].endswith(".")
        assert "default" in operation["responses"]


def test_its_models_are_schemas_and_all_are_there() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    named = set(re.findall(r"#/components/schemas/(\w+)", FILE.read_text(encoding="utf-8")))
    assert named == DOCUMENT["components"]["schemas"].keys()


def test_the_guide_names_every_operation() -> None:
    table = set(re.findall(r"^\| `(GET|PUT|POST|DELETE) (/\S*?)` \|", GUIDE, re.MULTILINE))
    assert table == {(method.upper(), path) for method, path in operations()}


def test_what_curl_is_shown_to_ask_for_exists() -> None:
    shapes = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in operations()}
    asked = re.findall(r'^api ([^/]*?)"?(/[a-z][^\s"?]*)', GUIDE, re.MULTILINE)
    assert len(asked) >= 10
    for options, place in asked:
        method = re.findall(r"-X (\w+)", options)
        path = re.sub(r"/(?:\$\w+|\d+)(?=/|$)", "/{}", place)
        assert ((method or ["GET"])[0].lower(), path) in shapes, (options, place)
