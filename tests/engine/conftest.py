"""Fixtures of the engine's tests."""

from collections.abc import Iterator

import pytest

from tests.engine.writers import Writers
from tests.support.differential import Differential, differential


@pytest.fixture
def writers() -> Iterator[Writers]:
    """Makes owners with a tailer each."""
    made = Writers()
    yield made
    made.close()


@pytest.fixture(scope="module")
def one_redis_and_engine(redis_server_program: str) -> Iterator[Differential]:
    """One of both for a module."""
    with differential(redis_server_program) as both:
        yield both


@pytest.fixture
def both(one_redis_and_engine: Differential) -> Differential:
    """A real redis-server and the engine, both without keys."""
    one_redis_and_engine.reset()
    return one_redis_and_engine
