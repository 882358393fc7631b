"""The model's handlers, one per row of the command table."""

from decimal import Decimal, localcontext
from math import isfinite
from typing import Any

from tests.engine.model import (
    I64,
    MAX_VALUE_BYTES,
    NOT_INT,
    SYNTAX,
    Entry,
    Model,
    command,
    error,
    glob_regex,
    integer,
    number,
)


def invalid_expire(name: str) -> Exception:
    return error(f"invalid expire time in '{name}' command")


def deadline_of(model: Model, value: int, factor: int, relative: bool, name: str) -> int:
    deadline = value * factor + (model.now if relative else 0)
    if value * factor not in I64 or deadline not in I64:
        raise invalid_expire(name)
    return deadline


Lifetime = tuple[bytes, bytes]
"""An option of SET or GETEX and its number."""
LIFETIMES = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}


def lifetime(model: Model, option: bytes, value: bytes, name: str) -> int:
    """Deadline of one of the four lifetime options."""
    factor, relative = LIFETIMES[option]
    amount = integer(value)
    if amount <= 0:
        raise invalid_expire(name)
    return deadline_of(model, amount, factor, relative, name)


# ---------------------------------------------------------------- reading


@command("GET", 2)
def get(model: Model, args: list[bytes]) -> Any:
    entry = model.get(args[1])
    return entry.value if entry else None


@command("GETSTAMP", 2)
def getstamp(model: Model, args: list[bytes]) -> Any:
    entry = model.get(args[1])
    return [entry.value, entry.stamp] if entry else None


@command("MGET", -2)
def mget(model: Model, args: list[bytes]) -> Any:
    return [get(model, [b"GET", key]) for key in args[1:]]


@command("STRLEN", 2)
def strlen(model: Model, args: list[bytes]) -> Any:
    return len(get(model, args) or b"")


@command("GETRANGE", 4)
def getrange(model: Model, args: list[bytes]) -> Any:
    start, end = integer(args[2]), integer(args[3])
    value = get(model, args) or b""
    if start < 0 and end < 0 and start > end:
        return b""
    start = max(0, len(value) + start) if start < 0 else start
    end = max(0, len(value) + end) if end < 0 else end
    return value[start : end + 1]


@command("EXISTS", -2)
@command("TOUCH", -2)
def exists(model: Model, args: list[bytes]) -> Any:
    return sum(model.get(key) is not None for key in args[1:])


@command("TYPE", 2)
def type_(model: Model, args: list[bytes]) -> Any:
    return "string" if model.get(args[1]) else "none"


def time_left(model: Model, key: bytes, divisor: int, relative: bool) -> int:
    entry = model.get(key)
    if entry is None:
        return -2
    if not entry.deadline:
        return -1
    left = entry.deadline - (model.now if relative else 0)
    return (left + divisor // 2) // divisor


@command("TTL", 2)
def ttl(model: Model, args: list[bytes]) -> Any:
    return time_left(model, args[1], 1000, True)


@command("PTTL", 2)
def pttl(model: Model, args: list[bytes]) -> Any:
    return time_left(model, args[1], 1, True)


@command("EXPIRETIME", 2)
def expiretime(model: Model, args: list[bytes]) -> Any:
    return time_left(model, args[1], 1000, False)


@command("PEXPIRETIME", 2)
def pexpiretime(model: Model, args: list[bytes]) -> Any:
    return time_left(model, args[1], 1, False)


# ---------------------------------------------------------------- writing


def lifetime_options(options: list[bytes], option: bytes, chosen: Lifetime | None, word: bytes) -> Lifetime:
    """With one option more, whose number is taken from `options`. One may be repeated, not contradicted."""
    if option == word:
        if chosen and chosen[0] != word:
            raise error(SYNTAX)
        return (word, b"")
    if option not in LIFETIMES or not options or (chosen and chosen[0] != option):
        raise error(SYNTAX)
    return (option, options.pop(0))


@command("SET", -3)
def set_(model: Model, args: list[bytes]) -> Any:
    key, value = args[1], args[2]
    condition, chosen, wants_old = None, None, False
    options = args[3:]
    while options:
        option = options.pop(0).upper()
        if option in (b"NX", b"XX", b"IFSTAMP"):
            stamp = 0
            if option == b"IFSTAMP":
                wrong = "a stamp is an integer that GETSTAMP returned, or 0 for no key"
                stamp = integer(options.pop(0) if options else b"", wrong)
                if stamp < 0:
                    raise error(wrong)
            if condition not in (None, (option, stamp)):
                raise error(SYNTAX)
            condition = (option, stamp)
        elif option == b"GET":
            wants_old = True
        else:
            chosen = lifetime_options(options, option, chosen, b"KEEPTTL")
    deadline = lifetime(model, *chosen, "set") if chosen and chosen[0] in LIFETIMES else 0
    entry = model.get(key)
    match condition:
        case None:
            met = True
        case (b"NX", _) | (b"IFSTAMP", 0):
            met = entry is None
        case (b"XX", _):
            met = entry is not None
        case (_, stamp):
            met = entry is not None and entry.stamp == stamp
    if met:
        if chosen and chosen[0] == b"KEEPTTL":
            model.replace(key, value)
        else:
            model.put(key, value, deadline)
    if wants_old:
        return entry.value if entry else None
    return "OK" if met else None


@command("SETNX", 3)
def setnx(model: Model, args: list[bytes]) -> Any:
    return int(set_(model, [*args, b"NX"]) is not None)


def set_with_ttl(model: Model, args: list[bytes], factor: int, name: str) -> str:
    ttl_value = integer(args[2])
    if ttl_value <= 0:
        raise invalid_expire(name)
    model.put(args[1], args[3], deadline_of(model, ttl_value, factor, True, name))
    return "OK"


@command("SETEX", 4)
def setex(model: Model, args: list[bytes]) -> Any:
    return set_with_ttl(model, args, 1000, "setex")


@command("PSETEX", 4)
def psetex(model: Model, args: list[bytes]) -> Any:
    return set_with_ttl(model, args, 1, "psetex")


@command("GETSET", 3)
def getset(model: Model, args: list[bytes]) -> Any:
    return set_(model, [*args, b"GET"])


@command("GETDEL", 2)
def getdel(model: Model, args: list[bytes]) -> Any:
    old = get(model, args)
    model.remove(args[1])
    return old


@command("GETEX", -2)
def getex(model: Model, args: list[bytes]) -> Any:
    options, chosen = args[2:], None
    while options:
        chosen = lifetime_options(options, options.pop(0).upper(), chosen, b"PERSIST")
    entry = model.get(args[1])
    if entry is None:
        return None
    if chosen:
        deadline = 0 if chosen[0] == b"PERSIST" else lifetime(model, *chosen, "getex")
        model.set_deadline(args[1], entry, deadline)
    return entry.value


def pairs(args: list[bytes], name: str) -> list[tuple[bytes, bytes]]:
    if len(args) % 2 == 0:
        raise error(f"wrong number of arguments for '{name}' command")
    return list(zip(args[1::2], args[2::2], strict=True))


def put_all(model: Model, mapping: list[tuple[bytes, bytes]]) -> None:
    """All or nothing."""
    before, stamp = dict(model.entries), model.last_stamp
    try:
        for key, value in mapping:
            model.put(key, value)
    except Exception:
        model.entries, model.last_stamp = before, stamp
        raise


@command("MSET", -3)
def mset(model: Model, args: list[bytes]) -> Any:
    put_all(model, pairs(args, "mset"))
    return "OK"


@command("MSETNX", -3)
def msetnx(model: Model, args: list[bytes]) -> Any:
    mapping = pairs(args, "msetnx")
    if any(model.get(key) for key, _ in mapping):
        return 0
    put_all(model, mapping)
    return 1


@command("DEL", -2)
@command("UNLINK", -2)
def delete(model: Model, args: list[bytes]) -> Any:
    return sum(model.remove(key) for key in args[1:])


def add(model: Model, key: bytes, by: int) -> int:
    entry = model.get(key)
    new = (integer(entry.value) if entry else 0) + by
    if new not in I64:
        raise error("increment or decrement would overflow")
    model.replace(key, str(new).encode())
    return new


@command("INCR", 2)
def incr(model: Model, args: list[bytes]) -> Any:
    return add(model, args[1], 1)


@command("DECR", 2)
def decr(model: Model, args: list[bytes]) -> Any:
    return add(model, args[1], -1)


@command("INCRBY", 3)
def incrby(model: Model, args: list[bytes]) -> Any:
    return add(model, args[1], integer(args[2]))


@command("DECRBY", 3)
def decrby(model: Model, args: list[bytes]) -> Any:
    by = integer(args[2])
    if -by not in I64:
        raise error("decrement would overflow")
    return add(model, args[1], -by)


@command("INCRBYFLOAT", 3)
def incrbyfloat(model: Model, args: list[bytes]) -> Any:
    """The exact sum, rounded to 17 decimals. (The generators' numbers are all of a usual size.)"""
    entry = model.get(args[1])
    parts = [entry.value if entry else b"0", args[2]]
    if not all(isfinite(number(part)) for part in parts):
        raise error("increment would produce NaN or Infinity")
    with localcontext(prec=60):
        total = sum(Decimal(part.decode()) for part in parts).quantize(Decimal("1e-17")).normalize() + 0
    text = format(total, "f").encode()
    model.replace(args[1], text)
    return text


@command("APPEND", 3)
def append(model: Model, args: list[bytes]) -> Any:
    value = (get(model, args) or b"") + args[2]
    model.replace(args[1], value)
    return len(value)


@command("SETRANGE", 4)
def setrange(model: Model, args: list[bytes]) -> Any:
    start = integer(args[2])
    if start < 0:
        raise error("offset is out of range")
    old, patch = get(model, args) or b"", args[3]
    if not patch:
        return len(old)
    if start + len(patch) > MAX_VALUE_BYTES:
        raise error("string exceeds maximum allowed size")
    value = old[:start].ljust(start, b"\0") + patch + old[start + len(patch) :]
    model.replace(args[1], value)
    return len(value)


# ---------------------------------------------------------------- deadlines


def expire_with(model: Model, args: list[bytes], factor: int, relative: bool, name: str) -> int:
    options = {option.upper() for option in args[3:]}
    if options - {b"NX", b"XX", b"GT", b"LT"}:
        raise error("Unsupported option")
    if b"NX" in options and len(options) > 1:
        raise error("NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= options:
        raise error("GT and LT options at the same time are not compatible")
    deadline = deadline_of(model, integer(args[2], NOT_INT), factor, relative, name)
    entry = model.get(args[1])
    if entry is None:
        return 0
    old = entry.deadline
    refused = (
        (b"NX" in options and old)
        or (b"XX" in options and not old)
        or (b"GT" in options and (not old or deadline <= old))
        or (b"LT" in options and old and deadline >= old)
    )
    if refused:
        return 0
    if deadline <= model.now:
        model.remove(args[1])
    else:
        model.set_deadline(args[1], entry, deadline)
    return 1


@command("EXPIRE", -3)
def expire(model: Model, args: list[bytes]) -> Any:
    return expire_with(model, args, 1000, True, "expire")


@command("PEXPIRE", -3)
def pexpire(model: Model, args: list[bytes]) -> Any:
    return expire_with(model, args, 1, True, "pexpire")


@command("EXPIREAT", -3)
def expireat(model: Model, args: list[bytes]) -> Any:
    return expire_with(model, args, 1000, False, "expireat")


@command("PEXPIREAT", -3)
def pexpireat(model: Model, args: list[bytes]) -> Any:
    return expire_with(model, args, 1, False, "pexpireat")


@command("PERSIST", 2)
def persist(model: Model, args: list[bytes]) -> Any:
    entry = model.get(args[1])
    if entry is None or not entry.deadline:
        return 0
    model.set_deadline(args[1], entry, 0)
    return 1


# ---------------------------------------------------------------- names


def moved(model: Model, args: list[bytes]) -> Entry:
    entry = model.get(args[1])
    if entry is None:
        raise error("no such key")
    return entry


@command("RENAME", 3)
def rename(model: Model, args: list[bytes]) -> Any:
    entry = moved(model, args)
    if args[1] != args[2]:
        model.put(args[2], entry.value, entry.deadline)
        model.remove(args[1])
    return "OK"


@command("RENAMENX", 3)
def renamenx(model: Model, args: list[bytes]) -> Any:
    moved(model, args)
    if model.get(args[2]):
        return 0
    rename(model, args)
    return 1


@command("COPY", -3)
def copy(model: Model, args: list[bytes]) -> Any:
    options = [option.upper() for option in args[3:]]
    if any(option != b"REPLACE" for option in options):
        raise error(SYNTAX)
    if args[1] == args[2]:
        raise error("source and destination objects are the same")
    entry = model.get(args[1])
    if entry is None or (model.get(args[2]) and not options):
        return 0
    model.put(args[2], entry.value, entry.deadline)
    return 1


# ---------------------------------------------------------------- all keys, and the server


@command("DBSIZE", 1)
def dbsize(model: Model, args: list[bytes]) -> Any:
    return len(model.live())


@command("KEYS", 2)
def keys(model: Model, args: list[bytes]) -> Any:
    """In no order: sorted here."""
    matches = glob_regex(args[1]).fullmatch
    return sorted(key for key in model.live() if matches(key))


@command("SCAN", -2)
def scan(model: Model, args: list[bytes]) -> Any:
    """Everything in one step, where the engine may take many."""
    pattern = args[args.index(b"MATCH") + 1] if b"MATCH" in args else b"*"
    kind = args[args.index(b"TYPE") + 1] if b"TYPE" in args else b"string"
    return [b"0", keys(model, [b"KEYS", pattern]) if kind == b"string" else []]


@command("RANDOMKEY", 1)
def randomkey(model: Model, args: list[bytes]) -> Any:
    """One of them, any; None if there are none."""
    return next(iter(model.live()), None)


@command("FLUSHALL", -1)
@command("FLUSHDB", -1)
def flush(model: Model, args: list[bytes]) -> Any:
    if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"ASYNC", b"SYNC")):
        raise error(SYNTAX)
    model.entries.clear()
    return "OK"


@command("PING", -1)
def ping(model: Model, args: list[bytes]) -> Any:
    if len(args) > 2:
        raise error("wrong number of arguments")
    return args[1] if len(args) == 2 else "PONG"


@command("ECHO", 2)
def echo(model: Model, args: list[bytes]) -> Any:
    return args[1]


@command("TIME", 1)
def time_(model: Model, args: list[bytes]) -> Any:
    return [b"%d" % (model.now // 1000), b"%d" % (model.now % 1000 * 1000)]


@command("INFO", -1)
def info(model: Model, args: list[bytes]) -> Any:
    return b"keys:%d\r\n" % len(model.live())
