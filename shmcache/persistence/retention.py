"""What is not needed any more: snapshots beyond those that are kept, and the append-only file before the oldest of these."""

from collections.abc import Callable
from pathlib import Path

from .files import Files
from .segments import remove_segment, segment_numbers
from .snapshots import read_manifest, remove_snapshot, snapshot_numbers


def retire(files: Files, folder: Path, keep: int, may_remove: Callable[[int, list[int]], bool] | None = None) -> None:
    """Keep the newest `keep` snapshots. `may_remove` is asked about each segment, by its number among all. Raises OSError, DamagedFile."""
    numbers = snapshot_numbers(folder)
    kept = numbers[-keep:]
    for number in numbers[: -len(kept)]:
        remove_snapshot(files, folder, number)
    firsts = [manifest.first_segment for manifest in (read_manifest(folder, number) for number in kept) if manifest.first_segment]
    if not firsts:
        return
    segments = segment_numbers(folder)
    for number in segments:
        if number < min(firsts) and (may_remove is None or may_remove(number, segments)):
            remove_segment(files, folder, number)
