"""What all suites share: the `--long` flag and the programs that tests compare with."""

import pytest

from tests.support.programs import program_or_skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the torture tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    chosen, left_out = [], []
    for item in items:
        (left_out if item.get_closest_marker("long") else chosen).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


@pytest.fixture(scope="session")
def redis_server_program() -> str:
    return program_or_skip("redis-server")


@pytest.fixture(scope="session")
def memcached_program() -> str:
    return program_or_skip("memcached")
