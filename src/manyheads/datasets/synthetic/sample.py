"""The sample: synthetic cards with UTKFace's file names, in one zip archive.

A card depicts no person and no group. ``race`` is the hue of its background and affects the shape of its marks;
``gender`` is the direction of its stripes; ``age`` is the number of its marks. Hues of neighbouring classes overlap,
stripes are faint, counts are noisy and a few labels are wrong. The heads therefore differ in difficulty, and none can
be perfect.

Like real archives, this one contains malformed names, files that do not decode or need a conversion, copies under other
names, and conflicting labels. Constants define the number of each. All random numbers follow from ``SEED``, so the
dataset does not depend on the project's seed.
"""

import io
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from manyheads.datasets.documentation import synthetic
from manyheads.datasets.named_images import NamedImages
from manyheads.datasets.utkface import parse_name
from manyheads.runtime.files import atomic_write

DOCUMENTATION = synthetic(
    "to try the pipeline without a download",
    "The labels have the names of UTKFace's, so that file names have the same form: `age` is the number of marks on a "
    "card, `race` the hue of its background, `gender` the direction of its stripes. Counts are noisy, hues overlap, "
    "and one label in fifty is wrong on purpose.",
)

SEED = 20170101
EDITION = b"manyheads sample 2"

SIZE = 64
CARDS = 2400
JPEG_QUALITY = 85
OLDEST = 116
RACE_SHARES = (0.38, 0.22, 0.16, 0.16, 0.08)
GENDER_SHARES = (0.52, 0.48)
WRONG_LABEL_SHARE = 0.02

HUES = (4.0, 50.0, 125.0, 210.0, 285.0, 364.0)
"""Hues of the classes in degrees: red, yellow, green, blue, violet, and red again."""

REJECTED_NAMES = (
    "{age}_{gender}_{stamp}.jpg.chip.jpg",
    "{age}_{gender}_{stamp}.jpg.chip.jpg",
    "{age}__{race}_{stamp}.jpg.chip.jpg",
    "{age}_{gender}_7_{stamp}.jpg.chip.jpg",
)
IRREGULAR_NAMES = (
    "{age}_{gender}_{race}_{stamp} .jpg.chip.jpg",
    "{age}_{gender}_{race}_{stamp}jpg.chip.jpg",
    "{age}_{gender}_{race}_{stamp}.pg.chip.jpg",
)
NAME = "{age}_{gender}_{race}_{stamp}.jpg.chip.jpg"

UNDECODABLE = {"truncated": 3, "gif": 3, "empty": 2}
CONVERTED = {"greyscale": 3, "cmyk": 3, "rotated": 3}
COPIES = {"identical": 10, "recompressed": 8, "mirrored": 8, "cropped": 8}
CONFLICTING_COPIES = {"identical": 4, "recompressed": 2, "mirrored": 2, "cropped": 2}
CROPPED_BELOW_AGE = 10
JUNK = ("__MACOSX/._sample", "sample/.DS_Store")


class Labels(NamedTuple):
    """The labels in a card's file name."""

    age: int
    gender: int
    race: int


def provide(target: Path) -> None:
    """Write the dataset to ``target`` unless it is complete there.

    Args:
        target: Path of the zip archive.

    Raises:
        MachineError: The archive cannot be written.
    """
    if _is_whole(target):
        return
    with atomic_write(target) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = EDITION
        for name, content in sorted(_files().items()):
            # Fixed metadata makes the bytes independent of the clock, the system and the umask.
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3
            member.external_attr = 0o100644 << 16
            archive.writestr(member, content)


def _is_whole(target: Path) -> bool:
    try:
        with zipfile.ZipFile(target) as archive:
            return archive.comment == EDITION and archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _files() -> dict[str, bytes]:
    """Return the contents of the archive's members by name."""
    random = np.random.default_rng(SEED)
    labels = _labels(random)
    cards = _cards(_with_wrong_labels(labels, random), random)
    names = [NAME] * CARDS
    contents = [_jpeg(card) for card in cards]
    stamps = _stamps()
    picks = iter(random.permutation(CARDS).tolist())

    for pattern in REJECTED_NAMES + IRREGULAR_NAMES:
        names[next(picks)] = pattern
    for how, count in (UNDECODABLE | CONVERTED).items():
        for _, card in zip(range(count), picks, strict=False):
            contents[card] = _treated(cards[card], how)

    files = dict.fromkeys(JUNK, b"\0\5\x16\7")
    for name, content, label in zip(names, contents, labels, strict=True):
        files[_path(name, label, next(stamps))] = content
    for how in COPIES:
        for copy in range(COPIES[how] + CONFLICTING_COPIES[how]):
            # Cropping shifts marks, so a card with many marks would not be a near duplicate.
            card = next(pick for pick in picks if how != "cropped" or labels[pick].age < CROPPED_BELOW_AGE)
            label = labels[card] if copy < COPIES[how] else _conflicting(labels[card], copy)
            content = contents[card] if how == "identical" else _treated(cards[card], how)
            files[_path(NAME, label, next(stamps))] = content
    return files


def _path(pattern: str, labels: Labels, stamp: str) -> str:
    return "sample/" + pattern.format(**labels._asdict(), stamp=stamp)


def _stamps() -> Iterator[str]:
    """Yield distinct timestamps of 17 digits, from year to millisecond."""
    moment = datetime(2017, 1, 1)
    while True:
        moment += timedelta(seconds=97, milliseconds=331)
        yield f"{moment:%Y%m%d%H%M%S}{moment.microsecond // 1000:03d}"


def _conflicting(labels: Labels, copy: int) -> Labels:
    match copy % 3:
        case 0:
            return labels._replace(age=(labels.age + 9) % (OLDEST + 1))
        case 1:
            return labels._replace(gender=1 - labels.gender)
        case _:
            return labels._replace(race=(labels.race + 1) % len(RACE_SHARES))


def _labels(random: np.random.Generator) -> list[Labels]:
    """Return independent random labels, with a skewed distribution of ages."""
    few, many = random.integers(0, 10, CARDS), random.gamma(4.5, 8.5, CARDS)
    ages = np.where(random.random(CARDS) < 0.13, few, many).astype(int).clip(0, OLDEST)
    genders = random.choice(len(GENDER_SHARES), CARDS, p=GENDER_SHARES)
    races = random.choice(len(RACE_SHARES), CARDS, p=RACE_SHARES)
    return [Labels(*row) for row in zip(ages.tolist(), genders.tolist(), races.tolist(), strict=True)]


def _with_wrong_labels(labels: list[Labels], random: np.random.Generator) -> NDArray[np.intp]:
    """Return the labels that the cards show, shape (cards, 3): a few are those of other cards."""
    shown = np.array(labels)
    others = shown[random.permutation(CARDS)]
    return np.where(random.random(shown.shape) < WRONG_LABEL_SHARE, others, shown)


def _cards(shown: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return the images of the cards, shape (cards, 64, 64, 3), uint8, RGB."""
    ages, genders, races = shown.T
    # The hue varies around that of the class, so neighbouring classes overlap.
    position = (races + random.normal(0, 0.31, CARDS)) % len(RACE_SHARES)
    hue = np.interp(position, range(len(HUES)), HUES) / 60
    pure = np.clip(np.abs((hue[:, None] + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    tint = 1 - random.uniform(0.35, 0.75, (CARDS, 1)) * (1 - pure)

    each = (CARDS, 1, 1)
    grain = random.standard_normal((CARDS, SIZE, SIZE)) * random.uniform(0.01, 0.06, each)
    ink = np.where(random.random(each) < 0.5, 0.08, 1.0)
    cover = _marks(ages, races, random) * random.uniform(0.8, 0.97, each)
    ground = (_texture(random) + _stripes(genders, random)) * (1 - cover)
    above = ink * cover + grain
    cards = np.empty((CARDS, SIZE, SIZE, 3), np.uint8)
    for channel in range(3):
        value = ground * tint[:, channel, None, None] + above
        cards[..., channel] = (value * 255).round().clip(0, 255)
    return cards


def _texture(random: np.random.Generator) -> NDArray[np.float64]:
    """Return a smooth lightness for each card, shape (cards, 64, 64), which makes cards distinct, also mirrored."""
    from scipy.fft import idctn

    waves = 6
    vertical, horizontal = np.indices((waves, waves))
    amplitude = 1 / (1 + vertical**2 + horizontal**2)
    amplitude[0, 0] = 0
    coefficients = random.normal(0, amplitude, (CARDS, waves, waves))
    texture: NDArray[np.float64] = idctn(coefficients, s=(SIZE, SIZE), axes=(1, 2), norm="ortho") * SIZE / waves
    texture *= random.uniform(0.11, 0.16, (CARDS, 1, 1)) / texture.std(axis=(1, 2), keepdims=True)
    texture += random.uniform(0.5, 0.72, (CARDS, 1, 1))
    return texture


def _stripes(genders: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.float64]:
    """Return faint stripes for each card, shape (cards, 64, 64): rows for 0, columns for 1, slightly rotated."""
    angle = np.radians(np.where(genders == 0, 90, 0) + random.normal(0, 8, CARDS))[:, None, None]
    period = random.uniform(5.5, 9, (CARDS, 1, 1))
    phase = random.uniform(0, 2 * np.pi, (CARDS, 1, 1))
    contrast = random.uniform(0.045, 0.12, (CARDS, 1, 1))
    y, x = np.indices((SIZE, SIZE))
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + phase)
    stripes: NDArray[np.float64] = contrast * np.tanh(2 * wave)
    return stripes


def _marks(ages: NDArray[np.intp], races: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.float64]:
    """Return the coverage of pixels by marks, shape (cards, 64, 64), 0 to 1; the number of marks is about the age."""
    columns = 11
    cells = columns**2
    counts = (ages * random.normal(1, 0.08, CARDS) + random.normal(0, 1.5, CARDS)).round().clip(0, cells)
    order = random.permuted(np.tile(np.arange(cells), (CARDS, 1)), axis=1)
    card, turn = np.nonzero(np.arange(cells) < counts[:, None])
    cell = order[card, turn]

    brushes = _brushes()
    shapes, sizes, side, _ = brushes.shape
    # The shape depends on the race on most cards, not on all.
    shape = np.where(random.random(CARDS) < 0.6, races, random.integers(0, shapes, CARDS))
    size = random.integers(0, sizes, card.size)
    pitch = (SIZE - side) / (columns - 1)
    top, left = (
        (line * pitch + random.uniform(-1, 1, card.size)).round().astype(int).clip(0, SIZE - side)
        for line in np.divmod(cell, columns)
    )
    ink = np.zeros((CARDS, SIZE, SIZE))
    step = np.arange(side)
    where = (card[:, None, None], top[:, None, None] + step[:, None], left[:, None, None] + step)
    np.maximum.at(ink, where, brushes[shape[card], size])
    return ink


def _brushes() -> NDArray[np.float64]:
    """Return the marks' shapes in three sizes, shape (5, 3, 5, 5), 0 to 1: disc, square, diamond, triangle, cross."""
    side, fine = 5, 16
    middle = side * fine / 2
    brushes = []
    for radius in (2 * fine, 2.2 * fine, 2.4 * fine):
        low, high, arm = middle - radius, middle + radius, radius / 2.5
        square = (low + radius / 8, low + radius / 8, high - radius / 8, high - radius / 8)
        sketches = [Image.new("L", (side * fine, side * fine)) for _ in RACE_SHARES]
        disc, box, diamond, triangle, cross = (ImageDraw.Draw(sketch) for sketch in sketches)
        disc.ellipse((low, low, high, high), fill=255)
        box.rectangle(square, fill=255)
        diamond.polygon([(middle, low), (high, middle), (middle, high), (low, middle)], fill=255)
        triangle.polygon([(middle, low), (high, high), (low, high)], fill=255)
        cross.rectangle((middle - arm, low, middle + arm, high), fill=255)
        cross.rectangle((low, middle - arm, high, middle + arm), fill=255)
        brushes.append([np.asarray(sketch.reduce(fine)) for sketch in sketches])
    return np.array(brushes).swapaxes(0, 1) / 255


def _jpeg(card: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    return _encoded(Image.fromarray(card), quality)


def _encoded(image: Image.Image, quality: int = JPEG_QUALITY, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def _treated(card: NDArray[np.uint8], how: str) -> bytes:
    """Return a card's file after a conversion or damage, as named by ``how``."""
    image = Image.fromarray(card)
    match how:
        case "truncated":
            return _jpeg(card)[:900]
        case "gif":
            buffer = io.BytesIO()
            image.save(buffer, "GIF")
            return buffer.getvalue()
        case "empty":
            return b""
        case "greyscale":
            return _encoded(image.convert("L"))
        case "cmyk":
            return _encoded(image.convert("CMYK"))
        case "rotated":
            exif = Image.Exif()
            exif[0x0112] = 6  # display it rotated clockwise by 90 degrees
            return _encoded(image.transpose(Image.Transpose.ROTATE_90), exif=exif)
        case "recompressed":
            return _jpeg(card, quality=60)
        case "mirrored":
            return _encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        case "cropped":
            border = SIZE / 100
            box = (border, border, SIZE - border, SIZE - border)
            return _encoded(image.resize(image.size, Image.Resampling.BICUBIC, box=box))
        case _:
            raise ValueError(how)


class Sample(NamedImages):
    """The sample, which is made again where it is damaged or of another edition."""

    def provide(self, target: Path, original: Path) -> None:
        del original  # it can be made in any project
        provide(target)


DATASET = Sample(DOCUMENTATION, parse_name)
