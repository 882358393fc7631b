"""What is not needed any more: snapshots beyond those that are kept, and the append-only file before the oldest of these."""

from pathlib import Path

from .files import Files
from .segments import remove_segment, segment_numbers
from .snapshots import read_manifest, remove_snapshot, snapshot_numbers


def retire(files: Files, folder: Path, keep: int) -> None:
    """Keep the newest `keep` snapshots. Raises OSError, DamagedFile."""
    numbers = snapshot_numbers(folder)
    kept = numbers[-keep:]
    for number in numbers[: -len(kept)]:
        remove_snapshot(files, folder, number)
    firsts = [manifest.first_segment for manifest in (read_manifest(folder, number) for number in kept) if manifest.first_segment]
    if not firsts:
        return
    for number in segment_numbers(folder):
        if number < min(firsts):
            remove_segment(files, folder, number)
