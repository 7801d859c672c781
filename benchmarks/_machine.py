"""What machine and commit a figure comes from, and where it is kept."""

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
BUSY = 0.3  # load average, beyond which a wall-clock time says little about the program


def cpus() -> list[int]:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def load() -> float | None:
    """Mean number of busy processes in the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def processor() -> str:
    """The processor as its maker names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """Short hash of the commit, with "-dirty" where the package differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "cardiotwin")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")


def store(entry: dict, folder: Path, study: str = "") -> Path:
    """Add the entry to the file of this machine, commit and study.

    It replaces an entry with the same settings.
    """
    machine: dict[str, Any] = {
        "processor": processor(),
        "cores": len(cpus()),
        "system": platform.system(),
    }
    slug = re.sub(r"[^a-z0-9]+", "-", f"{machine['processor']}-{machine['cores']}-cores".lower())
    version = commit()
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"{study}-" if study else ""
    path = folder / f"{prefix}{slug.strip('-')}-{version}.json"
    kept = json.loads(path.read_text())["entries"] if path.exists() else []
    kept = [old for old in kept if old["settings"] != entry["settings"]]
    machine["python"] = platform.python_version()
    content = {"machine": machine, "commit": version, "entries": [*kept, entry]}
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)
    return path
