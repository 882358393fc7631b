"""The parser alone: however requests are cut, and whatever is wrong with them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmcache.server.gateway.requests import BadRequest, Requests, split_inline


def packed(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


WORDS = st.lists(st.one_of(st.binary(max_size=20), st.sampled_from([b"\r\n", b"$1\r\n", b"x" * 3000, b""])), min_size=1, max_size=5)


@given(st.lists(WORDS, max_size=8), st.integers(0, 2**32))
def test_commands_come_whole_however_they_are_cut(commands, seed):
    data = b"".join(packed(*words) for words in commands)
    cuts = random.Random(seed)
    requests, found, at = Requests(), [], 0
    while at < len(data):
        size = cuts.choice((1, 3, 50, 4000))
        more, wrong = requests.feed(data[at : at + size])
        assert not wrong
        found += more
        at += size
    assert found == commands


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data):
    commands, _ = Requests().feed(data)
    assert all(command and all(type(word) is bytes for word in command) for command in commands)


@given(st.binary(max_size=60))
def test_inline_words_or_a_complaint(line):
    try:
        assert all(type(word) is bytes for word in split_inline(line.replace(b"\n", b"")))
    except BadRequest as error:
        assert "quotes" in str(error)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"get a", [b"get", b"a"]),
        (b'  set  "a b"  \'c d\' ', [b"set", b"a b", b"c d"]),
        (rb'set "\x41\n\"" ' + rb"'it\'s'", [b"set", b'A\n"', b"it's"]),
        (b'set ""', [b"set", b""]),
    ],
)
def test_inline_quoting(line, words):
    assert split_inline(line) == words


def test_a_large_argument_in_many_pieces_is_not_read_again_and_again():
    value = bytes(40_000_000)
    data = packed(b"SET", b"k", value)
    requests, found = Requests(), []
    for at in range(0, len(data), 65_536):
        more, _ = requests.feed(data[at : at + 65_536])
        found += more
    assert found == [[b"SET", b"k", value]]
