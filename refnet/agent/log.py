"""The agent's log: one JSON object a line on stderr."""

from __future__ import annotations

import json
import os
import select
import time
from dataclasses import dataclass
from typing import Any

_RANK = {"debug": 0, "info": 1, "warning": 2, "error": 3}


@dataclass
class Log:
    """Writes lines of this level and above. A full or closed stderr loses lines, never the agent."""

    level: str = "info"
    file: int = 2
    errors: int = 0
    dropped: int = 0

    def __call__(self, level: str, message: str, **about: Any) -> None:
        self.errors += level == "error"
        if _RANK[level] < _RANK[self.level]:
            return
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        line = json.dumps({"time": stamp, "level": level, "message": message, **about}, default=str)
        try:
            # Asked first, because a reader that has stopped reading must not stop us.
            if select.select([], [self.file], [], 0)[1]:
                os.write(self.file, line.encode() + b"\n")
                return
        except OSError:
            pass  # counted, like a line that found no room
        self.dropped += 1
