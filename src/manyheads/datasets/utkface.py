"""UTKFace: images of faces with age, gender and race in the file's name.

Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR 2017. A name is
``<age>_<gender>_<race>_<timestamp>.jpg``, with ``.chip.jpg`` appended in the aligned and cropped set.
"""

import re
from datetime import datetime

from manyheads.datasets import archives
from manyheads.datasets.base import JUNK, Record, Rejection
from manyheads.datasets.documentation import Documentation
from manyheads.datasets.named_images import NamedImages

ORIGIN = "https://susanqq.github.io/UTKFace/"
DOCUMENTATION = Documentation(
    origin=(
        "UTKFace, aligned and cropped: over 20,000 face images with annotations of age, gender and ethnicity, "
        "collected from the Internet by the AICIP lab of the University of Tennessee, Knoxville, for research on "
        f"faces ({ORIGIN}). The people depicted were not asked. There are no identities, so photographs of one person"
        " may be in several subsets of a split; near duplicates cannot."
    ),
    labels=(
        "Age, gender and race are attributes *as annotated*: estimated by an algorithm (DEX) and checked by a human "
        "annotator. They say how a face was perceived, not what a person is. Gender has two values because the "
        "annotation has; the five classes of race are a social construct, and `others` is a residual. Labels of"
        " near duplicates often contradict each other, which limits the metrics of any model."
    ),
    terms=(
        "Non-commercial research only. The images belong to their owners and are not redistributed: no image, crop or "
        "thumbnail of it is part of this project, and a report with thumbnails stays on the machine that made it."
    ),
    citation=(
        "Zhang, Z., Song, Y. and Qi, H. (2017). Age Progression/Regression by Conditional Adversarial Autoencoder. "
        "CVPR."
    ),
    intended="Research on training models with several outputs, on loss weights, and on groups that models fail.",
    out_of_scope=(
        "decisions about individuals, verification of age, access control, identification, surveillance, hiring, law "
        "enforcement, inferring anybody's race or gender. In the European Union, biometric categorisation that infers "
        "race is prohibited with few exceptions (AI Act, Art. 5)."
    ),
    ethics=(
        "A model of these labels reproduces how annotators perceived people, errors and stereotypes included, and "
        "errs more for some groups than for others: see the metrics by group. Guessing race or gender from a face "
        "can harm people whether the guess is right or wrong."
    ),
    caveats=(
        "Photographs from the web are no sample of any population; race, gender and age are confounded in them. Ages"
        " over 60 and the class `others` are scarce."
    ),
    published={
        "race/accuracy": 0.80,
        "race/macro_f1": 0.70,
        "race/f1_others": 0.25,
        "gender/accuracy": 0.90,
        "age/r2": 0.58,
    },
    published_bins={"age": (10, 20, 30, 40, 60, 80)},
    published_by="the article, its own split",
)
LABELS = ("age", "gender", "race")
MAX_PATH_BYTES = 255

# `\d` would match the digits of every script. A match may still have missing, empty or padded labels, which
# `parse_name` reports by their own codes.
_NAME = re.compile(
    r"(?P<labels>(?:[0-9]*_){1,3})(?P<timestamp>[0-9]+)(?P<ending> ?\.?(?:jpe?g|pg)(?:\.chip\.jpe?g)?)",
    re.ASCII | re.IGNORECASE,
)
_USUAL_ENDINGS = (".jpg", ".jpg.chip.jpg")
_TIMESTAMP_DIGITS = 17
# Control, invisible and bidirectional characters, undecodable bytes, and the separator of Windows.
_UNSAFE_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\\\\]")
_FORMULA = re.compile(r"/[=+\-@]")


def parse_name(path: str) -> Record | Rejection:
    """Return the labels of one file from its name. No label is guessed or repaired, and no path raises an error.

    Irregularities that leave the labels clear are accepted with a note: a blank or no dot before the ending, ``.pg``,
    upper case, a timestamp of another length or without a date. The heads check whether labels are in their label
    spaces.

    Args:
        path: POSIX path of the file in its archive or folder.

    Returns:
        The labels by the names in ``LABELS``, or a rejection with one of the codes ``JUNK`` (a file of an operating
        system), ``NAME_UNSAFE``, ``LABEL_MISSING``, ``LABEL_EMPTY`` and ``NAME_PATTERN``.

    Example:
        >>> parse_name("UTKFace/41_0_2_20170109150557335.jpg.chip.jpg").labels
        {'age': 41, 'gender': 0, 'race': 2}
        >>> parse_name("UTKFace/41_0_20170109150557335.jpg.chip.jpg").code
        'LABEL_MISSING'
    """
    if archives.is_junk(path):
        return JUNK
    if unsafe := _unsafe(path):
        return Rejection("NAME_UNSAFE", unsafe)
    match = _NAME.fullmatch(path.rpartition("/")[2])
    if match is None:
        return Rejection(
            "NAME_PATTERN",
            "The name is not <age>_<gender>_<race>_<timestamp>.jpg; rename the file if the labels are known.",
        )
    fields = match["labels"].split("_")[:-1]
    if len(fields) < len(LABELS):
        return Rejection(
            "LABEL_MISSING",
            "One of age, gender and race is missing; which one is not known, so none is read.",
        )
    if "" in fields:
        empty = [label for label, field in zip(LABELS, fields, strict=True) if not field]
        return Rejection("LABEL_EMPTY", f"The {' and the '.join(empty)} is empty; rename the file if it is known.")
    if any(field[0] == "0" and field != "0" for field in fields):
        return Rejection("NAME_PATTERN", "A label has a leading zero; rename the file if the labels are known.")
    labels = {label: int(field) for label, field in zip(LABELS, fields, strict=True)}
    return Record(labels, _note(match["timestamp"], match["ending"]))


def _unsafe(path: str) -> str | None:
    if character := _UNSAFE_CHARACTER.search(path):
        return f"The path holds U+{ord(character[0]):04X}, a character that is unsafe in paths; rename it."
    if _FORMULA.search("/" + path):
        return "A part of the path starts with =, +, - or @, as formulas and options do; rename it."
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"The path is longer than {MAX_PATH_BYTES} bytes, more than some systems can hold; rename it."
    return None


def _note(timestamp: str, ending: str) -> str:
    notes = []
    if ending not in _USUAL_ENDINGS:
        notes.append(f"ending {ending!r}")
    if len(timestamp) != _TIMESTAMP_DIGITS:
        notes.append(f"timestamp of {len(timestamp)} digits")
    elif not _is_date(timestamp):
        notes.append("timestamp is no date")
    return "; ".join(notes)


def _is_date(timestamp: str) -> bool:
    try:
        datetime.fromisoformat(f"{timestamp[:8]}T{timestamp[8:14]}")
    except ValueError:
        return False
    return True


DATASET = NamedImages(
    DOCUMENTATION,
    parse_name,
    remedy=(
        "get UTKFace 'aligned & cropped' (UTKFace.tar.gz, about 107 MB) from "
        f"{ORIGIN}, for non-commercial research purposes only, put it there, or use data=sample"
    ),
)
