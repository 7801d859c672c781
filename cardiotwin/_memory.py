"""Memory of the machine."""

from pathlib import Path


def host_memory() -> tuple[float, float] | None:
    """Total and available bytes, within the limit of a container where there is one.

    None where the system does not say.
    """
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    rows = (line.split() for line in table.read_text().splitlines())
    kib = {row[0].rstrip(":"): float(row[1]) for row in rows}
    total, available = kib["MemTotal"] * 1024.0, kib["MemAvailable"] * 1024.0
    group = Path("/sys/fs/cgroup")
    limit, used = group / "memory.max", group / "memory.stat"
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        total = min(total, float(text))
        # Only anonymous pages count: the file cache is given back when memory is wanted.
        rows = dict(line.split() for line in used.read_text().splitlines())
        available = min(available, float(text) - float(rows["anon"]))
    return total, available
