"""The programs of the torture test: an owner that writes values which describe themselves, and their readers.

value = checksum (4 bytes) | version (8) | length of all (8) | key, zero byte, filler made from the version
"""

import os
import random
import struct
import time
import zlib
from multiprocessing.synchronize import Event

from shmcache import _engine
from tests.engine.regions import Regions, execute

KEYS = [b"torture:%d" % number for number in range(400)]
HEAD = struct.Struct("<IQQ")
SIZES = (0, 10, 60, 200, 900, 3000, 9000, 40_000, 100_000)
WEIGHTS = (20, 30, 30, 20, 10, 6, 4, 2, 1)


class Torn(AssertionError):
    """A value that nobody wrote."""


def value_of(key: bytes, version: int, size: int) -> bytes:
    filler = struct.pack("<Q", version) * (size // 8 + 1)
    rest = struct.pack("<QQ", version, HEAD.size + len(key) + 1 + size) + key + b"\0" + filler[:size]
    return struct.pack("<I", zlib.crc32(rest)) + rest


def check(key: bytes, value: bytes) -> int:
    """The version of a whole value of this key; raises `Torn`."""
    if len(value) < HEAD.size:
        raise Torn(f"{key!r} has {len(value)} bytes")
    checksum, version, length = HEAD.unpack_from(value)
    if length != len(value) or zlib.crc32(value[4:]) != checksum:
        raise Torn(f"{key!r} is torn: version {version}, length {length} of {len(value)}")
    if value[HEAD.size :].split(b"\0", 1)[0] != key:
        raise Torn(f"{key!r} has another key's value")
    return int(version)


def own(regions: Regions, stop: Event, seed: int, fail_point: tuple[str, int] | None, fresh: bool) -> None:
    """Overwrite, grow, delete, expire, flush until told to stop, or until the armed fail point kills."""
    chance = random.Random(seed)
    owner = regions.create(24 << 20, policy="allkeys-lru") if fresh else regions.attach()
    owner.verify()
    if fail_point:
        _engine.arm_fail_point(*fail_point)
    version = time.time_ns()
    while not stop.is_set():
        for _ in range(200):
            version += 1
            key = chance.choice(KEYS)
            size = chance.choices(SIZES, WEIGHTS)[0] + chance.randrange(8)
            dice = chance.random()
            if dice < 0.80:
                owner.command("SET", key, value_of(key, version, size))
            elif dice < 0.88:
                owner.command("DEL", key)
            elif dice < 0.93:
                owner.command("SET", key, value_of(key, version, size), "PX", chance.randrange(1, 30))
            elif dice < 0.95:
                owner.command("PEXPIRE", key, chance.randrange(1, 60_000))
            elif dice < 0.98:
                some = chance.sample(KEYS, 3)
                commands = [(b"SET", name, value_of(name, version, size % 1000)) for name in some]
                execute(owner, commands, _engine.FLAG_TRANSACTION)
            elif dice < 0.9995:
                # Keys that nobody reads: the index grows, and others must make room.
                owner.command("SET", b"other:%d" % version, b"o" * size)
            else:
                owner.command("FLUSHALL")
        owner.tick()
    owner.verify()
    owner.close()


def read(regions: Regions, stop: Event, seed: int, counts: list[int], place: int) -> None:
    """Read until told to stop; counts[place] is the number of reads, counts[place + 1] of the busy ones."""
    chance = random.Random(seed)
    reader = regions.reader()
    seen = busy = 0
    while not stop.is_set():
        for _ in range(50):
            some = chance.sample(KEYS, 40)
            try:
                for key, value in zip(some, reader.mget(some), strict=True):
                    if value is not None:
                        check(key, value)
                seen += len(some)
                key = some[0]
                if (stamped := reader.get_stamped(key)) is not None:
                    check(key, stamped[0])
                for key in some[1:20]:
                    if (value := reader.get(key)) is not None:
                        check(key, value)
                seen += 20
            except _engine.Busy:
                busy += 1
        try:
            for key in reader.scan(0, chance.randrange(1 << 12), b"torture:*", 50, None)[1]:
                if key not in KEYS:
                    raise Torn(f"{key!r} is no key")
        except _engine.Busy:
            busy += 1
        counts[place], counts[place + 1] = seen, busy
    os._exit(0)
