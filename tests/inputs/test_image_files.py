"""The decoder: the same pixels for every way of storing an image, and a code for what is no whole image."""

import io
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from manyheads.errors import Unreadable
from manyheads.inputs.image_files import MAX_PIXELS, THUMBNAIL_SIDE, decode, decode_whole, fingerprint, thumbnail

# How a camera in each EXIF orientation stores an upright picture.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture(width: int = 160, height: int = 120, seed: int = 0) -> Image.Image:
    """Return a smooth image that every rotation and reflection changes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return image.filter(ImageFilter.GaussianBlur(2))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}), **options)
    return buffer.getvalue()


def with_claimed_size(data: bytes, width: int, height: int) -> bytes:
    """Overwrite the size in the frame header, the only place of a JPEG that names it."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def code_of(data: bytes) -> str:
    with pytest.raises(Unreadable) as refusal:
        decode(data, 32)
    assert refusal.value.reason
    return refusal.value.code


def difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left.astype(int) - right.astype(int)).max())


@pytest.mark.parametrize("size", [16, 96, 250])
def test_pixels_are_those_of_a_full_decode_and_antialiased_resize(size: int) -> None:
    image = picture(200, 200)
    data = encoded(image)
    pixels, note, _ = decode(data, size)
    reference = Image.open(io.BytesIO(data)).resize((size, size), Image.Resampling.BILINEAR)
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    assert note == ""
    assert difference(pixels, np.asarray(reference)) <= 8


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 3000), (3000, 1), (199, 200), (2000, 1500)])
def test_any_aspect_ratio_becomes_a_square(width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), (200, 40, 90))
    pixels, *_ = decode(encoded(image), 24)
    assert difference(pixels, np.full((24, 24, 3), (200, 40, 90))) <= 3


@pytest.mark.parametrize("size", [20, 48, 200])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_honoured(orientation: int, size: int) -> None:
    upright = picture()
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(upright if turn is None else upright.transpose(turn), exif=exif)
    pixels, note, _ = decode(data, size)
    assert difference(pixels, decode(encoded(upright), size).pixels) <= 8
    assert note == ("" if orientation == 1 else "rotated by EXIF")


def test_an_orientation_that_does_not_exist_changes_nothing() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 9
    assert decode(encoded(picture(), exif=exif), 32).note == ""


def test_greyscale_becomes_rgb() -> None:
    grey = picture().convert("L")
    pixels, note, _ = decode(encoded(grey), 40)
    assert note == "greyscale"
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert difference(pixels[..., 0], np.asarray(grey.resize((40, 40), Image.Resampling.BILINEAR))) <= 6


def test_cmyk_becomes_rgb() -> None:
    image = picture(64, 64)
    pixels, note, _ = decode(encoded(image.convert("CMYK")), 64)
    assert note == "CMYK"
    assert difference(pixels, np.asarray(image)) <= 8


def test_ycck_becomes_rgb() -> None:
    # Pillow writes no YCCK, so its planes are put where a CMYK file has others, and the flag in the Adobe
    # marker says so. YCCK holds the luminance and chroma of the inverted colours, all planes inverted.
    image = picture(64, 64)
    inverted = 255 - np.asarray(Image.fromarray(255 - np.asarray(image)).convert("YCbCr"))
    planes = np.concatenate([inverted, np.zeros((64, 64, 1), np.uint8)], axis=2)
    data = bytearray(encoded(Image.fromarray(planes, "CMYK")))
    flag = data.index(b"Adobe") + 11
    assert data[flag] == 0
    data[flag] = 2
    pixels, note, _ = decode(bytes(data), 64)
    assert note == "CMYK"
    assert difference(pixels, np.asarray(image)) <= 12


def test_notes_are_joined() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert decode(encoded(picture().convert("L"), exif=exif), 16).note == "greyscale; rotated by EXIF"


def test_a_progressive_file_gives_the_same_pixels() -> None:
    image = picture()
    progressive = decode(encoded(image, progressive=True), 48).pixels
    assert difference(progressive, decode(encoded(image), 48).pixels) <= 2


@pytest.mark.parametrize(
    "data",
    [b"", b"<!doctype html><title>Quota exceeded</title>", np.random.default_rng(0).bytes(5000), b"\xff\xd8"],
    ids=["empty", "html", "random", "two bytes"],
)
def test_what_is_no_image(data: bytes) -> None:
    assert code_of(data) == "DECODE_UNIDENTIFIED"


LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_other_formats_give_the_pixels_that_they_hold(kind: str) -> None:
    image = picture()
    pixels, note, _ = decode(encoded(image, kind, **LOSSLESS[kind]), 48)
    assert np.array_equal(pixels, np.asarray(image.resize((48, 48), Image.Resampling.BILINEAR)))
    assert note == ""


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_honoured_in_other_formats(kind: str, orientation: int) -> None:
    turn, exif = STORED[orientation], Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = picture() if turn is None else picture().transpose(turn)
    pixels, *_ = decode(encoded(stored, kind, exif=exif, **LOSSLESS[kind]), 48)
    assert difference(pixels, decode(encoded(picture(), kind, **LOSSLESS[kind]), 48).pixels) == 0


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_and_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels, note, _ = decode(encoded(Image.fromarray(ramp), kind), 64)
    assert note == "16 bits"
    assert np.array_equal(pixels[..., 0], np.rint(ramp / 257))


def test_transparent_pixels_are_white_whatever_colour_they_hide() -> None:
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((10, 20, 200, 255), (0, 0, 32, 16))
    for each in (image, image.quantize(8)):
        pixels, note, _ = decode(encoded(each, "PNG"), 32)
        assert "transparency" in note
        assert (pixels[20:] == 255).all()
        assert difference(pixels[:12], np.full((12, 32, 3), (10, 20, 200))) <= 2


def test_a_palette_becomes_rgb() -> None:
    image = picture().quantize(64)
    pixels, note, _ = decode(encoded(image, "PNG"), 32)
    assert note == "palette"
    assert difference(pixels, np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))) == 0


def test_pixels_of_32_bits_are_refused() -> None:
    for dtype in (np.float32, np.int32):
        assert code_of(encoded(Image.fromarray(np.ones((32, 32), dtype)), "TIFF")) == "FORMAT_UNSUPPORTED"


@pytest.mark.parametrize("data", [encoded(picture(), "GIF"), b"\0\0\0 ftypheic" + bytes(40)], ids=["GIF", "HEIF"])
def test_formats_that_are_not_read_are_named(data: bytes) -> None:
    assert code_of(data) == "FORMAT_UNSUPPORTED"


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files_of_other_formats(kind: str, share: float) -> None:
    data = encoded(picture(300, 300), kind)
    assert code_of(data[: int(len(data) * share)]) in ("DECODE_TRUNCATED", "DECODE_FAILED")


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_truncated_file(share: float) -> None:
    data = encoded(picture(300, 300))
    assert code_of(data[: int(len(data) * share)]) == "DECODE_TRUNCATED"


def test_missing_end_mark() -> None:
    assert code_of(encoded(picture())[:-2]) == "DECODE_TRUNCATED"


@pytest.mark.parametrize("length", [10, 100, 300])
def test_file_cut_in_its_header(length: int) -> None:
    assert code_of(encoded(picture())[:length]) in ("DECODE_TRUNCATED", "DECODE_FAILED")


def test_damaged_tables() -> None:
    data = bytearray(encoded(picture()))
    at = data.index(b"\xff\xc4") + 5
    data[at : at + 16] = b"\xff" * 16
    assert code_of(bytes(data)) == "DECODE_FAILED"


@pytest.mark.parametrize(("width", "height"), [(8000, 7000), (12000, 12000), (65000, 65000)])
def test_claimed_size_is_refused_before_decoding(width: int, height: int, recwarn: pytest.WarningsRecorder) -> None:
    assert width * height > MAX_PIXELS
    assert code_of(with_claimed_size(encoded(picture()), width, height)) == "PIXELS_LIMIT"
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["MPO", "TIFF", "WEBP", "PNG"])
def test_the_first_of_several_images_in_one_file_is_read(kind: str) -> None:
    data = encoded(picture(), kind, save_all=True, append_images=[picture(seed=1)])
    pixels, note, _ = decode(data, 32)
    assert note == "first of several images"
    assert difference(pixels, decode(encoded(picture(), "PNG"), 32).pixels) <= 12


def test_fingerprint_is_the_mean_of_each_cell() -> None:
    pixels = np.repeat(np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16), 3, axis=0), 3, axis=1)
    cells = fingerprint(np.repeat(pixels[..., None], 3, axis=2))
    assert cells.dtype == np.uint8
    assert np.array_equal(cells, np.arange(256).reshape(16, 16))


@pytest.mark.parametrize(("side", "shown"), [(16, 16), (THUMBNAIL_SIDE, THUMBNAIL_SIDE), (400, THUMBNAIL_SIDE)])
def test_a_thumbnail_is_small_and_shows_the_picture(side: int, shown: int) -> None:
    pixels = np.asarray(picture(side, side))
    again = decode_whole(thumbnail(pixels))
    assert again.shape == (shown, shown, 3)
    expected = np.asarray(picture(side, side).resize((shown, shown), Image.Resampling.BOX))
    assert np.abs(again.astype(int) - expected.astype(int)).mean() < 5  # the chroma of a JPEG is coarse
