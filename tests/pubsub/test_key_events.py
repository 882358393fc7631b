"""Key events and invalidations: made of the write log, off unless asked for."""

import shmcache
from shmcache._engine import LogRecord
from shmcache.server.pubsub.keyevents import events_of
from tests.support.instance import running_instance, wait_until

from .conftest import messages, nothing
from .test_failures import hub_stats


def record(kind: str, key: bytes = b"k", event: str = "", expiry_ms: int = 0) -> LogRecord:
    return LogRecord(1, 1, 0, 0, kind, key, None, expiry_ms, False, "string", event)


def test_letters() -> None:
    """The letters choose form (K, E, I) and class ($ g x e, A is all of these)."""
    assert events_of(record("set"), "KE$") == [(b"__keyspace@0__:k", b"set"), (b"__keyevent@0__:set", b"k")]
    assert events_of(record("set"), "KEgxe") == []
    assert events_of(record("set"), "A") == []
    assert events_of(record("delete"), "EA") == [(b"__keyevent@0__:del", b"k")]
    assert events_of(record("expired"), "Kx") == [(b"__keyspace@0__:k", b"expired")]
    assert events_of(record("evicted"), "Ee") == [(b"__keyevent@0__:evicted", b"k")]
    assert events_of(record("expire_at"), "Ig") == []
    assert events_of(record("set_ref"), "I") == [(b"__invalidate__", b"k")]
    assert events_of(record("flush", b""), "KEIA") == [
        (b"__keyevent@0__:flush", b""),
        (b"__invalidate__", b""),
    ]
    assert events_of(record("set", b"a\0b"), "KA") == []
    assert events_of(record("a kind of later"), "KEIA") == []


def test_names_of_commands() -> None:
    """A change is called what its command is; taking the last element deletes the key too."""
    names = lambda *args: [payload for _, payload in events_of(record(*args), "KA")]  # noqa: E731
    assert names("set", b"k", "hset") == [b"hset"]
    assert names("set", b"k", "rename") == [b"rename_to"]
    assert names("delete", b"k", "rename") == [b"rename_from"]
    assert names("delete", b"k", "lpop") == [b"lpop", b"del"]
    assert names("delete", b"k", "sinterstore") == [b"del"]
    assert names("set", b"k", "set", 99) == [b"set", b"expire"]
    assert names("set", b"\xffP\0\xff" + bytes(20)) == []
    assert events_of(record("set", b"k", "zadd"), "Kh") == []


def test_events_of_a_running_instance() -> None:
    """Writes, expiry, deletion and flush come as Redis names them, in the order of the log."""
    with running_instance(channels=True, notify="KEIA", workers=2) as instance:
        with shmcache.connect(instance.url) as client, client.pubsub(True) as subscriber:
            subscriber.psubscribe("__key*__:*")
            subscriber.subscribe("__invalidate__")
            # The hub opens the logs a moment after the instance is ready.
            wait_until(lambda: client.set("warm", "up") and subscriber.get_message(timeout=0.1) is not None)
            while not nothing(subscriber):
                pass
            client.set("{t}a", "1", ex=50)
            client.expire("{t}a", 100)
            client.delete("{t}a")
            found = [(m["channel"], m["data"]) for m in messages(subscriber, 10)]
            space, key = b"__keyspace@0__:{t}a", b"{t}a"
            assert found == [
                *((space, b"set"), (b"__keyevent@0__:set", key)),
                *((space, b"expire"), (b"__keyevent@0__:expire", key), (b"__invalidate__", key)),
                *((space, b"expire"), (b"__keyevent@0__:expire", key)),
                *((space, b"del"), (b"__keyevent@0__:del", key), (b"__invalidate__", key)),
            ]
            client.set("{t}b", "1", px=30)
            found = [(m["channel"], m["data"]) for m in messages(subscriber, 8)]
            assert (b"__keyevent@0__:expired", b"{t}b") in found
            client.flushall()
            assert (b"__invalidate__", b"") in [(m["channel"], m["data"]) for m in messages(subscriber, 2)]


def test_no_events_unless_asked_for() -> None:
    """The default publishes nothing about keys."""
    with running_instance(channels=True) as instance, shmcache.connect(instance.url) as client:
        with client.pubsub(True) as subscriber:
            subscriber.psubscribe("__key*", "__inv*")
            client.set("a", "1")
            assert nothing(subscriber, 0.3)
        assert hub_stats(instance)["published"] == 0
