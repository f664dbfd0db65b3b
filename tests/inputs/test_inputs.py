import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from manyheads.errors import Unreadable
from manyheads.inputs import INPUTS, ImageInput, NumbersInput, TextInput

WORDS = TextInput(vocabulary=1000, length=8)
IDS = TextInput(tokens="ids", vocabulary=10, length=4)


def test_words_are_the_same_ids_whatever_their_case_and_marks_stand_alone():
    ids, note, _ = WORDS.encode(b"The cat, the CAT!")
    assert ids.tolist()[:2] == ids.tolist()[3:5]
    assert len(set(ids.tolist()[:6])) == 4
    assert ids.tolist()[6:] == [0, 0]
    assert note == ""
    assert WORDS.encode("Straße ÄÖ".encode())[0][0] == WORDS.encode("STRASSE äö".encode())[0][0]


def test_a_long_text_is_cut_and_says_so():
    ids, note, _ = WORDS.encode(b"a b c d e f g h i j")
    assert (ids > 0).all()
    assert note == "cut"


@given(st.binary())
def test_every_text_is_ids_inside_the_vocabulary_or_refused(data):
    code = ""
    try:
        ids = WORDS.encode(data).values
    except Unreadable as refusal:
        code = refusal.code
    if code:
        assert code in ("TEXT_EMPTY", "TEXT_ENCODING")
        return
    assert ids.dtype == np.int32
    assert ids.shape == (8,)
    assert 0 < ids[0] < 1000
    assert ((ids >= 0) & (ids < 1000)).all()


@pytest.mark.parametrize(
    ("kind", "data", "code", "reason"),
    [
        (WORDS, b"", "TEXT_EMPTY", "no text"),
        (WORDS, b" \n ", "TEXT_EMPTY", "no text"),
        (WORDS, b"caf\xe9", "TEXT_ENCODING", "at byte 3"),
        (IDS, b"1 2 10", "TOKEN_RANGE", "token id 10 is outside 1-9"),
        (IDS, b"0 2", "TOKEN_RANGE", "token id 0 is outside 1-9"),
        (IDS, b"1 two", "TOKEN_MALFORMED", "not token ids"),
        (NumbersInput(width=2), b"1 2 3", "NUMBER_COUNT", "3 numbers, not 2"),
        (NumbersInput(width=1), b"nan", "NUMBER_MALFORMED", "not finite"),
        (NumbersInput(width=1), b"one", "NUMBER_MALFORMED", "not a row of numbers"),
        (ImageInput(image_size=16, duplicate_correlation=1), b"<html>", "DECODE_UNIDENTIFIED", ""),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_code_and_a_reason(kind, data, code, reason):
    with pytest.raises(Unreadable) as raised:
        kind.encode(data)
    assert raised.value.code == code
    assert reason in raised.value.reason


def test_ids_and_numbers_are_taken_as_they_are():
    assert IDS.encode(b"3 9 1")[0].tolist() == [3, 9, 1, 0]
    assert NumbersInput(width=2).encode(b"0.5 -1e3")[0].tolist() == [0.5, -1000.0]


def test_a_packed_sample_has_the_shape_and_type_that_the_model_takes():
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "JPEG")
    examples = {"image": buffer.getvalue(), "text": b"a text", "numbers": b"1"}
    settings = {
        "image": {"image_size": 16, "duplicate_correlation": 1},
        "text": {"vocabulary": 9, "length": 5},
        "numbers": {},
    }
    for kind, example in examples.items():
        one = INPUTS[kind].model_validate({"kind": kind, **settings[kind]})
        values = one.encode(example)[0]
        tensor = one.tensor("x")
        assert values.shape == one.shape
        assert values.dtype == one.dtype == tensor.dtype
        assert all(size in (None, expected) for size, expected in zip(tensor.shape[1:], one.shape, strict=True))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValidationError):
        TextInput(vocabulary=1, length=3)
    with pytest.raises(ValidationError):
        ImageInput(image_size=8, duplicate_correlation=1)


def test_the_properties_of_an_image_are_those_of_the_upright_file():
    kind = ImageInput(image_size=16, duplicate_correlation=1)

    def properties(picture, **options):
        file = io.BytesIO()
        picture.save(file, "JPEG", **options)
        return kind.encode(file.getvalue()).properties

    turned = Image.Exif()
    turned[0x0112] = 6
    half = Image.new("RGB", (1600, 400))
    half.paste((255, 0, 0), (0, 0, 800, 400))
    names = ("shorter side in pixels", "aspect ratio", "contrast")
    assert [properties(half)[name] for name in names] == [400, 4, pytest.approx(125, abs=3)]
    assert properties(half, exif=turned)["aspect ratio"] == 0.25
    assert properties(Image.new("RGB", (20, 20), (255, 0, 0)))["contrast"] == 0


def test_the_properties_of_texts_and_numbers():
    assert TextInput(vocabulary=9, length=2).encode(b"Ein Wort, bitte").properties == {"tokens": 4}
    assert NumbersInput(width=2).encode(b"1 -2.5").properties == {"number 1": 1, "number 2": -2.5}


@pytest.mark.parametrize(
    ("value", "data"),
    [(b"\xff\xd8", b"\xff\xd8"), ("/9g=", b"\xff\xd8")],
)
def test_a_file_is_given_as_bytes_or_as_base64(value, data):
    assert ImageInput(image_size=16, duplicate_correlation=1).bytes_of(value) == data


@pytest.mark.parametrize("value", ["no base64!", "\udcff", 3, [1, 2], None, True, {"b64": "/9g="}])
def test_what_is_no_file_is_refused(value):
    with pytest.raises(Unreadable) as refusal:
        ImageInput(image_size=16, duplicate_correlation=1).bytes_of(value)
    assert refusal.value.code == "VALUE_MALFORMED"


@pytest.mark.parametrize("value", [[0.1, 3], (0.1, 3.0), np.array([0.1, 3]), "0.1 3", b"0.1 3"])
def test_numbers_are_given_in_a_list_an_array_or_a_text(value):
    numbers = NumbersInput(width=2)
    np.testing.assert_array_equal(numbers.encode(numbers.bytes_of(value)).values, np.float32([0.1, 3]))


@pytest.mark.parametrize("value", [None, True, [True, 1], ["1", "2"], {"a": 1}])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(Unreadable) as refusal:
        NumbersInput(width=2).bytes_of(value)
    assert refusal.value.code == "VALUE_MALFORMED"
