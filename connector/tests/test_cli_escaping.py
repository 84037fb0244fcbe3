"""Text of others, made harmless for terminals."""

import json
import unicodedata

import pytest

from htcgrid.escaping import json_text, lines, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x1b]52;c;b3duZWQ=\x07", r"\x1b]52;c;b3duZWQ=\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\nc\td\x00\x7f", r"a\rb\nc\td\x00\x7f"),
        ("user\u202egnp.exe", r"user\u202egnp.exe"),
        ("\u2066\u2069\u200f\u061c\ufeff\u2028\u200b", r"\u2066\u2069\u200f\u061c\ufeff\u2028\u200b"),
        ("\ud800 and \U000e0041", r"\ud800 and \U000e0041"),
        ("plain, ä 漢 €, 1\u00a0000", "plain, ä 漢 €, 1\u00a0000"),
        ("soft\u00adhyphen", r"soft\xadhyphen"),
        ("👩\u200d🔬 and नी\u200cम", "👩\u200d🔬 and नी\u200cम"),
        ("", ""),
    ],
)
def test_what_moves_a_terminal_is_shown_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_no_control_character_of_unicode_passes() -> None:
    every = "".join(map(chr, range(0x110000)))
    for shown in (visible(every), json_text([every])):
        assert {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"} == set()
        assert {character for character in shown if unicodedata.category(character) == "Cf"} == {"\u200c", "\u200d"}
        shown.encode()


def test_json_loses_nothing() -> None:
    value = {"key\x9b": ["\u202e\ud800\x00", "\U000e0041 ä", 1.5, None]}
    assert json.loads(json_text(value)) == value
    assert json_text({"ä": "\x9b"}) == '{"ä": "\\u009b"}'


def test_what_is_kept_and_how_a_text_has_lines() -> None:
    assert visible("a\tb\r\nc\x1b", keep="\t\r\n") == "a\tb\r\nc\\x1b"
    assert lines("a\tb\r\nc\x1b\rd\n\n") == ["a    b", r"c\x1b\rd"]
