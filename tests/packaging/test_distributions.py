"""What is installed is what is tested: the contents of wheel and sdist, and the wheel in an environment of its own."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD_S_MAX = 600


def tracked(*folders: str) -> set[str]:
    """Sources (Python, and the scripts' Lua) under the folders that belong to the package, as the wheel should name them."""
    names = set()
    for folder in folders:
        for path in (one for suffix in ("py", "lua") for one in (ROOT / folder).rglob(f"*.{suffix}")):
            name = path.relative_to(ROOT).as_posix()
            names.add(name if folder == "shmcache" else f"shmcache/{name}")
    return names


EXPECTED = tracked("shmcache", "cli", "replication") | {"shmcache/_engine.pyi"}


def run(*words: str, cwd: Path) -> str:
    # Cargo reuses what the editable install has compiled; the result is of the same sources.
    environment = os.environ | {"CARGO_TARGET_DIR": os.environ.get("CARGO_TARGET_DIR", str(ROOT / "shmcache/engine/target"))}
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "bin"
    environment["PATH"] = f"{environment['PATH']}{os.pathsep}{cargo}"
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=BUILD_S_MAX, check=False)
    assert done.returncode == 0, f"{words}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, out: Path, kind: str) -> Path:
    run(sys.executable, "-m", "maturin", *kind.split(), "--out", str(out), cwd=source)
    (built,) = [path for path in out.iterdir() if path.suffix == (".gz" if kind == "sdist" else ".whl")]
    return built


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "build --release")


@pytest.mark.timeout(BUILD_S_MAX)
def test_wheel_holds_exactly_the_package(wheel: Path):
    """All Python sources, the stub and the engine, nothing else: no Rust, no tests, no generic top-level name."""
    names = {name for name in contents(wheel) if ".dist-info/" not in name and not name.endswith(".so")}
    assert names == EXPECTED
    engines = [name for name in contents(wheel) if name.endswith(".so")]
    assert len(engines) == 1
    assert engines[0].startswith("shmcache/_engine.")


@pytest.mark.timeout(BUILD_S_MAX)
def test_wheel_works_outside_the_repository(wheel: Path, tmp_path: Path):
    """In a fresh environment, elsewhere: the command starts, its subpackages import, `cli` is not ours."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel), cwd=tmp_path)
    assert "serve" in run(str(folder / "bin" / "shmcache"), "--help", cwd=tmp_path)
    run(python, "-c", "import shmcache.cli, shmcache.replication.tail, shmcache.cli.bench.replay", cwd=tmp_path)
    run(python, "-c", "import importlib.util as u; assert not u.find_spec('cli') and not u.find_spec('replication')", cwd=tmp_path)


@pytest.mark.timeout(BUILD_S_MAX)
def test_sdist_builds_the_same_wheel(tmp_path: Path):
    """The sdist holds the sources of package and engine, and what is built from it equals the package."""
    sdist = build(ROOT, tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    names = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert EXPECTED <= names
    assert {"pyproject.toml", "README.md", "shmcache/engine/Cargo.toml", "shmcache/engine/Cargo.lock", "shmcache/engine/src/lib.rs"} <= names
    assert not [name for name in names if "__pycache__" in name or "/target/" in name or name.endswith(".so")]
    rebuilt = contents(build(source, tmp_path / "wheel", "build --release"))
    assert EXPECTED == {name for name in rebuilt if ".dist-info/" not in name and not name.endswith(".so")}
