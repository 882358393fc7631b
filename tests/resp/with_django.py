"""Django's cache and sessions on a Redis server: `python -m tests.resp.with_django PORT`. What came out, as JSON."""

import json
import sys

import django
from django.conf import settings


def main(port: str) -> None:
    location = f"redis://127.0.0.1:{port}"
    settings.configure(
        CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": location}},
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
    )
    django.setup()
    from django.contrib.sessions.backends.cache import SessionStore
    from django.core.cache import cache

    cache.clear()
    found = {
        "set": cache.set("a", {"x": 1}, 30) or cache.get("a"),
        "add": [cache.add("a", 2), cache.add("b", 2)],
        "incr": [cache.incr("b"), cache.decr("b", 5)],
        "get_or_set": cache.get_or_set("c", lambda: "made", 10),
        "many": [cache.set_many({"p": 1, "q": [2]}), cache.get_many(["p", "q", "r"])],
        "touch": [cache.touch("a", 100), cache.touch("nothing", 100)],
        "expired": [cache.set("e", 1, 0), cache.get("e")],
        "version": [cache.set("v", 1, version=1), cache.incr_version("v"), cache.get("v", version=2)],
        "delete": [cache.delete("a"), cache.delete("a"), cache.delete_many(["p", "q"]), cache.get("p", "none")],
    }
    session = SessionStore()
    session["user"] = "someone"
    session.save()
    found["session"] = SessionStore(session.session_key)["user"]
    cache.clear()
    found["cleared"] = cache.get("b")
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
