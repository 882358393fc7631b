"""The options of collections, as `options` declares the others."""

from pydantic import Field

from .limits import COMPACT_BYTES_MAX, COMPACT_ENTRIES_MAX
from .options import Group

_UNIT = {"unit": "bytes"}


class CollectionsConfig(Group):
    """Up to which size a collection is one compact entry, which local clients read without asking anyone."""

    hash_compact_entries: int = Field(default=128, ge=0, le=COMPACT_ENTRIES_MAX, description="Fields of a compact hash.")
    hash_compact_bytes: int = Field(
        default=64, ge=0, le=COMPACT_BYTES_MAX, description="Longest field or value of one.", json_schema_extra=_UNIT
    )
    list_compact_entries: int = Field(default=128, ge=0, le=COMPACT_ENTRIES_MAX, description="Elements of a compact list.")
    list_compact_bytes: int = Field(default=64, ge=0, le=COMPACT_BYTES_MAX, description="Longest element of one.", json_schema_extra=_UNIT)
    set_compact_entries: int = Field(default=128, ge=0, le=COMPACT_ENTRIES_MAX, description="Members of a compact set.")
    set_compact_bytes: int = Field(default=64, ge=0, le=COMPACT_BYTES_MAX, description="Longest member of one.", json_schema_extra=_UNIT)
    zset_compact_entries: int = Field(default=128, ge=0, le=COMPACT_ENTRIES_MAX, description="Members of a compact sorted set.")
    zset_compact_bytes: int = Field(default=64, ge=0, le=COMPACT_BYTES_MAX, description="Longest member of one.", json_schema_extra=_UNIT)
