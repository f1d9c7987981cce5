"""What a process holds in memory, as the kernel counts it. Everything in MiB."""

from pathlib import Path


def read_rss(pid: int) -> float:
    """Resident now."""
    return _read(pid, "VmRSS:")


def read_peak(pid: int) -> float:
    """The most it had resident since it started, or since ``reset_peak``."""
    return _read(pid, "VmHWM:")


def reset_peak(pid: int) -> None:
    """Let the peak be what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _read(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
