"""A disk for the persistence (shmcache.persistence.files) that a power cut may hit at any operation.

Every operation goes to a real folder at once, where the code under test reads it back, and is recorded. `cuts()` plays the record again, operation by
operation, on a model of what is certain: a file's content at its last sync, a folder's names at its last sync. What came later is pending,
and `Disk.after_cut` draws one of the folders that a power cut may leave: pending writes are there, or not, or up to a byte, or by sectors in any
order with zeros or old bytes in the holes; pending names are there or not, each by itself. A rename is whole or not at all, as every file system
with a journal has it; the sync of a file is not taken to keep its name.
"""

import contextlib
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Picture = dict[Path, bytes | None]
"""Files and folders (None), by their paths below the root, folders first."""
_SECTORS = (512, 4096)
_STALE = b"what some other file left in this sector of the disk before it was reused "


@dataclass(slots=True, eq=False)
class Inode:
    """A file: what is certain, and the states since, oldest first. `touched`: byte ranges that the pending operations have changed."""

    certain: bytes = b""
    pending: list[bytes] = field(default_factory=list)
    touched: list[tuple[int, int]] = field(default_factory=list)

    @property
    def now(self) -> bytes:
        return self.pending[-1] if self.pending else self.certain

    def write(self, data: bytes) -> None:
        at = len(self.now)
        self.pending.append(self.now + data)
        self.touched.append((at, at + len(data)))

    def truncate(self, size: int) -> None:
        now = self.now
        self.pending.append(now[:size] + bytes(max(0, size - len(now))))
        self.touched.append((min(size, len(now)), max(size, len(now))))

    def sync(self) -> None:
        self.certain = self.now
        self.pending, self.touched = [], []

    def after_cut(self, rng: random.Random) -> bytes:
        """What a power cut may leave of it."""
        if not self.pending:
            return self.certain
        states = [self.certain, *self.pending]
        match rng.randrange(6):
            case 0:
                return self.certain
            case 1:
                return self.now
            case 2:
                # In order, up to a byte of one of them.
                which = rng.randrange(1, len(states))
                before, after = states[which - 1], states[which]
                if len(after) >= len(before):
                    return after[: rng.randint(len(before), len(after))]
                return rng.choice((before, after))
            case _:
                return self._by_sectors(states, rng)

    def _by_sectors(self, states: list[bytes], rng: random.Random) -> bytes:
        """Each sector as it was at some moment; those that were never written hold zeros or old bytes."""
        sector = rng.choice(_SECTORS)
        size = len(rng.choice(states))
        whole = bytearray(self.now[:size].ljust(size, b"\0"))
        first = min(start for start, _ in self.touched) // sector
        newest = rng.random()
        for number in range(first, (size + sector - 1) // sector):
            start, end = number * sector, min(size, (number + 1) * sector)
            if rng.random() < newest:
                continue
            found = rng.choice(states)[start:end]
            rest = bytes(end - start) if rng.random() < 0.5 else (_STALE * 100)[start % 64 :][: end - start]
            whole[start:end] = found + rest[len(found) :]
        # What was certain and that nothing has touched since cannot be harmed.
        for start, end in _untouched(len(self.certain), self.touched):
            whole[start : min(end, size)] = self.certain[start : min(end, size)]
        return bytes(whole)


def _untouched(size: int, touched: list[tuple[int, int]]) -> list[tuple[int, int]]:
    at, found = 0, []
    for start, end in sorted(touched):
        if start > at:
            found.append((at, min(start, size)))
        at = max(at, end)
    if at < size:
        found.append((at, size))
    return [(start, end) for start, end in found if start < end]


@dataclass(slots=True, eq=False)
class Folder:
    """Names: the certain ones, and what was done to them since."""

    certain: "dict[str, Inode | Folder]" = field(default_factory=dict)
    pending: "list[tuple[str, str, Inode | Folder | None]]" = field(default_factory=list)
    """(name that goes or "", name that comes or "", what comes)."""

    @property
    def now(self) -> "dict[str, Inode | Folder]":
        return _apply(self.certain, self.pending)

    def change(self, gone: str, came: str, what: "Inode | Folder | None") -> None:
        self.pending.append((gone, came, what))

    def sync(self) -> None:
        self.certain = self.now
        self.pending = []

    def after_cut(self, rng: random.Random) -> "dict[str, Inode | Folder]":
        match rng.randrange(4):
            case 0:
                return self.certain
            case 1:
                return self.now
            case 2:
                return _apply(self.certain, self.pending[: rng.randint(0, len(self.pending))])
            case _:
                return _apply(self.certain, [change for change in self.pending if rng.random() < 0.5])


def _apply(names: "dict[str, Inode | Folder]", changes: "list[tuple[str, str, Inode | Folder | None]]") -> "dict[str, Inode | Folder]":
    found = dict(names)
    for gone, came, what in changes:
        if gone:
            found.pop(gone, None)
        if came and what is not None:
            found[came] = what
    return found


class Disk:
    """What is certain after some operations, and what is pending."""

    def __init__(self, root: Path) -> None:
        """With what `root` holds, all of it certain."""
        self.root = root
        self._top = _load(root)

    def _find(self, path: Path) -> Any:
        found: Inode | Folder = self._top
        for part in path.relative_to(self.root).parts:
            assert isinstance(found, Folder)
            found = found.now[part]
        return found

    def play(self, name: str, path: Path, argument: Any, inode: Inode | None) -> None:
        """One operation of the record."""
        match name:
            case "write":
                assert inode is not None
                inode.write(argument)
            case "truncate":
                assert inode is not None
                inode.truncate(argument)
            case "sync":
                assert inode is not None
                inode.sync()
            case "create":
                self._find(path.parent).change("", path.name, inode)
            case "rename":
                assert path.parent == argument.parent, "the model knows no rename from folder to folder"
                self._find(path.parent).change(path.name, argument.name, self._find(path))
            case "unlink":
                self._find(path.parent).change(path.name, "", None)
            case "remove_tree":
                _empty(self._find(path))
                self._find(path.parent).change(path.name, "", None)
            case "make_folder":
                self._find(path.parent).change("", path.name, Folder())
            case "sync_folder":
                self._find(path).sync()

    def inode(self, path: Path) -> Inode:
        found = self._find(path)
        assert isinstance(found, Inode)
        return found

    def after_cut(self, rng: random.Random) -> Picture:
        """What the disk may look like when the power comes back."""
        picture: Picture = {}
        _draw(self._top, Path(), rng, picture)
        return picture


def _empty(folder: Folder) -> None:
    for name, what in folder.now.items():
        if isinstance(what, Folder):
            _empty(what)
        folder.change(name, "", None)


def _load(path: Path) -> Folder:
    names: dict[str, Inode | Folder] = {}
    for child in path.iterdir():
        names[child.name] = _load(child) if child.is_dir() else Inode(child.read_bytes())
    return Folder(names)


def _draw(folder: Folder, at: Path, rng: random.Random, picture: Picture) -> None:
    picture[at] = None
    for name, what in folder.after_cut(rng).items():
        if isinstance(what, Folder):
            _draw(what, at / name, rng, picture)
        else:
            picture[at / name] = what.after_cut(rng)


def materialise(picture: Picture, to: Path) -> None:
    """Make the folder `to` look so."""
    shutil.rmtree(to, ignore_errors=True)
    for path, data in picture.items():
        if data is None:
            os.mkdir(to / path)
        else:
            fd = os.open(to / path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(fd, data)
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the record. `file`: number of the opened file that it is done to."""

    name: str
    path: Path
    argument: Any = None
    file: int = 0


Fault = Callable[[Operation], OSError | None]


class TornDisk:
    """`Files` over a real folder that records. `fault` may make an operation fail: a write leaves half of its bytes then, a sync nothing certain."""

    def __init__(self, root: Path, fault: Fault = lambda operation: None) -> None:
        self.root, self.fault = root, fault
        self.record: list[Operation] = []
        self._first = Disk(root)
        self._lock = threading.RLock()
        self._opened = 0

    @contextlib.contextmanager
    def doing(self, name: str, path: Path, argument: Any = None, file: int = 0) -> Iterator[None]:
        """Fail, or do and record as one step."""
        with self._lock:
            operation = Operation(name, path, argument, file)
            if (error := self.fault(operation)) is not None:
                raise error
            yield
            self.record.append(operation)

    def open_number(self) -> int:
        self._opened += 1
        return self._opened

    def create(self, path: Path) -> "TornFile":
        with self._lock:
            number = self.open_number()
            with self.doing("create", path, file=number):
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            return TornFile(self, path, fd, number)

    def open(self, path: Path) -> "TornFile":
        with self._lock:
            number = self.open_number()
            with self.doing("open", path, file=number):
                fd = os.open(path, os.O_WRONLY | os.O_APPEND)
            return TornFile(self, path, fd, number)

    def rename(self, path: Path, to: Path) -> None:
        with self.doing("rename", path, to):
            os.rename(path, to)

    def unlink(self, path: Path) -> None:
        with self.doing("unlink", path):
            os.unlink(path)

    def make_folder(self, path: Path) -> None:
        with self.doing("make_folder", path):
            os.mkdir(path)

    def remove_tree(self, path: Path) -> None:
        if path.exists():
            with self.doing("remove_tree", path):
                shutil.rmtree(path)

    def sync_folder(self, path: Path) -> None:
        with self.doing("sync_folder", path):
            assert path.is_dir()

    def cuts(self) -> Iterator[tuple[int, Disk]]:
        """After each operation: how many were done, and the disk then."""
        disk = self._first
        files: dict[int, Inode] = {}
        yield 0, disk
        for count, operation in enumerate(self.record, 1):
            if operation.name == "create":
                files[operation.file] = Inode()
            elif operation.name == "open" and operation.file:
                files[operation.file] = disk.inode(operation.path)
            disk.play(operation.name, operation.path, operation.argument, files.get(operation.file))
            yield count, disk


class TornFile:
    """A file of it."""

    def __init__(self, disk: TornDisk, path: Path, fd: int, number: int) -> None:
        self._disk, self._path, self._fd, self._number = disk, path, fd, number

    def write(self, data: bytes) -> None:
        try:
            with self._disk.doing("write", self._path, data, self._number):
                os.write(self._fd, data)
        except OSError:
            half = data[: len(data) // 2]
            os.write(self._fd, half)
            self._disk.record.append(Operation("write", self._path, half, self._number))
            raise

    def truncate(self, size: int) -> None:
        with self._disk.doing("truncate", self._path, size, self._number):
            os.ftruncate(self._fd, size)

    def sync(self) -> None:
        with self._disk.doing("sync", self._path, file=self._number):
            pass

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
