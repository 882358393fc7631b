"""How options are written: sizes, durations, moments, lists, addresses."""

import datetime
import re
from typing import Annotated, Final

from pydantic import BeforeValidator

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(value: object) -> object:
    """Bytes of "4GB", "512 MiB", "65536" (powers of 1024, as in Redis). What is not text is left to the type
    check.
    """
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("expected a size such as 512MB or 4GB")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def format_size(size_bytes: float) -> str:
    """ "4.0 GB" for people; the unit is a power of 1024."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if abs(size_bytes) < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TB"


def parse_list(value: object) -> object:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_DURATION_MS: Final = {None: 1, "ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_duration(value: object) -> object:
    """Milliseconds of "300s", "5m", "1h", "250" (ms). What is not text is left to the type check."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError("expected a duration such as 300s, 5m or 1h")
    return int(float(match[1]) * _DURATION_MS[match[2]])


def parse_time(value: object) -> object:
    """Unix milliseconds of "2026-11-24T18:00:00Z" (without a zone: UTC) or of a number of seconds. What is not text is left to the type check."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return 0
    try:
        return int(float(value) * 1000)
    except ValueError:
        pass
    try:
        found = datetime.datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("expected a time such as 2026-11-24T18:00:00Z, or unix seconds") from None
    return int((found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


Duration = Annotated[int, BeforeValidator(parse_duration)]
Moment = Annotated[int, BeforeValidator(parse_time)]
Size = Annotated[int, BeforeValidator(parse_size)]
TextList = Annotated[tuple[str, ...], BeforeValidator(parse_list)]


NOTIFY_LETTERS: Final = "KEg$lshzxetdmnAI"


def is_tcp(endpoint: str) -> bool:
    """Whether it is tcp://HOST:PORT."""
    match = re.fullmatch(r"tcp://(?:\[[0-9a-fA-F:]+\]|[^:/\s]+):(\d{1,5})", endpoint)
    return match is not None and int(match[1]) <= 65535 and len(endpoint) <= 120
