"""How a server's processes end: one number, one meaning."""

from typing import Final

STOPPED: Final = 0
"""A clean stop."""
START_FAILED: Final = 1
"""The world does not allow it: no space, a port in use, regions of another release."""
BAD_CONFIG: Final = 2
INSTANCE_EXISTS: Final = 3
FORCED: Final = 4
"""A second signal cut the stop short; the regions are repaired at the next start."""
INTERNAL: Final = 70
"""A bug of ours; its traceback is in the log."""
