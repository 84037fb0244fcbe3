"""What the wheels of the client put into an environment."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("package", "names"), [("connector", {"htcgrid"}), ("compat", {"api", "utils"})])
def test_a_wheel_claims_its_own_names_alone(package: str, names: set[str], tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=_ROOT / package,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in inside if not name.endswith(".dist-info")} == names
