"""The stream of an export: a header, one record for each key, an end; as JSON lines or msgpack, plain or in zstd. docs/persistence.md tells it in prose.

What a stream is encoded in is found in its first bytes when it is read.
"""

import base64
import binascii
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, NamedTuple

import msgpack
import zstandard

from shmcache.errors import ShmcacheError
from shmcache.limits import MOVED_RECORD_BYTES_MAX

from .elements import COLLECTIONS

VERSION: Final = 1
_MARK: Final = "shmcache_export"
_ZSTD: Final = b"\x28"
_RDB: Final = b"R"
"""First bytes of what they begin with: neither JSON nor a map of msgpack begins so, and a pipe may have no more than one yet."""
_READ_BYTES: Final = 1 << 18
_WINDOW_BYTES_MAX: Final = 1 << 27
_LEVEL: Final = 3


class BadStream(ShmcacheError):
    """Not a stream of records; names the line."""

    def __init__(self, name: str, line: int, what: str) -> None:
        super().__init__(f"{name}, line {line}: {what}")
        self.name, self.line, self.what = name, line, what


class Record(NamedTuple):
    """One key, or a page of one. `expires_ms`: unix ms, 0: never. `value`: bytes of a `string`; of a collection a page of elements (elements.py); None or
    anything else of a type that nobody here knows.
    """

    key: bytes
    type: str
    value: Any
    expires_ms: int
    append: bool = False
    """These elements follow those of the record before, which is of the same key."""


class StreamWriter:
    """Writes one stream. Errors are OSError."""

    def __init__(self, file: BinaryIO, encoding: str, *, compressed: bool, about: dict[str, Any]) -> None:
        """`encoding`: json or msgpack. `about` goes into the header."""
        self._frame = zstandard.ZstdCompressor(level=_LEVEL).stream_writer(file, closefd=False) if compressed else None
        self._out: Any = self._frame or file
        self._is_json, self.records, self.keys = encoding == "json", 0, 0
        self._put({_MARK: VERSION, **about})

    def _put(self, item: dict[str, Any]) -> None:
        if self._is_json:
            # Text as it is, not escaped: shorter, and what people search for.
            self._out.write(json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        else:
            self._out.write(msgpack.packb(item))

    def write(self, record: Record) -> None:
        """One key, or one more page of its elements."""
        item: dict[str, Any] = {}
        self._put_bytes(item, "key", record.key)
        item["type"] = record.type
        if record.type in COLLECTIONS:
            item["value"] = _texts(record.value) if self._is_json else record.value
        else:
            self._put_bytes(item, "value", record.value)
        if record.append:
            item["append"] = True
        if record.expires_ms:
            item["expires_ms"] = record.expires_ms
        self._put(item)
        self.records += 1
        self.keys += not record.append

    def _put_bytes(self, item: dict[str, Any], name: str, data: bytes) -> None:
        if not self._is_json:
            item[name] = data
            return
        try:
            item[name] = data.decode()
        except UnicodeDecodeError:
            item[f"{name}_b64"] = base64.b64encode(data).decode()

    def end(self) -> None:
        """By which a reader knows that nothing is missing."""
        self._put({"end": True, "records": self.records})
        if self._frame is not None:
            self._frame.flush(zstandard.FLUSH_FRAME)


def is_rdb(file: io.BufferedReader) -> bool:
    """Whether it begins as a dump file of Redis does."""
    return file.peek(1)[:1] == _RDB


def read_stream(file: io.BufferedReader, name: str) -> Iterator[tuple[int, Record]]:
    """Numbers (of lines, from 1) and records. Raises BadStream, also when the stream has a header, but no end."""
    first = file.peek(1)[:1]
    if first == _ZSTD:
        source: Any = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX).stream_reader(file, read_across_frames=True)
        file = io.BufferedReader(source, _READ_BYTES)
        try:
            first = file.peek(1)[:1]
        except zstandard.ZstdError as error:
            raise BadStream(name, 1, f"cannot be decompressed: {error}") from None
    items = _json_items(file, name) if first in (b"{", b" ", b"\n", b"\r", b"\t", b"") else _msgpack_items(file, name)
    has_header = False
    line = records = 0
    try:
        for line, item in items:
            if _MARK in item:
                has_header |= _check_header(item, name, line)
            elif item.get("end") is True:
                if item.get("records") != records:
                    raise BadStream(name, line, f"{records} records came before it, it says {item.get('records')}")
                has_header = False
                records = 0
            else:
                records += 1
                yield line, _record(item, name, line)
    except zstandard.ZstdError as error:
        raise BadStream(name, line + 1, f"cannot be decompressed: {error}") from None
    if not line:
        raise BadStream(name, 1, "there is nothing in it")
    if has_header:
        raise BadStream(name, line + 1, f"the stream breaks off after {records} records: its end record is missing")


def _check_header(item: dict[str, Any], name: str, line: int) -> bool:
    if item[_MARK] != VERSION:
        raise BadStream(name, line, f"version {item[_MARK]!r} of the stream, this release reads {VERSION}")
    return True


def _json_items(file: io.BufferedReader, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    line = 0
    while text := file.readline(MOVED_RECORD_BYTES_MAX + 1):
        line += 1
        if len(text) > MOVED_RECORD_BYTES_MAX:
            raise BadStream(name, line, f"longer than {MOVED_RECORD_BYTES_MAX} bytes")
        if not text.strip():
            continue
        try:
            item = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadStream(name, line, f"not JSON: {error}") from None
        if not isinstance(item, dict):
            raise BadStream(name, line, "not a JSON object")
        yield line, item


def _msgpack_items(file: io.BufferedReader, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    unpacker = msgpack.Unpacker(max_buffer_size=MOVED_RECORD_BYTES_MAX, raw=False)
    line = fed = ended = 0
    while data := file.read1(_READ_BYTES):
        fed += len(data)
        try:
            unpacker.feed(data)
            for item in unpacker:
                line += 1
                ended = unpacker.tell()
                if not isinstance(item, dict):
                    raise BadStream(name, line, "neither JSON lines nor msgpack: not a map")
                yield line, item
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            raise BadStream(name, line + 1, f"neither JSON lines nor msgpack: {error}") from None
    if ended != fed:
        raise BadStream(name, line + 1, "the stream breaks off within a record")


def _record(item: dict[str, Any], name: str, line: int) -> Record:
    kind, expires_ms = item.get("type", "string"), item.get("expires_ms") or 0
    if not isinstance(kind, str):
        raise BadStream(name, line, "the type is not a text")
    if type(expires_ms) is not int or not 0 <= expires_ms < 1 << 63:
        raise BadStream(name, line, "expires_ms is not a number of milliseconds since 1970")
    key = _data(item, "key", name, line)
    value = item.get("value")
    if kind == "string":
        value = _data(item, "value", name, line)
    elif kind in COLLECTIONS:
        value = _page(kind, value, name, line)
    return Record(key, kind, value, expires_ms, bool(item.get("append")))


def _texts(page: Any) -> Any:
    """Elements for JSON: texts as they are, other bytes as {"b64": ...}."""
    if isinstance(page, list):
        return [_texts(part) for part in page]
    try:
        return page.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(page).decode()}


def _page(kind: str, value: Any, name: str, line: int) -> list[Any]:
    if not isinstance(value, list):
        raise BadStream(name, line, f"the value of a {kind} is a list")
    if kind in ("list", "set"):
        return [_element(part, name, line) for part in value]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise BadStream(name, line, f"the value of a {kind} is a list of pairs")
    return [[_element(part, name, line) for part in pair] for pair in value]


def _element(part: Any, name: str, line: int) -> bytes:
    if isinstance(part, dict):
        return _data({"element_b64": part.get("b64")}, "element", name, line)
    if isinstance(part, int | float) and not isinstance(part, bool):
        return repr(part).encode()
    return _data({"element": part}, "element", name, line)


def _data(item: dict[str, Any], field: str, name: str, line: int) -> bytes:
    data = item.get(field)
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        try:
            return data.encode()
        except UnicodeEncodeError:
            raise BadStream(name, line, f"{field} is no text: give its bytes as {field}_b64") from None
    coded = item.get(f"{field}_b64")
    if not isinstance(coded, str):
        raise BadStream(name, line, f"neither {field} (a text) nor {field}_b64 (base64)")
    try:
        return base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        raise BadStream(name, line, f"{field}_b64 is not base64") from None
