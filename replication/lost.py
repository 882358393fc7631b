"""Writes of a former primary that its successor never got: counted, and saved if there is a folder for them."""

import json
import time
from pathlib import Path

from shmcache._engine import Overtaken, decode_records

from .shipping import OwnLogs


def save_lost(logs: OwnLogs, lost: dict[int, int], folder: str, instance: str) -> tuple[int, int, Path | None]:
    """Records from each shard's position on: (their number, bytes that the ring had overwritten before, file).

    The file has one JSON object a line, keys and values as latin-1 text. A full disk costs the file, not the rejoin.
    """
    count = missed = 0
    lines: list[str] = []
    for shard, position in lost.items():
        try:
            tailer = logs.tailer(shard, "lost", position)
        except Overtaken:
            tailer = logs.tailer(shard, "lost", 0)
            missed += tailer.position - position
        try:
            while data := tailer.poll(1 << 20):
                for record in decode_records(data):
                    count += 1
                    if folder:
                        fields = {"shard": shard} | record._asdict()
                        lines.append(json.dumps({k: v.decode("latin-1") if isinstance(v, bytes) else v for k, v in fields.items()}))
        except Overtaken:
            missed += tailer.resume_at_oldest()
        finally:
            tailer.close()
    if not folder:
        return count, missed, None
    path = Path(folder, f"{instance}.lost.{time.strftime('%Y%m%dT%H%M%S')}.jsonl")
    try:
        path.write_text("".join(line + "\n" for line in lines))
    except OSError:
        path.unlink(missing_ok=True)
        return count, missed, None
    return count, missed, path
