"""`shmcache publish`, `subscribe` and the hub in `stats`."""

import json
import subprocess
import sys

from tests.support.instance import running_instance

from .test_commands import shmcache


def test_publish_subscribe_and_stats():
    """Replayed and live messages one a line; the hub's figures in stats."""
    with running_instance(channels=True, channel_replay_messages=10) as instance:
        for url in (instance.url, instance.tcp):
            assert shmcache("publish", "news", "earlier", url=url).stdout == b"0\n"
            words = ["subscribe", "news", "--replay", "1", "--count", "2", "--url", url]
            with subprocess.Popen(
                [sys.executable, "-m", "shmcache.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process:
                assert process.stderr is not None
                assert process.stderr.readline() == b"# subscribed to 1\n"
                assert shmcache("publish", "news", "-", url=url, stdin=b"now").stdout == b"1\n"
                assert process.stdout is not None
                first, second = process.stdout.read().splitlines()
                assert process.wait(10) == 0
            assert first.endswith(b'"earlier"')
            assert second.endswith(b'"now"')
            hub = json.loads(shmcache("stats", "--json", url=url).stdout)["hub"]
            assert hub["by_channel"][0]["channel"] == "news"
            assert hub["published"] >= 2
        assert b"news" in shmcache("stats", url=instance.url).stdout
        refused = shmcache("publish", "__shmcache__:events", "x", url=instance.url)
        assert refused.returncode == 1
        assert refused.stderr.count(b"\n") == 1
