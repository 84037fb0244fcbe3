"""Every package takes part in the import contracts."""

from configparser import ConfigParser
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def contracts() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / ".importlinter", encoding="utf-8")
    return parser


def names(section: str, key: str) -> set[str]:
    return set(contracts()[section][key].replace("|", "\n").split())


def test_every_package_has_its_place_in_the_import_contracts() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/src/*/__init__.py")} | {"functions", "benchmarks"}
    assert names("importlinter", "root_packages") == packages
    assert names("importlinter:contract:packages", "layers") == packages
    assert names("importlinter:contract:circles", "ancestors") == packages
