import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmiro.data.status import RowFlag
from openmiro.data.text import MAX_KEY_LENGTH, clean_caption, clean_key, parse_metadata


@given(st.binary(max_size=200), st.integers(1, 64))
def test_any_bytes_become_valid_bounded_text(content, limit):
    cleaned = clean_caption(content, limit)
    # A byte that is no UTF-8 grows into the three bytes of the replacement character.
    assert len(cleaned.text.encode()) <= limit
    assert all(c.isprintable() or c in "\n\t" or not c.isascii() for c in cleaned.text)


@given(st.text(st.characters(exclude_categories=()), max_size=60), st.integers(1, 200))
def test_any_text_becomes_valid_bounded_text(text, limit):
    assert len(clean_caption(text, limit).text.encode()) <= limit


@given(
    st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=40)
)
def test_good_text_is_left_alone(text):
    expected = text.removeprefix("\ufeff").strip()
    cleaned = clean_caption(text.encode(), 1000)
    assert cleaned.text == expected
    assert not cleaned.flags


def test_flags_say_what_was_repaired():
    assert clean_caption(b"caf\xe9", 99).flags == {RowFlag.CAPTION_NOT_UTF8}
    assert clean_caption("a\ud800b", 99).text == "a\ufffdb"
    assert clean_caption("a\ud800b", 99).flags == {RowFlag.CAPTION_SANITIZED}
    assert clean_caption("red\x1b[31m", 99).text == "red [31m"
    assert clean_caption("word " * 100, 50).flags == {RowFlag.CAPTION_CUT}
    assert clean_caption("été".encode(), 4).text == "ét"


def test_byte_order_mark_and_line_ends():
    assert clean_caption(b"\xef\xbb\xbfa\r\nb\r\n", 99).text == "a\nb"


@given(st.text(st.characters(exclude_categories=()), max_size=400))
def test_keys_are_short_and_printable(name):
    key = clean_key(name)
    assert len(key) <= MAX_KEY_LENGTH
    key.encode()
    assert not any(ord(c) < 32 for c in key)


def test_long_keys_stay_different():
    assert clean_key("a" * 1000 + "1") != clean_key("a" * 1000 + "2")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"\xff", b"[" * 100_000, b'{"a": 1}' + b" " * 2000])
def test_bad_metadata_is_none(content):
    assert parse_metadata(content, 1000) is None
