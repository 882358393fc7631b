"""What one writer intends and what was acknowledged to it, in a file that outlives the `kill -9` of the
writer.
 File of little-endian uint64 words: a tally of 8 words, then items of 4 words [kind, intended, acknowledged,
refused]. A writer stores `intended` before it sends and `acknowledged` after the reply, so that whoever reads
`acknowledged` first, then the cache, then `intended` has bounds for what may stand in the cache.
"""

import mmap
from pathlib import Path
from typing import NamedTuple

ITEMS_MAX = 1 << 16
_TALLY_WORDS = 8
_ITEM_WORDS = 4
_FILE_BYTES = 8 * (_TALLY_WORDS + ITEMS_MAX * _ITEM_WORDS)

COUNT, ACKNOWLEDGED, UNKNOWN, REFUSED, LIVES = range(5)
"""Tally: items in use; operations by outcome; processes that wrote here."""


class Item(NamedTuple):
    """One item's words at one moment, read in the order that gives bounds."""

    kind: int
    acknowledged: int
    """Version of the last write whose reply came."""
    intended: int
    """Version of the last write that may have been sent."""
    refused: bool
    """The write of `intended` failed with the promise that nothing was executed."""


class Ledger:
    """One writer's file. An item whose last write was not acknowledged is written no more: a request of a
    dead connection may still be executed, beside whatever came later.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            with path.open("wb") as new:
                new.truncate(_FILE_BYTES)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FILE_BYTES)
        self._words = memoryview(self._map).cast("Q")

    def close(self) -> None:
        self._words.release()
        self._map.close()

    def tally(self, field: int) -> int:
        return self._words[field]

    def count(self, field: int, more: int = 1) -> None:
        self._words[field] += more

    def __len__(self) -> int:
        return self._words[COUNT]

    def add(self, kind: int) -> int:
        """A new item, never written; returns its number. AssertionError when the file is full."""
        number = len(self)
        assert number < ITEMS_MAX, "the ledger is full: more items than a run should ever give up"
        self._words[_word(number)] = kind
        self._words[COUNT] = number + 1
        return number

    def acknowledged(self, number: int) -> int:
        return self._words[_word(number) + 2]

    def intended(self, number: int) -> int:
        return self._words[_word(number) + 1]

    def item(self, number: int) -> Item:
        word = _word(number)
        acknowledged = self._words[word + 2]
        return Item(self._words[word], acknowledged, self._words[word + 1], bool(self._words[word + 3]))

    def is_open(self, number: int) -> bool:
        """Whether everything that was sent for the item was acknowledged."""
        return self.intended(number) == self.acknowledged(number)

    def intend(self, number: int) -> int:
        """Note that the next version is about to be sent; returns it."""
        word = _word(number) + 1
        self._words[word] += 1
        return self._words[word]

    def acknowledge(self, number: int, version: int) -> None:
        self._words[_word(number) + 2] = version
        self._words[ACKNOWLEDGED] += 1

    def give_up(self, number: int, *, refused: bool) -> None:
        """The last write failed; `refused` if its error says that nothing was executed."""
        self._words[_word(number) + 3] = refused
        self._words[REFUSED if refused else UNKNOWN] += 1


def _word(number: int) -> int:
    return _TALLY_WORDS + number * _ITEM_WORDS
