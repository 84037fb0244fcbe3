"""The file that says where the grid is."""

import json
import stat
from pathlib import Path

import pytest

from htcgrid import Grid, Profile, ProfileInvalid, ProfileMissing

VALUES: dict[str, object] = {
    "api_url": "https://abc.execute-api.eu-west-1.amazonaws.com/grid",
    "push_url": "wss://def.execute-api.eu-west-1.amazonaws.com/grid",
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
        ({"push_url": "https://host:99999/"}, "'push_url' is not legal"),
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
