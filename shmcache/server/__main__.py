"""`python -m shmcache.server [--option value ...]`: a server without the command line tool."""

import sys

from ..config import load
from ..errors import ConfigError
from . import exit_codes, run


def _arguments(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        found[name.replace("-", "_")] = value or "true"
    return found


if __name__ == "__main__":
    try:
        arguments = _arguments(sys.argv[1:])
        config_file = arguments.pop("config", None)
        config = load(arguments, config_file)
    except ConfigError as error:
        print(f"shmcache: {error}", file=sys.stderr)
        sys.exit(exit_codes.BAD_CONFIG)
    sys.exit(run(config))
