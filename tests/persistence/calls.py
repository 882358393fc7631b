"""What tests of persistence do with an instance."""

import subprocess
from typing import Any

from cli.connection import call_process
from tests.support.instance import STOP_S_MAX, RunningInstance, remove_objects


def keeper_call(instance: RunningInstance, call: str, **arguments: Any) -> Any:
    """A control call to the keeper."""
    return call_process(instance.name, "keeper", call, arguments, 20)


def begin_cold(instance: RunningInstance, **options: Any) -> None:
    """Start a stopped instance without anything in shared memory."""
    remove_objects(instance.name)
    instance.options.update(options)
    instance.start()


def refusal(instance: RunningInstance, **options: Any) -> str:
    """What a start without anything in shared memory says that does not succeed. `options`: None leaves one out."""
    remove_objects(instance.name)
    before = len(instance.log())
    given = {name: value for name, value in (instance.options | options).items() if value is not None}
    process = instance.launch(**given)
    try:
        assert process.wait(STOP_S_MAX) != 0
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    finally:
        assert process.stdout is not None
        process.stdout.close()
    return instance.log()[before:]
