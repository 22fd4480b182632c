"""What photos and masks come in as, or why they don't. Expected values are computed by hand from what is written."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from synthset.errors import InputError
from synthset.sources import pictures
from synthset.sources.decoding import decode_pair, decode_record, upright_size
from synthset.sources.reading import Reading, Record

SIZE = (8, 6)  # width and height
WIDTH, HEIGHT = SIZE
BITS = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH), dtype=np.uint8)
COLORS = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def png16(samples, *chunks):
    """A PNG of 16 bits per channel, which Pillow can't write in color."""
    samples = samples.reshape(*samples.shape[:2], -1)
    height, width, channels = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def encoded(picture, form="PNG", orientation=None, **options):
    """A file of a picture or pixels."""
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif.tobytes()
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def decode(photo, *masks, drawing=None, listed=None, **choices):
    """Decodes files, given as bytes, by the choices of a `Reading`; `listed` are the classes of drawn objects."""
    values = [{"bytes": content, "path": None} for content in (photo, *masks)]
    names = tuple(f"mask {number}" for number in range(len(masks)))
    record = Record(values[0], drawing or tuple(values[1:]), "photo", names)
    return decode_record(record, Reading(**choices), listed)


def photo_of(content, **choices):
    return np.asarray(decode(content, **choices).image)


def mask_of(content, **choices):
    return decode(encoded(COLORS), content, **choices)


def palette(indices, *colors):
    picture = Image.fromarray(indices, "L").convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette([value for color in colors for value in color])
    return picture


# Bits

DEEP = np.random.default_rng(2).integers(0, 2**12, (HEIGHT, WIDTH, 4), dtype=np.uint16)
DEEP[0, 0] = 4095
OF_12_BITS = np.round(DEEP / 4095 * 255).astype(np.uint8)
OPAQUE = np.dstack([DEEP[..., :3], np.full((HEIGHT, WIDTH), 65535, np.uint16)])
DEEP_FILES = {
    "PNG gray": (png16(DEEP[..., 0]), np.repeat(OF_12_BITS[..., :1], 3, axis=2)),
    "PNG gray and alpha": (png16(OPAQUE[..., 2:]), np.repeat(OF_12_BITS[..., 2:3], 3, axis=2)),
    "PNG RGB": (png16(DEEP[..., :3]), OF_12_BITS[..., :3]),
    "PNG RGBA": (png16(OPAQUE), OF_12_BITS[..., :3]),
    "TIFF gray": (tiff(DEEP[..., 0]), np.repeat(OF_12_BITS[..., :1], 3, axis=2)),
    "TIFF big-endian gray": (tiff(DEEP[..., 0], byteorder=">"), np.repeat(OF_12_BITS[..., :1], 3, axis=2)),
    "TIFF RGB": (tiff(DEEP[..., :3], photometric="rgb"), OF_12_BITS[..., :3]),
    "TIFF big-endian RGB": (tiff(DEEP[..., :3], photometric="rgb", byteorder=">"), OF_12_BITS[..., :3]),
    "TIFF tiled": (tiff(DEEP[..., :3], photometric="rgb", tile=(16, 16)), OF_12_BITS[..., :3]),
    "TIFF deflate": (tiff(DEEP[..., :3], photometric="rgb", compression="zlib", predictor=True), OF_12_BITS[..., :3]),
    "TIFF RGBA": (tiff(OPAQUE, photometric="rgb", extrasamples=["unassalpha"]), OF_12_BITS[..., :3]),
    "TIFF premultiplied": (tiff(OPAQUE, photometric="rgb", extrasamples=["assocalpha"]), OF_12_BITS[..., :3]),
}


@pytest.mark.parametrize("kind", DEEP_FILES)
def test_photos_of_12_bits_come_in_as_bright_as_they_are(kind):
    content, expected = DEEP_FILES[kind]
    assert np.array_equal(photo_of(content, bit_depth=12), expected)
    with pytest.raises(
        InputError, match=r"^photo has 16 bits per channel but values up to 4095.*prepare --bit_depth 12"
    ):
        decode(content)
    with pytest.raises(InputError, match="^photo has values up to 4095, more than 11 bits; .*--bit_depth 12"):
        decode(content, bit_depth=11)


def test_lzw_which_needs_no_other_package(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": 3, "dtype": "uint16", "photometric": "rgb"}
    with rasterio.open(tmp_path / "a.tif", "w", compress="lzw", interleave="pixel", **profile) as file:
        file.write(np.moveaxis(DEEP[..., :3], 2, 0))
    assert np.array_equal(photo_of((tmp_path / "a.tif").read_bytes(), bit_depth=12), OF_12_BITS[..., :3])


def test_the_mean_of_a_12_bit_picture_is_kept():
    samples = np.full((HEIGHT, WIDTH, 3), round(99 / 255 * 4095), np.uint16)
    assert photo_of(png16(samples, (b"sBIT", b"\x0c\x0c\x0c"))).mean() == 99
    assert photo_of(png16(samples), bit_depth=12).mean() == 99


FULL = np.random.default_rng(3).integers(0, 2**16, (HEIGHT, WIDTH, 3), dtype=np.uint16)
SCALED = (DEEP[..., :3] << 4) | (DEEP[..., :3] >> 8)  # 12 bits as the PNG specification scales them to 16
STATED = {
    "16 bits in use": (png16(FULL), np.round(FULL / 65535 * 255)),
    "sBIT, as they are": (png16(DEEP[..., :3], (b"sBIT", b"\x0c\x0c\x0c")), OF_12_BITS[..., :3]),
    "sBIT, scaled": (png16(SCALED, (b"sBIT", b"\x0c\x0c\x0c")), OF_12_BITS[..., :3]),
    "sBIT, scaled and dark": (
        png16(DEEP[..., :3] // 64 << 4, (b"sBIT", b"\x0c\x0c\x0c")),
        DEEP[..., :3] // 64 / 4095 * 255,
    ),
    "MaxSampleValue": (
        tiff(DEEP[..., :3], photometric="rgb", extratags=[(281, 3, 3, (4095,) * 3, True)]),
        OF_12_BITS[..., :3],
    ),
    "JPEG 2000": (encoded(Image.fromarray(FULL[..., 0]), "JPEG2000"), np.round(FULL[..., :1] / 65535 * 255)),
    "PGM of 10 bits": (
        b"P5 8 6 1023 " + (DEEP[..., 0] >> 2).astype(">u2").tobytes(),
        np.round((DEEP[..., :1] >> 2) / 1023 * 255),
    ),
    "PPM of 10 bits": (
        b"P6 8 6 1023 " + (DEEP[..., :3] >> 2).astype(">u2").tobytes(),
        np.round((DEEP[..., :3] >> 2) / 1023 * 255),
    ),
}


@pytest.mark.parametrize("kind", STATED)
def test_bits_that_a_file_states_are_scaled(kind):
    content, expected = STATED[kind]
    assert np.abs(photo_of(content) - np.broadcast_to(expected, (HEIGHT, WIDTH, 3))).max() <= 1


def test_a_bright_defect_does_not_make_16_bits_of_12():
    samples = np.full((60, 60, 3), 1000, np.uint16)
    samples[3, 3] = 65535
    with pytest.raises(InputError, match="values up to 65535"):
        photo_of(png16(samples))
    assert photo_of(png16(samples), bit_depth=16).max() == 255


def test_heic_of_10_bits_is_scaled_by_its_decoder():
    pillow_heif = pytest.importorskip("pillow_heif")
    levels = np.linspace(0, 1023, 64).astype(np.uint16)[None, :, None].repeat(64, 0).repeat(3, 2)
    file = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (64, 64), (levels << 6).tobytes()).save(file, quality=-1)
    assert np.abs(photo_of(file.getvalue()) - levels / 1023 * 255).max() <= 4


# Orientation


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_and_masks_are_turned_upright(orientation, form):
    lossless = {"WEBP": {"lossless": True}}.get(form, {})
    photo = encoded(COLORS, form, orientation, **lossless)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(photo))).convert("RGB")
    upright_mask = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(BITS * 255, "PNG", orientation)))))
    decoded = decode(photo, encoded(upright_mask), mask_orientation="upright")
    assert np.array_equal(decoded.image, expected)
    assert decoded.image.size == upright_size({"bytes": photo, "path": None})
    assert np.array_equal(decoded.mask, upright_mask > 0)
    assert decoded.repaired == (("rotated upright by EXIF",) if orientation > 1 else ())
    # the same mask, as a file that EXIF rotates
    decoded = decode(photo, encoded(BITS * 255, "PNG", orientation))
    assert np.array_equal(decoded.mask, upright_mask > 0) and not decoded.suspicious
    # the same mask, drawn on the stored pixels
    decoded = decode(photo, encoded(BITS * 255), mask_orientation="stored")
    assert np.array_equal(decoded.mask, upright_mask > 0)
    assert ("mask drawn on stored pixels, rotated with its photo" in decoded.repaired) == (orientation > 1)


@pytest.mark.parametrize("kind", ["gray", "RGB"])
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_photos_of_16_bits_are_turned_upright(form, kind):
    samples = FULL[..., 0] if kind == "gray" else FULL
    exif = Image.Exif()
    exif[0x0112] = 8
    png = png16(samples, (b"eXIf", exif.tobytes()[6:]))
    photo = png if form == "PNG" else tiff(samples, extratags=[(0x0112, 3, 1, 8, True)])
    expected = np.rot90(np.round(samples / 65535 * 255)).reshape(WIDTH, HEIGHT, -1)
    decoded = decode(photo, encoded(BITS * 255))
    assert np.array_equal(decoded.image, np.broadcast_to(expected, (WIDTH, HEIGHT, 3)))
    assert np.array_equal(decoded.mask, np.rot90(BITS)) and upright_size({"bytes": photo, "path": None}) == (6, 8)


def test_a_mask_that_fits_the_stored_pixels_only_is_turned_with_its_photo():
    decoded = decode(encoded(COLORS, orientation=6), encoded(BITS * 255))
    assert np.array_equal(decoded.mask, np.rot90(BITS, -1)) and decoded.image.size == (HEIGHT, WIDTH)
    assert decoded.repaired == ("rotated upright by EXIF", "mask drawn on stored pixels, rotated with its photo")
    row = {"image": encoded(COLORS, orientation=6), "mask": encoded(BITS * 255)}
    pair = decode_pair({key: {"bytes": value, "path": None} for key, value in row.items()}, name=str)
    assert np.array_equal(pair["mask"], np.rot90(BITS, -1)) and np.array_equal(pair["image"], decoded.image)


def test_labels_are_turned_with_their_mask():
    labels = BITS * 7
    decoded = decode(encoded(COLORS, orientation=8), encoded(labels), object_values=(7,))
    assert np.array_equal(decoded.labels, np.rot90(labels)) and np.array_equal(decoded.mask, np.rot90(BITS))


@pytest.mark.parametrize("orientation, size", [(6, (8, 8)), (3, SIZE), (2, SIZE)])
def test_where_both_orientations_fit_the_flag_decides(orientation, size):
    pixels = np.resize(COLORS, (size[1], size[0], 3))
    bits = np.resize(BITS, size[::-1])
    photo = encoded(pixels, orientation=orientation)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(bits, orientation=orientation)))))
    undecided = decode(photo, encoded(bits))
    assert np.array_equal(undecided.mask, bits)
    assert len(undecided.suspicious) == 1 and "--mask_orientation decides" in undecided.suspicious[0]
    for choice, expected in (("upright", bits), ("stored", turned)):
        decided = decode(photo, encoded(bits), mask_orientation=choice)
        assert np.array_equal(decided.mask, expected) and not decided.suspicious


def test_sizes_that_fit_in_no_orientation_name_exif():
    expected = r"^mask 0 is 5x5 pixels but photo is 6x8 \(8x6 before its EXIF rotation\); make both one size$"
    with pytest.raises(InputError, match=expected):
        decode(encoded(COLORS, orientation=6), encoded(np.zeros((5, 5), np.uint8)))
    with pytest.raises(InputError, match="^mask 0 is 6x8 pixels but photo is 8x6; make both one size$"):
        decode(encoded(COLORS), encoded(BITS.T.copy()))


# What a file holds beyond what is read

HALF = np.dstack([COLORS, np.where(np.arange(WIDTH) < 2, 0, 255).astype(np.uint8)[None].repeat(HEIGHT, 0)])
BLENDED = np.where(HALF[..., 3:] > 0, COLORS, (255, 0, 128))
GRAY_HALF = Image.fromarray(HALF[..., 0]).convert("LA")
GRAY_HALF.putalpha(Image.fromarray(HALF[..., 3]))
TRANSPARENT = {
    "RGBA": (encoded(HALF), BLENDED),
    "RGBA as WEBP": (encoded(HALF, "WEBP", lossless=True, exact=True), BLENDED),
    "RGBA as TIFF": (encoded(HALF, "TIFF"), BLENDED),
    "LA": (encoded(GRAY_HALF), np.where(HALF[..., 3:] > 0, COLORS[..., :1], (255, 0, 128))),
    "RGB with a transparent color": (
        encoded(np.where(HALF[..., 3:] > 0, COLORS | 1, 0).astype(np.uint8), transparency=(0, 0, 0)),
        np.where(HALF[..., 3:] > 0, COLORS | 1, (255, 0, 128)),
    ),
    "palette": (
        encoded(palette((HALF[..., 3] > 0).astype(np.uint8), (9, 9, 9), (1, 2, 3)), transparency=0),
        np.where(HALF[..., 3:] > 0, (1, 2, 3), (255, 0, 128)),
    ),
    "GIF": (
        encoded(palette((HALF[..., 3] > 0).astype(np.uint8), (9, 9, 9), (1, 2, 3)), "GIF", transparency=0),
        np.where(HALF[..., 3:] > 0, (1, 2, 3), (255, 0, 128)),
    ),
    "16 bits": (
        png16(np.dstack([FULL, HALF[..., 3].astype(np.uint16) * 257])),
        np.where(HALF[..., 3:] > 0, np.round(FULL / 65535 * 255), (255, 0, 128)),
    ),
    "16 bits with a transparent color": (
        png16(np.where(HALF[..., 3:] > 0, FULL | 1, 500), (b"tRNS", struct.pack(">HHH", 500, 500, 500))),
        np.where(HALF[..., 3:] > 0, np.round((FULL | 1) / 65535 * 255), (255, 0, 128)),
    ),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparent_photos_need_a_color_behind_them(kind):
    content, expected = TRANSPARENT[kind]
    with pytest.raises(InputError, match=r"^photo has transparent pixels \(25 %\).*prepare --background_color"):
        decode(content)
    assert np.array_equal(photo_of(content, background_color=(255, 0, 128)), expected)


def test_opaque_alpha_is_dropped_from_photos_and_masks():
    opaque = np.dstack([COLORS, np.full_like(BITS, 255)])
    white = np.dstack([BITS * 255] * 3 + [np.full_like(BITS, 255)])
    decoded = decode(encoded(opaque), encoded(white))
    assert np.array_equal(decoded.image, COLORS) and np.array_equal(decoded.mask, BITS)
    assert not decoded.repaired and not decoded.suspicious and decoded.labels is None


def frames(form, **options):
    return encoded(COLORS, form, save_all=True, append_images=[Image.fromarray(255 - COLORS)], **options)


PREVIEW = io.BytesIO()
with tifffile.TiffWriter(PREVIEW) as writer:
    writer.write(COLORS, photometric="rgb")
    writer.write(COLORS[::2, ::2], photometric="rgb", subfiletype=1)

REFUSED_PHOTOS = {
    "animated GIF": (frames("GIF"), "holds 2 pictures"),
    "animated PNG": (frames("PNG"), "holds 2 pictures"),
    "animated WEBP": (frames("WEBP"), "holds 2 pictures"),
    "AVIF sequence": (frames("AVIF"), "holds 2 pictures"),
    "pages of TIFF": (frames("TIFF"), "holds 2 pictures"),
    "CMYK": (encoded(Image.fromarray(COLORS).convert("CMYK"), "JPEG"), "is CMYK without a color profile"),
    "Lab": (encoded(Image.new("LAB", SIZE), "TIFF"), "has Lab color"),
    "float": (tiff(np.zeros((HEIGHT, WIDTH), np.float32)), "has 32 or signed bits"),
    "32 bits": (tiff(np.zeros((HEIGHT, WIDTH), np.int32)), "has 32 or signed bits"),
    "fourth band": (
        tiff(HALF, photometric="rgb", extrasamples=["unspecified"]),
        r"has 4 bands, of which 1 are neither color nor transparency; .*prepare --bands .*synthset\[raster\]",
    ),
    "five bands of 16 bits": (
        tiff(np.zeros((HEIGHT, WIDTH, 5), np.uint16), photometric="minisblack", planarconfig="contig"),
        r"is a TIFF of a kind that only rasters have \(5 bands of 16 bits\); .*--bands",
    ),
    "planes of 16 bits": (
        tiff(np.moveaxis(FULL, 2, 0), photometric="rgb", planarconfig="separate"),
        "one plane per color; .*--bands",
    ),
    "white is zero, 16 bits": (tiff(DEEP[..., 0], photometric="miniswhite"), "zero is white"),
    "missing strips": (
        tiff(COLORS, photometric="rgb").replace(
            struct.pack("<HHI", 257, 4, 1) + b"\6", struct.pack("<HHI", 257, 4, 1) + b"\t"
        ),
        "is truncated: it claims 8 x 9 pixels, and holds fewer",
    ),
    "truncated JPEG": (encoded(COLORS.repeat(40, 0), "JPEG")[:-60], "can't be read as an image: .*truncated"),
    "other format": (encoded(COLORS, "TGA"), r"in no image format that is read \(AVIF, BMP, .*WEBP\)"),
    "no bytes": (b"", r"an empty file \(0 bytes\)"),
}


@pytest.mark.parametrize("kind", REFUSED_PHOTOS)
def test_photos_of_which_pillow_would_drop_something_are_refused(kind):
    content, expected = REFUSED_PHOTOS[kind]
    with pytest.raises(InputError, match=f"^photo .*{expected}") as caught:
        decode(content)
    assert "\n" not in str(caught.value)


def test_previews_in_a_file_are_no_further_pictures():
    assert np.array_equal(photo_of(PREVIEW.getvalue()), COLORS)
    assert photo_of(frames("MPO")).shape == COLORS.shape


def test_a_flipped_bit_of_a_png_is_found():
    content = encoded(BITS * 255)
    start = content.index(b"IDAT") + 4
    for place in range(start, start + 12):
        damaged = bytearray(content)
        damaged[place] ^= 4
        with pytest.raises(InputError, match="^mask 0 (is damaged|can't be read)"):
            mask_of(bytes(damaged))


# Color profiles


def profile_of(name):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def matrix_profile(primaries, gamma, description):
    """An ICC profile (version 2) of three primaries in XYZ, adapted to D50, and a power law."""

    def fixed(*values):
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    text = description.encode() + b"\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78 + -len(text) % 4)
    tags = [(b"desc", described), (b"wtpt", b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249))]
    tags += [
        (name, b"XYZ " + bytes(4) + fixed(*xyz))
        for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
    ]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    place, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags:
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", place + len(data), len(content))
        data += content
    header = struct.pack(">I4sI4s4s4s", place + len(data), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + data


# Adobe RGB (1998), annex B: primaries adapted to D50, gamma 563/256
ADOBE_RGB = matrix_profile(
    [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)],
    2.19921875,
    "Adobe RGB (1998)",
)


def srgb_of_adobe_rgb(color):
    """By the definitions of both spaces: Adobe RGB 4.3.1.2 and IEC 61966-2-1."""
    to_xyz = [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    from_xyz = [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    linear = np.array(from_xyz) @ np.array(to_xyz) @ (np.array(color) / 255) ** 2.19921875
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_color_profiles_are_converted_to_srgb():
    color = (170, 90, 60)
    decoded = decode(encoded(Image.new("RGB", SIZE, color), icc_profile=ADOBE_RGB))
    expected = srgb_of_adobe_rgb(color)
    assert np.abs(expected - color).max() > 8  # what would be lost
    assert np.abs(np.asarray(decoded.image) - expected).max() <= 2
    assert decoded.repaired == ("color profile Adobe RGB (1998) converted to sRGB",)


@pytest.mark.parametrize("picture", ["RGB", "L", "P"])
def test_srgb_and_gray_need_no_conversion(picture):
    photo = Image.fromarray(COLORS).quantize(4) if picture == "P" else Image.fromarray(COLORS).convert(picture)
    decoded = decode(encoded(photo, icc_profile=profile_of("sRGB")))
    assert np.array_equal(decoded.image, photo.convert("RGB"))
    assert not decoded.repaired and not decoded.suspicious


@pytest.mark.parametrize("profile", [b"not a profile", ADOBE_RGB[:200], profile_of("LAB")], ids=["text", "cut", "Lab"])
def test_damaged_profiles_are_ignored_and_said(profile):
    decoded = decode(encoded(COLORS, icc_profile=profile))
    assert np.array_equal(decoded.image, COLORS)
    assert len(decoded.suspicious) == 1 and "color profile that can't be used" in decoded.suspicious[0]


def test_other_ignored_statements_about_colors_are_suspicious():
    linear = png16(FULL, (b"gAMA", struct.pack(">I", 100000)))
    assert decode(linear).suspicious == ("gamma 1 in the file, read as sRGB",)
    assert not decode(png16(FULL, (b"gAMA", struct.pack(">I", 45455)))).suspicious
    assert decode(png16(FULL, (b"cICP", bytes([9, 16, 0, 1])))).suspicious == ("high dynamic range, read as sRGB",)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    assert decode(encoded(COLORS, "JPEG", exif=exif)).suspicious[0].startswith("Adobe RGB by EXIF")
    damaged = decode(encoded(COLORS, exif=b"Exif\0\0MM\0*\0\0\xff\xff"))
    assert np.array_equal(damaged.image, COLORS)


# Masks of the strict convention

BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (200, 10, 10)
BINARY_MASKS = {
    "0 and 255": (encoded(BITS * 255), "0 and 255"),
    "0 and 1": (encoded(BITS), "0 and 1"),
    "1 bit": (encoded(Image.fromarray(BITS * 255).convert("1")), "0 and 255"),
    "gray RGB": (encoded(np.dstack([BITS * 255] * 3)), "0 and 255"),
    "16 bits": (encoded(BITS.astype(np.uint16)), "0 and 1"),
    "16 bits, white": (encoded(BITS * np.uint16(65535)), "0 and 65535"),
    "16 bits RGB": (png16(np.dstack([BITS * np.uint16(255)] * 3)), "0 and 255"),
    "palette of black and white": (encoded(palette(BITS, BLACK, WHITE)), "palette of black and white"),
    "palette of white and black": (encoded(palette(1 - BITS, WHITE, BLACK)), "palette of black and white"),
    "GIF of white and black": (encoded(palette(1 - BITS, WHITE, BLACK), "GIF"), "palette of black and white"),
    "BMP of white and black": (encoded(palette(1 - BITS, WHITE, BLACK), "BMP"), "palette of black and white"),
    "palette of other colors": (encoded(palette(BITS, BLACK, RED)), "palette of other colors"),
    "palette of one class of many": (encoded(palette(BITS, BLACK, RED, WHITE)), "palette of other colors"),
    "TIFF of white as zero": (tiff((1 - BITS) * np.uint8(255), photometric="miniswhite"), "0 and 255"),
}


@pytest.mark.parametrize("kind", BINARY_MASKS)
def test_masks_of_two_values_come_in_by_their_meaning(kind):
    content, convention = BINARY_MASKS[kind]
    decoded = mask_of(content)
    assert decoded.mask.mode == "L" and np.array_equal(decoded.mask, BITS)
    assert (decoded.convention, decoded.labels) == (convention, None)


@pytest.mark.parametrize(
    "picture, expected",
    [
        (palette(np.zeros_like(BITS), WHITE, BLACK), 1),
        (palette(np.ones_like(BITS), WHITE, BLACK), 0),
        (palette(np.zeros_like(BITS), RED, BLACK), 0),
        (Image.new("L", SIZE), 0),
        (Image.new("L", SIZE, 255), 1),
    ],
)
def test_masks_of_one_value(picture, expected):
    assert (np.asarray(mask_of(encoded(picture)).mask) == expected).all()


ALPHA = np.dstack([np.full_like(COLORS, 7), BITS * 255])
LEVELS = np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH)
ISLANDS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
ISLANDS[:2], ISLANDS[2:4, :4] = (0xB0, 0, 0), (0, 0xFF, 0x10)
CLASSES = {"background": 0, "crop": 3, "weed": 5}
REFUSED_MASKS = {
    "values": (BITS * 3, {}, "values 0, 3; .*--object_value, --mask_threshold or --instances"),
    "many": (LEVELS, {}, r"values 0, 1, 2, 3, 4, 5, \.\.\. \(48 different\); save it losslessly"),
    "colors": (ISLANDS, {}, r"colors \(#000000, #00ff10, #b00000\); .*prepare --object_color"),
    "colors by value": (ISLANDS, {"object_values": (3,)}, "colors .*#00ff10.* not of values; .*--object_color"),
    "colors by threshold": (
        ISLANDS,
        {"mask_threshold": 9},
        "colors .* --mask_threshold does not apply; .*--object_color",
    ),
    "gray by color": (BITS * 9, {"object_colors": (RED,)}, r"gray mask \(values 0, 9\).*--object_value"),
    "alpha": (ALPHA, {}, "one color whose transparency varies .*--mask_channel alpha"),
    "transparent": (HALF, {}, r"transparent pixels \(25 %\), which hide values"),
    "transparent value of 16 bits": (
        png16(BITS * np.uint16(7), (b"tRNS", struct.pack(">H", 7))),
        {"object_values": (7,)},
        "transparent pixels .*, which hide values",
    ),
    "no alpha": (BITS, {"mask_channel": "alpha"}, "without an alpha channel"),
    "unknown value": (
        BITS * 4,
        {"classes": CLASSES, "object_classes": ("weed",)},
        "values 4 that are not in --classes",
    ),
    "unknown color": (
        ISLANDS,
        {"classes": {"crop": (0xB0, 0, 0)}},
        "colors #00ff10 that are not in --classes; add them there",
    ),
    "no class chosen": (BITS * 3, {"classes": CLASSES}, r"2 classes \(crop, weed\); .*--object_class"),
    "no such class": (
        BITS * 3,
        {"classes": CLASSES, "object_classes": ("tree",)},
        "no class 'tree' .*background, crop",
    ),
}


@pytest.mark.parametrize("kind", REFUSED_MASKS)
def test_masks_of_two_readings_are_refused(kind):
    pixels, choices, expected = REFUSED_MASKS[kind]
    with pytest.raises(InputError, match=f"^mask 0 .*{expected}"):
        mask_of(pixels if isinstance(pixels, bytes) else encoded(pixels), **choices)


VALUES = np.resize(np.array([0, 1, 2, 255], np.uint8), (HEIGHT, WIDTH))
DEEP_VALUES = np.resize(np.array([0, 256, 257, 4000], np.uint16), (HEIGHT, WIDTH))
CODES = ISLANDS.astype(np.int32) @ [65536, 256, 1]
LABELED = {
    "one value": (VALUES, {"object_values": (2,)}, VALUES == 2, VALUES),
    "several values": (VALUES, {"object_values": (2, 255)}, VALUES >= 2, VALUES),
    "a value that is absent": (VALUES, {"object_values": (9,)}, VALUES < 0, VALUES),
    "16 bits": (DEEP_VALUES, {"object_values": (257,)}, DEEP_VALUES == 257, DEEP_VALUES),
    "palette by index": (palette(VALUES % 3, RED, WHITE, BLACK), {"object_values": (2,)}, VALUES % 3 == 2, VALUES % 3),
    "black and white palette by index": (palette(BITS, WHITE, BLACK), {"object_values": (1,)}, BITS == 1, BITS),
    "a color": (ISLANDS, {"object_colors": ((0xB0, 0, 0),)}, CODES == 0xB00000, CODES),
    "a color of a palette": (
        palette(BITS, BLACK, RED),
        {"object_colors": (RED,)},
        BITS == 1,
        BITS.astype(np.int32) * 0xC80A0A,
    ),
    "colors, none there": (np.zeros_like(BITS), {"object_colors": (RED,)}, BITS < 0, BITS * 0),
    "classes of values": (
        VALUES,
        {"classes": {"soil": 1, "crop": 2, "edge": 255}, "object_classes": ("crop", "edge")},
        VALUES >= 2,
        VALUES,
    ),
    "one class": (BITS * 3, {"classes": {"background": 0, "crop": 3}}, BITS == 1, BITS * 3),
    "classes of colors": (
        ISLANDS,
        {"classes": {"crop": (0xB0, 0, 0), "weed": (0, 0xFF, 0x10)}, "object_classes": ("weed",)},
        CODES == 0x00FF10,
        CODES,
    ),
    "instances": (DEEP_VALUES, {"instances": True}, DEEP_VALUES > 0, DEEP_VALUES),
    "instances by color": (ISLANDS, {"instances": True}, CODES > 0, CODES),
    "threshold": (VALUES, {"mask_threshold": 1}, VALUES > 1, None),
    "threshold of a gray palette": (palette(BITS, (90,) * 3, (9,) * 3), {"mask_threshold": 50}, BITS == 0, None),
    "alpha": (ALPHA, {"mask_channel": "alpha"}, BITS == 1, None),
}


@pytest.mark.parametrize("kind", LABELED)
def test_flags_say_what_the_object_is_and_labels_are_kept(kind):
    stored, choices, mask, labels = LABELED[kind]
    decoded = mask_of(encoded(stored), **choices)
    assert np.array_equal(decoded.mask, mask)
    if labels is None:
        assert decoded.labels is None
    else:
        assert decoded.labels.dtype == np.int32 and np.array_equal(decoded.labels, labels)
        colors = "object_colors" in choices or kind in ("classes of colors", "instances by color")
        assert decoded.label_kind == ("colors" if colors else "values")


def test_several_masks_are_merged_and_none_is_no_object():
    left, right = BITS.copy(), BITS.copy()
    left[:, 4:], right[:, :4] = 0, 0
    decoded = decode(encoded(COLORS), encoded(left * 255), encoded(right), merge_masks=True)
    assert np.array_equal(decoded.mask, BITS)
    assert decoded.suspicious == ("masks in 2 conventions: 0 and 1, 0 and 255",)
    decoded = decode(encoded(COLORS), encoded(left * 3), encoded(right * 5), object_values=(5,))
    assert np.array_equal(decoded.mask, right) and np.array_equal(decoded.labels, left * 3 + right * 5)
    with pytest.raises(InputError, match="^mask 1 is 5x5 pixels but photo is 8x6"):
        decode(encoded(COLORS), encoded(left), encoded(np.zeros((5, 5), np.uint8)))
    assert not np.asarray(decode(encoded(COLORS)).mask).any() and decode(encoded(COLORS)).labels is None
    assert np.array_equal(decode(encoded(COLORS), object_values=(5,)).labels, BITS * 0)


class Drawn:
    """Objects as `labels`, for photos of their size."""

    def __init__(self, labels, stated=True):
        self.labels, self.size, self.name = labels, labels.shape[::-1] if stated else None, "export.json"

    def label_map(self, size, window=None):
        if size != self.labels.shape[::-1]:
            raise InputError(f"{self.name} is for another size than {size}")
        return self.labels


def test_drawn_objects():
    drawn = Drawn(BITS * 2)
    photo, listed = encoded(COLORS), ("crop", "weed")
    decoded = decode(photo, drawing=drawn, listed=listed, object_classes=("weed",))
    assert np.array_equal(decoded.mask, BITS) and np.array_equal(decoded.labels, BITS * 2)
    assert decoded.label_kind == "classes"
    assert not np.asarray(decode(photo, drawing=drawn, listed=listed, object_classes=("crop",)).mask).any()
    one = decode(photo, drawing=Drawn(BITS), listed=("crop",))
    assert np.array_equal(one.mask, BITS) and one.labels is None
    with pytest.raises(InputError, match=r"^export.json has 2 classes \(crop, weed\); .*prepare --object_class"):
        decode(photo, drawing=drawn, listed=listed)
    with pytest.raises(InputError, match="^export.json has no class 'tree'"):
        decode(photo, drawing=drawn, listed=listed, object_classes=("tree",))


def test_objects_drawn_on_stored_pixels_are_turned_with_their_photo():
    photo = encoded(COLORS, orientation=6)
    decoded = decode(photo, drawing=Drawn(BITS), listed=("crop",))
    assert np.array_equal(decoded.mask, np.rot90(BITS, -1))
    assert "mask drawn on stored pixels, rotated with its photo" in decoded.repaired
    upright = Drawn(np.rot90(BITS, -1))
    assert np.array_equal(decode(photo, drawing=upright, listed=("crop",)).mask, np.rot90(BITS, -1))
    unstated = Drawn(np.rot90(BITS, -1), stated=False)
    assert decode(photo, drawing=unstated, listed=("crop",)).suspicious
    with pytest.raises(InputError, match="^export.json is for another size"):
        decode(photo, drawing=Drawn(np.zeros((5, 5), np.uint8)), listed=("crop",))


# Limits, and files that are none


def header_of(width, height):
    """A PNG that claims a size."""
    content = png16(np.zeros((1, 1), np.uint16))
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


@pytest.mark.parametrize("size", [(20000, 20000), (2**31 - 1, 2**31 - 1), (16385, 16384)])
def test_too_large_pictures_are_refused_by_their_header(size):
    for read in (decode, lambda content: upright_size({"bytes": content, "path": None})):
        with pytest.raises(
            InputError, match="more than 268,435,456.*; cut it into tiles with synthset prepare --tile_size"
        ):
            read(header_of(*size))


def test_a_photo_of_190_megapixels_is_none_of_them():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert upright_size({"bytes": header_of(15900, 12000), "path": None}) == (15900, 12000)
        with pytest.raises(InputError, match="can't be read"):
            decode(header_of(10, 12000))  # few pixels of those that the header claims


def test_paths_that_are_no_files(tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder.png").mkdir()
    for path, expected in {
        tmp_path / "loop.png": "can't be read as an image",
        tmp_path / "folder.png": "is not a file",
        tmp_path / "gone.png": "no such file",
        "nul\0.png": "can't be read as an image",
    }.items():
        for read in (upright_size, lambda value: decode_pair({"image": value}, name=str)):
            with pytest.raises(InputError, match=expected):
                read({"path": str(path), "bytes": None})
    for missing in (None, {"path": None, "bytes": None}):
        with pytest.raises(InputError, match="is missing; remove the row or add it"):
            upright_size(missing)


def test_heic_photos_are_read(monkeypatch):
    pytest.importorskip("pillow_heif").register_heif_opener()
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32:] = (10, 200, 60)
    content = encoded(pixels, "HEIF", quality=-1)
    assert np.abs(photo_of(content).astype(int) - pixels).max() <= 3
    assert upright_size({"bytes": content, "path": None}) == (64, 64)
    monkeypatch.setattr(pictures, "FORMATS", tuple(name for name in pictures.FORMATS if name != "HEIF"))
    monkeypatch.setattr(pictures, "_register_heif", lambda: False)
    with pytest.raises(InputError, match=r"^photo is a HEIC picture, .*pip install 'synthset\[heic\]'"):
        decode(content)
