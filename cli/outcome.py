"""How a command ends: errors become one line on stderr and an exit code, never a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

REFUSED = 1
NO_CONNECTION = 2
INTERRUPTED = 130


def fail(message: str, code: int = REFUSED) -> NoReturn:
    """End the process with one line on stderr."""
    one_line = " ".join(str(message).split())
    print(f"shmcache: {one_line}", file=sys.stderr)
    raise SystemExit(code)


def exit_code_of(error: BaseException) -> int:
    """2 if the server could not be reached (or did not answer), 1 for every other error."""
    from shmcache import errors

    lost = (errors.InstanceNotFound, errors.Unavailable, errors.CacheTimeout, ConnectionError, TimeoutError)
    return NO_CONNECTION if isinstance(error, lost) else REFUSED


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn the errors of the world into `fail`. Our own bugs keep their traceback."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of a pipe (head, less) has what it wants. Nothing may be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except (SystemExit, GeneratorExit):
        raise
    except OSError as error:
        fail(_describe(error), exit_code_of(error))
    except Exception as error:
        if not _is_ours(error):
            raise
        fail(_describe(error), exit_code_of(error))


def _is_ours(error: Exception) -> bool:
    from shmcache import _engine, errors

    return isinstance(error, errors.ShmcacheError | _engine.EngineError)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
