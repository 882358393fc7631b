"""Options: where they come from, what is refused, and that their reference page is current."""

from pathlib import Path

import pytest

from shmcache import _engine, config, options
from shmcache.errors import ConfigError


def test_command_line_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    """Each source gives way to the one before it."""
    file = tmp_path / "s.toml"
    file.write_text(
        '[instance]\nname = "f"\nworkers = 3\n[memory]\nmemory = "2GB"\n[network]\nlisten = ["tcp://h:1"]\n'
    )
    found = config.load(
        {"name": "c", "policy": None}, str(file), {"SHMCACHE_NAME": "e", "SHMCACHE_WORKERS": "5"}
    )
    assert (found.instance.name, found.instance.workers) == ("c", 5)
    assert found.memory.memory == 2 << 30
    assert found.network.listen == ("tcp://h:1",)
    assert found.memory.samples == config.Config().memory.samples


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 << 30), ("512 mb", 512 << 20), ("1.5k", 1536), ("7", 7), ("2GiB", 2 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    """Sizes have units that are powers of 1024."""
    assert config.load({"memory": text}, environ={}).memory.memory == size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory": "4 apples"}, "memory: expected a size .* command line --memory"),
        ({"workers": "many"}, "workers: .* integer.*'many'.*--workers"),
        ({"workers": -1}, "workers"),
        ({"policy": "all"}, "policy: .*noeviction"),
        ({"name": "a/b"}, "name: .*a/b"),
        ({"listen": "tcp://nowhere"}, "listen: .*tcp://HOST:PORT"),
        ({"listen": "tcp://h:70000"}, "listen: .*65535"),
        ({"colour": "red"}, "colour: there is no such option"),
    ],
)
def test_bad_values_name_option_and_source(arguments: dict[str, object], message: str) -> None:
    """A refused option is named together with its value and source."""
    with pytest.raises(ConfigError, match=message):
        config.load(arguments, environ={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[memory]\ncolour = 1", "memory.colour: there is no such option"),
        ("[network]\nmemory = 1", "network.memory"),
        ("workers = 1", "table"),
        ("[memory", "Expected"),
        ("[memory]\nsamples = 65", "samples: .*file"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """A file with unknown options or bad syntax is refused by name."""
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        config.load({}, str(file), {})
    with pytest.raises(ConfigError, match="No such file"):
        config.load({}, str(tmp_path / "none"), {})


def test_environment_error_names_the_variable() -> None:
    """The variable that holds the bad value is named; foreign variables of our prefix are nobody's error."""
    with pytest.raises(ConfigError, match="environment variable SHMCACHE_SAMPLES"):
        config.load({}, environ={"SHMCACHE_SAMPLES": "x", "SHMCACHE_SERVICE_HOST": "10.0.0.1"})


def test_reference_page_is_current() -> None:
    """docs/configuration.md is what `python -m shmcache.config` prints."""
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert page.read_text() == config.reference()


def test_policies_are_the_engines() -> None:
    """The option offers what the engine knows, no more and no less."""
    assert set(options.POLICIES) == set(_engine.POLICIES)
