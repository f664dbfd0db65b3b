"""Where the real UTKFace archive is, if it is on this machine: tests that need it skip without it."""

from pathlib import Path

_PLACE = Path(__file__).parents[1] / "data/raw/UTKFace.tar.gz"

ARCHIVE: Path | None = _PLACE if _PLACE.is_file() else None
SKIP_REASON = "the UTKFace archive is not at data/raw/UTKFace.tar.gz"
