import hashlib

import numpy as np

from manyheads.inputs import ImageInput, TextInput
from manyheads.preprocessing.decoding import Packed, Refused
from manyheads.preprocessing.packing import Outcomes, find_duplicates, join_inputs, property_table

IMAGE, TEXT = ImageInput(image_size=16, duplicate_correlation=0.9), TextInput(vocabulary=9, length=3)
PRINT = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)


def packed(row, sha256, note="", fingerprint=None, properties=None):
    return Packed(row, sha256, fingerprint, note, properties or {})


def test_a_sample_of_several_inputs_has_all_of_them_or_is_refused():
    first = Outcomes([packed(0, "a", "cut"), packed(2, "b")], [Refused(1, "ONE", "first")])
    second = Outcomes([packed(0, "c", "cut"), packed(1, "d")], [Refused(2, "TWO", "second")])
    joined = join_inputs([first, second])
    assert joined.packed == [packed(0, hashlib.sha256(b"ac").hexdigest(), "cut")]
    assert joined.refused == [Refused(1, "ONE", "first"), Refused(2, "TWO", "second")]


def test_of_two_reasons_that_of_the_first_input_is_kept():
    outcomes = [Outcomes([], [Refused(0, "ONE", "first")]), Outcomes([], [Refused(0, "TWO", "second")])]
    assert join_inputs(outcomes).refused == [Refused(0, "ONE", "first")]


def test_the_outcomes_of_a_lone_input_stay_as_they_are():
    alone = Outcomes([packed(0, "a", fingerprint=PRINT)], [Refused(1, "ONE", "first")])
    assert join_inputs([alone]) == alone


def test_near_duplicates_are_those_of_the_inputs_fingerprints():
    same = [packed(0, "a" * 64, fingerprint=PRINT), packed(1, "b" * 64, fingerprint=PRINT[:, ::-1])]
    assert find_duplicates(same, [IMAGE]).groups == ["a" * 16] * 2
    texts = [packed(0, "a" * 64), packed(1, "b" * 64), packed(2, "b" * 64)]
    found = find_duplicates(texts, [TEXT])
    assert found.groups == ["a" * 16, "b" * 16, "b" * 16]
    assert (found.identical_groups, found.near_duplicate_pairs) == (1, 0)


def test_the_properties_of_each_input_stand_beside_the_rows_that_have_all_inputs():
    image = Outcomes([packed(2, "a", properties={"size": 9}), packed(0, "b", properties={"size": 4.5})], [])
    text = Outcomes([packed(0, "c", properties={"tokens": 3}), packed(1, "d", properties={"tokens": 8})], [])
    none = Outcomes([packed(row, "e") for row in range(3)], [])
    table = property_table({"image": image, "text": text, "none": none}, [packed(0, "x")])
    assert table.to_dict("list") == {"row": [0], "image/size": [4.5], "text/tokens": [3]}
