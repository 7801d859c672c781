"""What happened in a run: stages with their times, and warnings."""

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class Journal:
    """Collects timings and warnings, and tells the person at the terminal."""

    def __init__(self, progress: bool):
        self.timings: dict[str, float] = {}
        self.warnings: list[str] = []
        self._progress = progress

    @contextmanager
    def stage(self, name: str, key: str | None = None) -> Iterator[None]:
        """Time a stage under `key` (its name by default) and say that it began."""
        self.say(name)
        began = time.perf_counter()
        try:
            yield
        finally:
            key = key or name
            self.timings[key] = self.timings.get(key, 0.0) + time.perf_counter() - began

    def say(self, text: str) -> None:
        """Print one line on standard error, unless the run is quiet."""
        if self._progress:
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Keep a warning for the report, and issue it."""
        self.warnings.append(text)
        warnings.warn(text, stacklevel=3)
