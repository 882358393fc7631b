"""Style that a machine can check: size, docstrings, unfinished marks, and the direction of imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINES_MAX = 500
PACKAGES = {"shmcache": ROOT / "shmcache", "shmcache.cli": ROOT / "cli", "shmcache.replication": ROOT / "replication"}
SOURCES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
RUST = sorted((ROOT / "shmcache/engine/src").rglob("*.rs"))
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X")

LAYERS = {"_engine": 0, "errors": 0, "limits": 0, "protocol": 1, "config": 2, "client": 2, "aio": 2, "replication": 2, "persistence": 2, "server": 3, "cli": 4}
"""Part of the package -> layer. A module imports from its own part and from lower layers."""


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES + TESTS + RUST, ids=name)
def test_file_is_short_and_finished(path: Path):
    """No file over 500 lines, none with a mark that says it is not done."""
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_MAX
    assert not [mark for mark in UNFINISHED if mark in text.replace("{" + "XX" + "X}", "")]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_module_says_what_it_is(path: Path):
    """Each module begins with a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text()))


def module_parts(path: Path) -> list[str]:
    """Dotted name of a module, without the leading `shmcache`."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "shmcache":
        parts = parts[1:]
    return parts


def imported(path: Path) -> set[str]:
    """The parts of our own package that a module imports."""
    package = module_parts(path)[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("shmcache.")}
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level:
                module = package[: len(package) - node.level + 1] + module
            elif module[:1] == ["shmcache"]:
                module = module[1:]
            else:
                continue
            found |= {module[0]} if module else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", [path for path in SOURCES if module_parts(path)[0] in LAYERS], ids=name)
def test_imports_go_one_way(path: Path):
    """cli -> server -> replication -> protocol -> _engine; the client stands beside server and replication.

    The gateway is a process of the server and a client of it: it alone may use both.
    """
    own = module_parts(path)[0]
    upward = {
        part
        for part in imported(path) - {own}
        if LAYERS.get(part, 0) > LAYERS[own] or (part in ("client", "server", "replication", "persistence") and own in ("client", "replication", "persistence"))
        or (part == "client" and own == "server" and "gateway" not in path.parts)
    }
    assert not upward
