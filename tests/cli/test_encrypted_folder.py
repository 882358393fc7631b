"""Commands on a data folder that is encrypted: with its key as ever, without it they say so and touch nothing."""

from pathlib import Path

import shmcache as package
from shmcache.persistence.encryption import generate_key_file
from tests.persistence.calls import keeper_call
from tests.support.instance import running_instance
from tests.support.words import refused, shmcache


def test_commands_take_the_key(tmp_path: Path) -> None:
    folder, key, other = tmp_path / "data", tmp_path / "key", tmp_path / "other"
    generate_key_file(key)
    generate_key_file(other)
    with running_instance(data_dir=str(folder), aof="always", data_key_file=str(key)) as instance:
        with package.connect(instance.url) as client:
            client.set("secret", "value")
            keeper_call(instance, "save")
            client.set("later", "value")
    before = sorted(path.name for path in folder.rglob("*"))
    commands = (
        ("snapshot", "verify", "--data-dir", folder),
        ("snapshot", "export", "-", "--data-dir", folder),
        ("aof", "repair", "--data-dir", folder, "--yes"),
        ("snapshot", "restore", 1, "--data-dir", folder),
    )
    for words in commands:
        refused(shmcache(*words), "encrypted with key", "give --data-key-file")
        refused(shmcache(*words, "--data-key-file", other), "has not that one")
    assert sorted(path.name for path in folder.rglob("*")) == before
    for words in commands:
        done = shmcache(*words, SHMCACHE_DATA_KEY_FILE=str(key))
        assert done.returncode == 0, done
        if words[1] == "export":
            assert b'"secret"' in done.stdout
            assert b'"later"' in done.stdout
