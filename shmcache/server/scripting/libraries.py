"""cjson, cmsgpack, struct and bit for scripts, on top of Python's modules: the part that is written in Python. No I/O."""

import json
import re
import struct
from typing import Any, Final

import msgpack

from ...limits import SCRIPT_DEPTH_MAX, SCRIPT_MEMORY_BYTES_MAX

_BITS: Final = 0xFFFFFFFF
_ITEM: Final = re.compile(rb"([<>=!])(\d*)|([bBhHlLTfdxsiIc])(\d*)|\s+")
_INTEGERS: Final = {"b": 1, "B": 1, "h": 2, "H": 2, "l": 8, "L": 8, "T": 8}


def bit(name: bytes, first: Any, second: Any = 0, *_: Any) -> float:
    """One operation on numbers of 32 bits; the result is signed."""
    a, b = (int(value) & _BITS if value == value and abs(value) < 2**63 else 0 for value in (first, second))
    n = b & 31
    match name:
        case b"band":
            a &= b
        case b"bor":
            a |= b
        case b"bxor":
            a ^= b
        case b"bnot":
            a ^= _BITS
        case b"lshift":
            a <<= n
        case b"rshift":
            a >>= n
        case b"arshift":
            a = (a - (1 << 32) if a >> 31 else a) >> n
        case b"rol":
            a = a << n | a >> (32 - n)
        case b"ror":
            a = a >> n | a << (32 - n)
        case b"bswap":
            a = int.from_bytes(a.to_bytes(4, "little"), "big")
    a &= _BITS
    return float(a - (1 << 32) if a >> 31 else a)


def call(name: str, runtime: Any, args: list[Any]) -> Any:
    """A value for the box. Raises ValueError, TypeError and their like with what is wrong."""
    match name:
        case "json":
            return _lua_of(runtime, _parsed(args[0]), 0)
        case "pack":
            return b"".join(msgpack.packb(value, use_bin_type=False) for value in runtime.builder.take_all())
        case "unpack":
            return _lua_of(runtime, _unpacked(args[0], int(args[1]), int(args[2])), 0)
        case "clear":
            runtime.builder.clear()
            return None
        case "struct_pack":
            return _packed(args[0], args[1:])
        case "struct_unpack":
            return _lua_of(runtime, _read(args[0], args[1], int(args[2]) - 1), 0)
        case "struct_size":
            return len(_packed(args[0], None))
    raise KeyError(name)


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise ValueError(f"Expected value but found invalid token at character {error.pos + 1}") from None


def _lua_of(runtime: Any, value: Any, depth: int) -> Any:
    """A value as Lua has it."""
    if depth > SCRIPT_DEPTH_MAX * 10:
        raise ValueError("Found too many nested data structures")
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    if isinstance(value, list | tuple):
        return runtime._lua.table_from({at: _lua_of(runtime, item, depth + 1) for at, item in enumerate(value, 1)})
    if isinstance(value, dict):
        return runtime._lua.table_from({_lua_of(runtime, key, depth + 1): _lua_of(runtime, item, depth + 1) for key, item in value.items()})
    if value is None:
        return runtime.null
    if isinstance(value, bool | bytes):
        return value
    return float(value)


def _unpacked(data: bytes, offset: int, limit: int) -> list[Any]:
    """[next offset or -1, values ...]"""
    if offset < 0 or offset > len(data):
        raise ValueError(f"Start offset {offset} greater than input length {len(data)}.")
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=0)
    unpacker.feed(data[offset:])
    values: list[Any] = []
    while unpacker.tell() < len(data) - offset and (limit <= 0 or len(values) < limit):
        try:
            values.append(unpacker.unpack())
        except msgpack.OutOfData:
            raise ValueError("Missing bytes in input.") from None
        except (ValueError, TypeError):
            raise ValueError("Bad data format in input.") from None
    end = offset + unpacker.tell()
    return [-1 if end >= len(data) else end, *values]


# --- struct ---------------------------------------------------------------------------------------
def _items(form: bytes) -> list[tuple[str, int, str]]:
    """(Kind, size, byte order) of each item of a format."""
    found: list[tuple[str, int, str]] = []
    order, at = "little", 0
    while at < len(form):
        item = _ITEM.match(form, at)
        if item is None:
            raise ValueError(f"invalid format option '{form[at : at + 1].decode('latin-1')}'")
        at = item.end()
        if item[1]:
            order = {b"<": "little", b">": "big", b"=": "little"}.get(item[1], order)
        elif item[3]:
            kind = item[3].decode()
            size = int(item[4]) if item[4] else {"i": 4, "I": 4, "c": 1}.get(kind, _INTEGERS.get(kind, 0))
            if kind in "iI" and not 1 <= size <= 32:
                raise ValueError(f"integral size {size} is larger than limit of 32")
            if size > SCRIPT_MEMORY_BYTES_MAX:
                raise ValueError("format result too large")
            found.append((kind, _INTEGERS.get(kind, size), order))
    return found


def _packed(form: bytes, args: list[Any] | None) -> bytes:
    """Without `args`: zeros of that size."""
    out = []
    left = iter(args or ())
    for kind, size, order in _items(form):
        if kind == "x":
            out.append(b"\0")
            continue
        if args is None:
            if kind == "s" or (kind == "c" and not size):
                raise ValueError("variable-size format in format")
            out.append(bytes({"f": 4, "d": 8}.get(kind, size)))
            continue
        try:
            value = next(left)
        except StopIteration:
            raise ValueError("bad argument: value expected") from None
        if kind in "sc":
            data = value if isinstance(value, bytes) else b"%.14g" % value
            if kind == "c" and len(data) < size:
                raise ValueError("string too short")
            out.append(data + b"\0" if kind == "s" else data[: size or None])
        elif kind in "fd":
            out.append(struct.pack(("<" if order == "little" else ">") + kind, float(value)))
        else:
            out.append((int(float(value)) & ((1 << 8 * size) - 1)).to_bytes(size, order))  # type: ignore[arg-type]
    return b"".join(out)


def _read(form: bytes, data: bytes, at: int) -> list[Any]:
    """[position after it, values ...]"""
    found: list[Any] = []
    if at < 0:
        raise ValueError("offset must be 1 or greater")

    def take(size: int) -> bytes:
        nonlocal at
        if at + size > len(data):
            raise ValueError("data string too short")
        at += size
        return data[at - size : at]

    for kind, size, order in _items(form):
        if kind == "x":
            take(1)
        elif kind == "s":
            end = data.find(b"\0", at)
            if end < 0:
                raise ValueError("unfinished string in data")
            found.append(take(end + 1 - at)[:-1])
        elif kind == "c":
            if not size:
                if not found or not isinstance(found[-1], int):
                    raise ValueError("format 'c0' needs a previous size")
                size = found.pop()
            found.append(take(size))
        elif kind in "fd":
            found.append(struct.unpack(("<" if order == "little" else ">") + kind, take(4 if kind == "f" else 8))[0])
        else:
            found.append(int.from_bytes(take(size), order, signed=kind in "bhli"))  # type: ignore[arg-type]
    return [at + 1, *found]
