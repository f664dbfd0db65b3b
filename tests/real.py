"""Where the real UTKFace archive is, if it is on this machine: tests that need it skip without it."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
_PLACES = (ROOT / "data/raw/UTKFace.tar.gz", ROOT.parent / "shared/UTKFace.tar.gz")

ARCHIVE: Path | None = next((path for path in _PLACES if path.is_file()), None)
SKIP_REASON = "the UTKFace archive is not at data/raw/UTKFace.tar.gz"
