"""Duplicate groups: which images are near duplicates, and that only their content decides."""

import hashlib
import io
import tarfile
import tracemalloc
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from manyheads.inputs.image_files import decode, fingerprint
from manyheads.preprocessing import duplicates
from manyheads.preprocessing.duplicates import group_duplicates
from real import ARCHIVE, SKIP_REASON

THRESHOLD = 0.985


def photograph(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((200, 200), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def digest(seed: int) -> str:
    return hashlib.sha256(str(seed).encode()).hexdigest()


def grouped(files: list[bytes]) -> duplicates.Duplicates:
    digests = [hashlib.sha256(data).hexdigest() for data in files]
    return group_duplicates(digests, np.stack([fingerprint(decode(data, 96).pixels) for data in files]), THRESHOLD)


def random_fingerprints(n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Return digests and fingerprints; a third are a noisy, a brighter or a mirrored copy of another one."""
    generator = np.random.default_rng(seed)
    prints = generator.integers(20, 200, (n, 16, 16))
    copied = generator.permutation(n)
    for source, target in zip(copied[: n // 3], copied[n // 3 : 2 * (n // 3)], strict=True):
        noisy = prints[source] + generator.integers(-9, 10, (16, 16)) + generator.integers(0, 30)
        prints[target] = noisy[:, ::-1] if target % 2 else noisy
    return [digest(i) for i in range(n)], prints.astype(np.uint8)


def test_identical_bytes_are_one_group_named_by_its_hash() -> None:
    files = [encoded(photograph(seed)) for seed in (0, 1, 0, 2, 0)]
    found = grouped(files)
    assert found.groups == [hashlib.sha256(data).hexdigest()[:16] for data in files]
    assert len(set(found.groups)) == 3
    assert found.identical_groups == 1
    assert found.near_duplicate_pairs == 0


@pytest.mark.parametrize(
    "again",
    [
        lambda image: encoded(image, quality=40),
        lambda image: encoded(image.resize((120, 120))),
        lambda image: encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), quality=80),
        lambda image: encoded(image.crop((3, 2, 198, 199))),
        lambda image: encoded(Image.eval(image, lambda value: 20 + value * 4 // 5)),
    ],
    ids=["re-encoded", "resized", "mirrored", "re-cropped", "other exposure"],
)
def test_near_duplicates_of_a_photograph(again: object) -> None:
    files = [encoded(photograph(0)), encoded(photograph(1)), again(photograph(0)), encoded(photograph(2))]
    found = grouped(files)
    smallest = min(hashlib.sha256(files[at]).hexdigest() for at in (0, 2))
    assert found.groups[0] == found.groups[2] == smallest[:16]
    assert len(set(found.groups)) == 3
    assert found.identical_groups == 0
    assert found.near_duplicate_pairs == 1


def test_an_image_upside_down_is_no_near_duplicate() -> None:
    files = [encoded(photograph(0)), encoded(photograph(0).transpose(Image.Transpose.FLIP_TOP_BOTTOM))]
    assert len(set(grouped(files).groups)) == 2


def test_groups_are_connected_components() -> None:
    base = np.random.default_rng(0).integers(60, 180, (16, 16)).astype(np.float64)
    drift = np.random.default_rng(1).normal(0, 1, (16, 16)) * 4
    chain = np.stack([base + step * drift for step in range(6)]).astype(np.uint8)
    found = group_duplicates([digest(i) for i in range(6)], chain, THRESHOLD)
    ends = np.corrcoef(chain[0].ravel(), chain[5].ravel())[0, 1]
    assert ends < THRESHOLD
    assert set(found.groups) == {min(digest(i) for i in range(6))[:16]}


def test_constant_images_match_identical_bytes_alone() -> None:
    prints = np.stack([np.full((16, 16), value, np.uint8) for value in (0, 0, 255, 7, 7)])
    found = group_duplicates(["a" * 64, "b" * 64, "c" * 64, "d" * 64, "d" * 64], prints, THRESHOLD)
    assert found.groups == ["a" * 16, "b" * 16, "c" * 16, "d" * 16, "d" * 16]
    assert (found.identical_groups, found.near_duplicate_pairs) == (1, 0)


def test_pairs_are_those_of_the_correlation_matrix() -> None:
    digests, prints = random_fingerprints(200)
    flat, mirrored = prints.reshape(200, -1), prints[:, :, ::-1].reshape(200, -1)
    correlations = np.corrcoef(flat, mirrored)
    best = np.maximum(correlations[:200, :200], correlations[:200, 200:])
    expected = int(np.triu(best >= THRESHOLD, 1).sum())
    assert expected >= 60
    assert group_duplicates(digests, prints, THRESHOLD).near_duplicate_pairs == expected


def test_a_threshold_of_one_is_reached_by_equal_fingerprints() -> None:
    prints = np.repeat(np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8), 2, axis=0)
    found = group_duplicates([digest(i) for i in range(80)], prints, 1.0)
    assert found.near_duplicate_pairs == 40
    assert len(set(found.groups)) == 40


@pytest.mark.parametrize("tile", [1, 7, 64, 1000])
def test_tiles_change_nothing(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    digests, prints = random_fingerprints(150)
    expected = group_duplicates(digests, prints, THRESHOLD)
    monkeypatch.setattr(duplicates, "TILE", tile)
    assert group_duplicates(digests, prints, THRESHOLD) == expected


def test_order_changes_nothing() -> None:
    digests, prints = random_fingerprints(150)
    digests[10], prints[10] = digests[20], prints[20]
    order = np.random.default_rng(5).permutation(150)
    shuffled = group_duplicates([digests[at] for at in order], prints[order], THRESHOLD)
    found = group_duplicates(digests, prints, THRESHOLD)
    assert shuffled.groups == [found.groups[at] for at in order]
    assert shuffled[1:] == found[1:]


def test_a_group_does_not_depend_on_others() -> None:
    digests, prints = random_fingerprints(90)
    more, more_prints = random_fingerprints(60, seed=1)
    others = [hashlib.sha256(digest.encode()).hexdigest() for digest in more]
    alone = group_duplicates(digests, prints, THRESHOLD).groups
    among = group_duplicates(others + digests, np.concatenate([more_prints, prints]), THRESHOLD).groups
    assert among[60:] == alone


@pytest.mark.parametrize("alike", [False, True], ids=["all different", "all alike"])
def test_memory_is_bounded(alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # The whole matrix of correlations would take 36 MB, the pairs of the alike 72 MB.
    n = 3000
    monkeypatch.setattr(duplicates, "TILE", 256)
    prints = np.random.default_rng(0).integers(0, 256, (n, 16, 16), dtype=np.uint8)
    if alike:
        prints[:] = prints[0]
    digests = [digest(i) for i in range(n)]
    tracemalloc.start()
    found = group_duplicates(digests, prints, THRESHOLD)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(found.groups)) == (1 if alike else n)
    assert peak < 30e6


@pytest.mark.slow
@pytest.mark.skipif(ARCHIVE is None, reason=SKIP_REASON)
def test_on_photographs() -> None:
    with tarfile.open(ARCHIVE) as archive:
        members = islice((member for member in archive if member.isfile()), 300)
        files = [archive.extractfile(member).read() for member in members]
    mirrored = [Image.open(io.BytesIO(data)).transpose(Image.Transpose.FLIP_LEFT_RIGHT) for data in files[:20]]
    found = grouped(files + [encoded(image) for image in mirrored])
    assert found.groups[300:] == found.groups[:20]
    assert len(set(found.groups)) > 270
