import hashlib
import io
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from manyheads.datasets import sample
from manyheads.datasets.utkface import ParsedName
from manyheads.duplicates import group_duplicates
from manyheads.images import Undecodable, decode, fingerprint

PLANTED_COPIES = sum(sample.COPIES.values()) + sum(sample.CONFLICTING_COPIES.values())


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "sample.zip"
    sample.provide(path, path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def decoded(members):
    """Return the pixels of every image with a name in order that decodes, by name."""
    found = {}
    for name, data in members.items():
        if isinstance(sample.parse_name(name), ParsedName):
            try:
                found[name] = decode(data, 48)
            except Undecodable:
                continue
    return found


def test_it_is_the_same_file_each_time(tmp_path):
    for name in ("one.zip", "two.zip"):
        sample.provide(tmp_path / name, tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_whole_one_is_kept_and_a_damaged_one_drawn_again(tmp_path):
    path = tmp_path / "sample.zip"
    sample.provide(path, path)
    whole, written = path.read_bytes(), path.stat().st_mtime_ns
    sample.provide(path, path)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(whole[: len(whole) // 2])
    sample.provide(path, path)
    assert path.read_bytes() == whole


def test_every_planted_row_is_there(members, decoded):
    parsed = {name: sample.parse_name(name) for name in members}
    rejected = Counter(found.code for found in parsed.values() if not isinstance(found, ParsedName))
    assert rejected == {"LABEL_MISSING": 2, "LABEL_EMPTY": 1, "JUNK": len(sample.JUNK)}
    accepted = {name: found for name, found in parsed.items() if isinstance(found, ParsedName)}
    assert sum(bool(found.note) for found in accepted.values()) == len(sample.MENDED_NAMES)
    refused = Counter()
    for name in accepted.keys() - decoded.keys():
        with pytest.raises(Undecodable) as caught:
            decode(members[name], 48)
        refused[caught.value.code] += 1
    assert refused == {
        "DECODE_TRUNCATED": sample.UNDECODABLE["truncated"],
        "FORMAT_MISMATCH": sample.UNDECODABLE["png"],
        "DECODE_UNIDENTIFIED": sample.UNDECODABLE["empty"],
    }
    converted = Counter(image.note for image in decoded.values() if image.note)
    assert converted == {"greyscale": 3, "CMYK": 3, "rotated by EXIF": 3}
    assert len(members) == sample.CARDS + PLANTED_COPIES + len(sample.JUNK)


def test_labels_are_those_of_the_configured_heads(members, make_config):
    heads = make_config().data.heads
    outside = []
    for name in members:
        found = sample.parse_name(name)
        if isinstance(found, ParsedName):
            assert set(found.labels) == set(heads)
            outside += [name for head, label in found.labels.items() if heads[head].refuse(label)]
    assert len(outside) == 1  # planted: race 7
    ages = [int(name.split("/")[1].split("_")[0]) for name in members if name[7].isdigit()]
    assert np.median(ages) < np.mean(ages)


def test_duplicates_are_found_and_different_cards_told_apart(members, decoded):
    names = sorted(decoded)
    digests = [hashlib.sha256(members[name]).hexdigest() for name in names]
    found = group_duplicates(digests, np.stack([fingerprint(decoded[name].pixels) for name in names]), 0.985)
    sizes = Counter(Counter(found.groups).values())
    assert sizes == {1: len(names) - 2 * PLANTED_COPIES, 2: PLANTED_COPIES}
    assert found.identical_groups == sample.COPIES["identical"] + sample.CONFLICTING_COPIES["identical"]


def test_cards_are_jpegs_of_one_size(members):
    name = min(name for name in members if name[7].isdigit())
    with Image.open(io.BytesIO(members[name])) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (64, 64), "RGB")
