"""The file that says where the grid is."""

import json
import os
import re
import stat
from pathlib import Path

import pytest

from htcgrid import Grid, Profile, ProfileInvalid, ProfileMissing, profiles

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


# --- named profiles ---


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HTCGRID_PROFILE", raising=False)
    monkeypatch.setenv("HTCGRID_HOME", str(tmp_path))
    return tmp_path


def profile_of(region: str, written_by: str | None = None) -> Profile:
    return Profile.model_validate(VALUES | {"region": region, "written_by": written_by})


def test_a_profile_is_found_by_its_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert profile_of("r1").save("prod") == home / "profiles" / "prod.json"
    assert Profile.load("prod").region == "r1"
    monkeypatch.setenv("HTCGRID_PROFILE", "prod")
    assert Profile.load().region == "r1"
    assert Profile.path_of("default") == home / "profile.json"


@pytest.mark.parametrize("path", ["prod.json", "./prod", "/etc/prod", "..", ".hidden", "a b"])
def test_what_is_no_name_is_a_path(path: str) -> None:
    assert Profile.path_of(path) == Path(path)


def test_the_profile_in_use_was_chosen_or_is_the_default_or_the_only_one(home: Path) -> None:
    profile_of("r1").save("only")
    assert Profile.load().region == "r1"
    profile_of("r2").save("second")
    with pytest.raises(ProfileMissing, match=r"there are profiles named only, second: see `htcgrid config use`"):
        Profile.load()
    profile_of("r3").save("default")
    assert Profile.load().region == "r3"
    profiles.choose("second")
    assert Profile.load().region == "r2"
    with pytest.raises(ProfileMissing, match="there is no profile 'third'; there are default, only, second"):
        profiles.choose("third")
    assert Profile.load().region == "r2"
    assert profiles.names(home) == ["default", "only", "second"]


@pytest.mark.parametrize(
    ("there", "comes"), [(None, "htcgrid local up"), ("htcgrid local up", None), ("htcgrid local up", "another")]
)
def test_a_profile_of_somebody_else_is_never_overwritten(home: Path, there: str | None, comes: str | None) -> None:
    profile_of("r1", there).save("mine")
    with pytest.raises(ProfileInvalid, match="and is left as it is: name another profile with --profile"):
        profile_of("r2", comes).save("mine")
    assert not Profile.remove("mine", written_by="somebody else")
    assert Profile.load("mine").region == "r1"


def test_a_command_replaces_and_removes_what_it_wrote_itself(home: Path) -> None:
    profile_of("r1", "htcgrid local up").save("local")
    place = profile_of("r2", "htcgrid local up").save("local")
    assert Profile.load("local").region == "r2"
    assert Profile.remove("local", written_by="htcgrid local up")
    assert not place.exists()
    assert not Profile.remove("local", written_by="htcgrid local up")


@pytest.mark.parametrize("content", ["some notes of mine", "[1]", "3"])
def test_a_file_that_is_no_profile_is_never_overwritten(tmp_path: Path, content: str) -> None:
    place = tmp_path / "notes.json"
    place.write_text(content)
    with pytest.raises(ProfileInvalid, match="is not a grid profile and is left as it is"):
        profile_of("r1").save(place)
    assert place.read_text() == content


def test_a_device_is_never_replaced_and_a_link_is_followed(tmp_path: Path) -> None:
    fifo, target, link = tmp_path / "fifo", tmp_path / "target.json", tmp_path / "link.json"
    os.mkfifo(fifo)
    with pytest.raises(ProfileInvalid, match="is not a grid profile"):
        profile_of("r1").save(fifo)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    link.symlink_to(target)
    profile_of("r1").save(link)
    profile_of("r2").save(link)
    assert link.is_symlink()
    assert Profile.load(target).region == "r2"
