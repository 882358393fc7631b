"""Collections of all kinds and both forms, put in and read back by any client."""

from typing import Any

LATER = 4_102_444_800_000
"""A deadline far away, unix ms."""


def pairs(flat: Any) -> list[tuple[Any, Any]]:
    if isinstance(flat, dict):
        return list(flat.items())
    return [tuple(pair) for pair in flat] if flat and isinstance(flat[0], tuple | list) else list(zip(flat[::2], flat[1::2], strict=True))


def collections(client: Any, keys: list[bytes] | None = None) -> dict[bytes, tuple[str, Any]]:
    """Keys (None: all) that are no strings, and what they hold; of our client or redis-py's."""
    found: dict[bytes, tuple[str, Any]] = {}
    for key in client.keys() if keys is None else keys:
        kind = client.type(key)
        ask = client.execute_command
        match kind if isinstance(kind, str) else kind.decode():
            case "hash":
                found[key] = ("hash", dict(pairs(ask("HGETALL", key))))
            case "list":
                found[key] = ("list", ask("LRANGE", key, 0, -1))
            case "set":
                found[key] = ("set", set(ask("SMEMBERS", key)))
            case "zset":
                found[key] = ("zset", [(member, float(score)) for member, score in pairs(ask("ZRANGE", key, 0, -1, "WITHSCORES"))])
    return found


def fill_collections(client: Any) -> None:
    """Small and large ones of each kind; by our client or redis-py's."""
    for name, size in (("small", 5), ("large", 2_500)):
        client.execute_command("HSET", f"hash-{name}", *(word for n in range(size) for word in (f"field{n}", f"value{n}")))
        client.execute_command("RPUSH", f"list-{name}", *range(size))
        client.execute_command("SADD", f"set-{name}", *(f"member{n}" for n in range(size)), b"\xff")
        client.execute_command("ZADD", f"zset-{name}", *(word for n in range(size) for word in (n / 4, f"member{n}")))
    client.execute_command("PEXPIREAT", "list-large", LATER)
