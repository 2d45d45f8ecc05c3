"""The files that metrics go to, in a run directory, and how a file is written."""

from pathlib import Path

METRICS_FILE = "metrics.jsonl"
EVENTS = "tensorboard"
TRACKING = "tracking"


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is there as a whole or, after a crash or on a full disk, as it was before.

    Example:
      >>> import tempfile
      >>> write_atomically(Path(tempfile.mkdtemp()) / "numbers.json", "{}")
    """
    replacement = path.with_name(f"{path.name}.tmp")
    try:
        replacement.write_text(text, encoding="utf-8")
        replacement.replace(path)
    except OSError as error:
        replacement.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error  # a failed write does not name its file
