"""The file that says where the grid is."""

import json
import os
import re
import stat
from pathlib import Path

import pytest

from htcgrid import Grid, Profile, ProfileInvalid, ProfileMissing

VALUES: dict[str, object] = {
    "api_url": "https://abc.execute-api.eu-west-1.amazonaws.com",
    "push_url": "wss://def.execute-api.eu-west-1.amazonaws.com/v1",
    "region": "eu-west-1",
    "user_pool_client_id": "client",
}


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    profile = Profile.model_validate(VALUES | {"username": "ada", "password": "right-Horse-7"})
    place = profile.save(tmp_path / "deep" / "profile.json")
    assert Profile.load(place) == profile
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert [path.name for path in place.parent.iterdir()] == ["profile.json"]


def test_a_profile_shows_no_password() -> None:
    profile = Profile.model_validate(VALUES | {"password": "right-Horse-7"})
    assert "right-Horse-7" not in f"{profile!r} {profile} {profile.model_dump_json()}"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HTCGRID_PROFILE", "/etc/grid.json", "/etc/grid.json"),
        ("HTCGRID_HOME", "/srv/grid", "/srv/grid/profile.json"),
        ("HOME", "/home/ada", "/home/ada/.htcgrid/profile.json"),
    ],
)
def test_profiles_have_their_places(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str) -> None:
    monkeypatch.delenv("HTCGRID_PROFILE", raising=False)
    monkeypatch.delenv("HTCGRID_HOME", raising=False)
    monkeypatch.setenv(variable, value)
    assert Profile.default_path() == Path(expected)


def test_a_missing_profile_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTCGRID_PROFILE", str(tmp_path / "none.json"))
    with pytest.raises(ProfileMissing, match=r"no grid profile at .*none.json: .*`htcgrid local up`"):
        Grid.connect()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"api_url": "ftp://x"}, "'api_url' is not legal: it is the address of the sessions API, such as https://"),
        ({"api_url": "https://"}, "'api_url' is not legal"),
        ({"api_url": ""}, r"such as https://abc\.execute-api\.eu-west-1\.amazonaws\.com$"),
        ({"push_url": "https://host:99999/"}, r"such as wss://def\.execute-api\.eu-west-1\.amazonaws\.com/v1$"),
        ({"region": None}, "'region' is not legal: it is the AWS Region of the user pool"),
        ({"colour": "red"}, "there is no field 'colour'; the fields are api_url, push_url"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    place = tmp_path / "profile.json"
    place.write_text(json.dumps(VALUES | changes))
    with pytest.raises(ProfileInvalid, match=said):
        Profile.load(place)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    place = tmp_path / "profile.json"
    place.write_text(json.dumps({name: value for name, value in VALUES.items() if name != "region"}))
    with pytest.raises(ProfileInvalid, match="'region' is missing"):
        Profile.load(place)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_what_is_no_json_object_is_told(tmp_path: Path, text: str) -> None:
    place = tmp_path / "profile.json"
    place.write_text(text)
    with pytest.raises(ProfileInvalid, match="is wrong: it is not a JSON object"):
        Profile.load(place)


@pytest.mark.skipif(os.name != "posix", reason="files have no such modes elsewhere")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_password_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    place = Profile.model_validate(VALUES | {"password": "right-Horse-7"}).save(tmp_path / "my profile.json")
    place.chmod(mode)
    with pytest.raises(ProfileInvalid, match=re.escape(f"`chmod 600 '{place}'`")) as told:
        Profile.load(place)
    assert "right-Horse-7" not in str(told.value)
    place.chmod(0o600)
    Profile.load(place)


def test_a_profile_without_a_password_may_be_open(tmp_path: Path) -> None:
    place = Profile.model_validate(VALUES | {"username": "ada"}).save(tmp_path / "profile.json")
    place.chmod(0o644)
    assert Profile.load(place).username == "ada"
