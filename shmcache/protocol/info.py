"""INFO text: `# Section` lines and `field:value` lines; merged over shards, parsed into a dict. No I/O."""

from collections.abc import Sequence
from typing import Any


def _text(data: bytes | str) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data


def _number(value: str) -> int | float | None:
    try:
        return float(value) if "." in value or "e" in value else int(value)
    except ValueError:
        return None


_SAME_FIELDS = frozenset({"shard", "shards", "pid", "process_id", "port"})
_SAME_ENDINGS = ("_version", "_policy", "_epoch", "_ratio", "_in_seconds")
"""Numbers that are no counters: the first shard's stands for all."""


def _is_counter(field: str) -> bool:
    return field not in _SAME_FIELDS and not field.endswith(_SAME_ENDINGS)


def _merge_field(field: str, values: Sequence[str]) -> str:
    if field.startswith("db") and all("=" in value for value in values):
        return _merge_keyspace(values)
    numbers = [_number(value) for value in values]
    if None in numbers or not _is_counter(field):
        return values[0]
    return str(sum(number for number in numbers if number is not None))


def _merge_keyspace(values: Sequence[str]) -> str:
    """`keys=1,expires=0,avg_ttl=0` of every shard: sums, but the average is the first one's."""
    rows = [dict(pair.partition("=")[::2] for pair in value.split(",")) for value in values]
    return ",".join(
        f"{name}={rows[0][name] if name == 'avg_ttl' else sum(int(row.get(name, 0)) for row in rows)}"
        for name in rows[0]
    )


def merge_info(texts: Sequence[bytes | str]) -> bytes:
    """One text for an instance: counters are summed, everything else is the first shard's."""
    lines = [_text(text).splitlines() for text in texts]
    values: dict[str, list[str]] = {}
    for shard in lines:
        for line in shard:
            field, colon, value = line.partition(":")
            if colon and not line.startswith("#"):
                values.setdefault(field, []).append(value)
    merged = []
    for line in lines[0] if lines else []:
        field, colon, _ = line.partition(":")
        merged.append(f"{field}:{_merge_field(field, values[field])}" if colon and line[0] != "#" else line)
    return "\r\n".join(merged).encode()


def parse_info(text: bytes | str) -> dict[str, Any]:
    """As redis-py: numbers as int or float, `a=1,b=2` as a dict, the rest as str."""
    found: dict[str, Any] = {}
    for line in _text(text).splitlines():
        field, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            found[field] = _parse_value(value)
    return found


def _parse_value(value: str) -> Any:
    if "=" in value:
        pairs = [part.partition("=") for part in value.split(",")]
        return {name: _parse_value(inner) for name, _, inner in pairs}
    number = _number(value)
    return value if number is None else number
