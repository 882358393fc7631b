"""Libraries of functions and the disk: the keeper's part, and that of a start."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ShmcacheError
from ..limits import LIBRARIES_LOOK_MS, PERSISTENCE_RETRY_MS
from ..persistence.blocks import Cipher
from ..persistence.files import OS_FILES
from ..persistence.libraries import in_manifest, load, of_manifest, save
from .libraries import NONE, LibrariesFile, Watched, check

if TYPE_CHECKING:
    from ..persistence.recovery import Restore


class KeptLibraries:
    """Puts them on the disk when they have changed, and into snapshots."""

    def __init__(self, settings: dict[str, Any], cipher: Cipher | None, log: Any) -> None:
        self._folder, self._cipher, self._log = Path(settings["data_dir"]), cipher, log
        self._watched = Watched(LibrariesFile(settings["folder"], settings["instance"], settings["gid"]))
        self._due = 0.0
        self.last_error = ""
        self._saved: bytes | None = None
        """What is on the disk; None: not known, or encrypted with an old key."""
        try:
            found = load(self._folder, cipher)
            if found is not None and found[1] == (cipher.key_id if cipher else ""):
                self._saved = found[0]
        except (ShmcacheError, OSError) as error:
            # What is in force is better than what nobody can read.
            log.warning("the libraries of functions on disk cannot be read, they are written anew", reason=str(error))

    def step(self, now: float) -> None:
        """Look, if it is time. `now` in seconds."""
        if now >= self._due:
            self._due = now + LIBRARIES_LOOK_MS / 1000
            self.keep(now)

    def keep(self, now: float) -> None:
        """Save them, if they are others. An error is in the log, and tried again."""
        try:
            self._watched.look()
            # Without the file nothing is known of them.
            if self._watched.data == self._saved or self._watched.file.version() is None:
                return
            count = len(check(self._watched.data))
            save(OS_FILES, self._folder, self._watched.data, self._cipher)
        except (OSError, ValueError) as error:
            self._due = now + PERSISTENCE_RETRY_MS / 1000
            if str(error) != self.last_error:
                self._log.error("the libraries of functions are not on the disk", reason=str(error))
            self.last_error = str(error)
            return
        self._saved, self.last_error = self._watched.data, ""
        self._log.info("libraries of functions saved", count=count)

    def for_manifest(self) -> str:
        """Those in force, for a snapshot that begins."""
        try:
            self._watched.look()
        except OSError as error:
            self._log.warning("a snapshot without libraries of functions", reason=str(error))
            return ""
        data = self._watched.data
        return "" if data == NONE else in_manifest(data, self._cipher)


def bring_back(folder: Path, file: LibrariesFile, restore: "Restore | None", cipher: Cipher | None, log: Any, *, is_warm: bool) -> None:
    """At a start, before any process looks: what is on the disk is in force, as the data that are read from there; warm data have theirs already.

    Raises DamagedFile, WrongKey, OSError.
    """
    if is_warm and file.version() is not None:
        return
    data = _on_disk(folder, restore, cipher)
    if data is not None and data != file.read():
        file.write(data)
        log.info("libraries of functions are read from disk")


def _on_disk(folder: Path, restore: "Restore | None", cipher: Cipher | None) -> bytes | None:
    """None if the disk knows of none."""
    snapshot = restore.snapshot if restore is not None else None
    if restore is not None and restore.until_ms and snapshot is not None:
        # Those in the folder may be of later.
        return of_manifest(snapshot, cipher) or NONE
    found = load(folder, cipher)
    if found is not None:
        return found[0]
    return of_manifest(snapshot, cipher) if snapshot is not None else None
