"""Fixtures of the engine's tests."""

from collections.abc import Iterator

import pytest

from tests.engine.writers import Writers


@pytest.fixture
def writers() -> Iterator[Writers]:
    """Makes owners with a tailer each."""
    made = Writers()
    yield made
    made.close()
