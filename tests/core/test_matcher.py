"""Matchers on bytes, which may not be valid UTF-8."""

import itertools

import pytest
import re2

from outlast.core.query.matcher import MAX_PROGRAM, MAX_SPANS, make_matcher, spans_in_text
from outlast.model.errors import InvalidRequest


def found(pattern: str, line: bytes, *, is_regex: bool = False, ignore_case: bool = False) -> bool:
    """Match a line alone, and among other lines."""
    matcher = make_matcher(pattern, "q", is_regex=is_regex, ignore_case=ignore_case)
    among = matcher.may_match(b"\n\xff\n" + line + b"\n\n")
    matches = matcher.matches(line)
    assert among or not matches, "no chunk is passed over that has a line"
    return matches


@pytest.mark.parametrize(
    ("pattern", "line", "exactly", "any_case"),
    [
        ("error", b"an error", True, True),
        ("error", b"AN ERROR\r", False, True),
        ("ErRoR", b"an error", False, True),
        ("\u00e9t\u00e9 ", "\u00c9T\u00c9 1".encode(), False, True),
        ("\u03c3", "\u03a3".encode(), False, True),
        ("k", "\u212a".encode(), False, True),  # the sign of the kelvin
        ("ss", "\u00df".encode(), False, False),
        ("a.c(", b"ABC(", False, False),
        ("a.c(", b"\xff\x00A.C(\xfe", False, True),
        ("\U0001f4a9" * 1000, ("\U0001f4a9" * 1000).encode(), True, True),
    ],
)
def test_a_text_is_matched_with_its_case(pattern: str, line: bytes, *, exactly: bool, any_case: bool) -> None:
    assert found(pattern, line) is exactly
    assert found(pattern, line, ignore_case=True) is any_case


@pytest.mark.parametrize(
    ("pattern", "line", "texts"),
    [
        ("ab", b"abcabab", ["ab", "ab", "ab"]),
        ("aa", b"aaaaa", ["aa", "aa"]),
        ("é", "aé€é".encode(), ["é", "é"]),
        ("€", "\U0001f4a9€ \U0001f4a9€".encode(), ["€", "€"]),
        ("x", b"\xe2\x82x\xff\xffx\x80x", ["x", "x", "x"]),
        ("z", b"abc", []),
    ],
)
def test_each_match_is_told_in_characters(pattern: str, line: bytes, texts: list[str]) -> None:
    text = line.decode("utf-8", "replace")
    for is_regex, ignore_case in itertools.product((False, True), repeat=2):
        matcher = make_matcher(pattern, "q", is_regex=is_regex, ignore_case=ignore_case)
        assert [text[start:end] for start, end in spans_in_text(matcher, line)] == texts


def test_matches_of_an_expression_are_not_empty_and_not_too_many() -> None:
    matcher = make_matcher("x*", "q", is_regex=True)
    assert spans_in_text(matcher, b"axxbx") == [(1, 3), (4, 5)]
    assert len(spans_in_text(matcher, b"x." * 1000)) == MAX_SPANS
    within = make_matcher("\\C", "q", is_regex=True)  # one byte, also within a character
    assert spans_in_text(within, "é€x".encode())[-1] == (2, 3)


def test_an_expression_matches_bytes() -> None:
    assert found("^(E)rr.\\d$", b"Err 5", is_regex=True)
    assert not found("^(E)rr.\\d$", b"ERR 5", is_regex=True)
    assert found("^(E)rr.\\d$", b"eRR 5", is_regex=True, ignore_case=True)
    assert not found("^a.b$", b"a\xffb", is_regex=True)
    assert found("^a\\Cb$", b"a\xffb", is_regex=True)


@pytest.mark.parametrize("pattern", ["(.{0,50}){0,20}x", "(a|b)*a" + "[ab]{1000}" * 5, "\\pL{0,30}"])
def test_a_large_expression_is_rejected(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match=f"q is too large: .* the maximum is {MAX_PROGRAM}; use fewer repetitions"):
        make_matcher(pattern, "q", is_regex=True)


def test_usual_expressions_are_not_large() -> None:
    for pattern in ("\\pL+ \\d{1,20}", "(?i)error.{0,200}timeout", "x" * 1000, "([0-9a-f]{8}-){4}"):
        assert make_matcher(pattern, "q", is_regex=True)


def test_re2_caches_no_expression() -> None:
    """By default, the library caches 128 expressions of up to 8 MiB each."""
    for pattern in ("(", "a"):
        try:
            make_matcher(pattern, "q", is_regex=True)
        except InvalidRequest:
            continue
    assert re2._Regexp._make.cache_info().currsize == 0
