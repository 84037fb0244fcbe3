"""Where a session has its region from."""

from pathlib import Path

import pytest

from htcgrid_dataplane.aws_session import open_session


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
        ({}, "eu-west-3"),
    ],
)
def test_the_region_is_that_of_the_environment_or_the_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], region: str
) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nregion = eu-west-3\n", encoding="utf-8")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**variables, "AWS_CONFIG_FILE": str(config)}.items():
        monkeypatch.setenv(name, value)
    assert open_session().get_config_variable("region") == region
