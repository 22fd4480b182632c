"""Rasters by windows: their pixels, their bands, where they have data; and photos cut into tiles."""

import sys
import threading

import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from synthset.errors import InputError
from synthset.sources import rasters
from synthset.sources.decoding import decode_record
from synthset.sources.rasters import (
    decode_tile,
    is_empty,
    is_orthomosaic,
    is_raster,
    is_read_by_parts,
    raster_size,
    read_mask,
    read_photo,
    tile_records,
)
from synthset.sources.reading import Decoded, Reading, Record, Window

UTM = {"crs": "EPSG:32632", "transform": from_origin(500000, 5300000, 0.1, 0.1)}
PARTS = [Window(0, 0, 300, 200), Window(40, 30, 100, 90), Window(299, 199, 1, 1), Window(250, 0, 50, 200)]
WHOLE = None


def noise(bands=3, height=200, width=300, dtype=np.uint8, seed=0):
    limit = min(np.iinfo(dtype).max, 4095) if np.issubdtype(dtype, np.integer) else 1
    return (np.random.default_rng(seed).random((bands, height, width)) * limit).astype(dtype)


def write(path, values, names=None, colors=None, **profile):
    """Writes (B, H, W) as TIFF, `names` as color interpretation, `colors` as palette."""
    bands, height, width = values.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as raster:
        if names:
            raster.colorinterp = [ColorInterp[name] for name in names.split()]
        if colors:
            raster.write_colormap(1, colors)
        raster.write(values)
    return path


def photo_record(path, *masks):
    values = [{"path": str(file), "bytes": None} for file in (path, *masks)]
    return Record(values[0], tuple(values[1:]), str(path), tuple(map(str, masks)))


@pytest.mark.parametrize(
    "profile",
    [UTM, {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}, {"interleave": "band"}],
    ids=["strips", "tiles", "planes"],
)
def test_windows_are_slices(profile, tmp_path):
    values = noise()
    photo = write(tmp_path / "a.tif", values, photometric="RGB", **profile)
    mask = write(tmp_path / "m.tif", values[:1], **profile)
    assert raster_size(photo) == (300, 200)
    for left, top, width, height in PARTS:
        part = np.moveaxis(values, 0, 2)[top : top + height, left : left + width]
        found = read_photo(photo, Window(left, top, width, height), Reading())
        assert found.mode == "RGB" and np.array_equal(found, part)
        assert np.array_equal(read_mask(mask, Window(left, top, width, height)), part[..., 0])
    assert np.array_equal(read_photo(photo, WHOLE, Reading()), np.moveaxis(values, 0, 2))


@pytest.mark.parametrize(
    "bands, names, chosen, expected",
    [
        (1, None, None, (0, 0, 0)),
        (3, None, None, (0, 1, 2)),
        (3, "blue green red", None, (2, 1, 0)),
        (3, "green red undefined", None, (0, 1, 2)),
        (5, None, (3, 2, 1), (2, 1, 0)),
        (5, None, (5,), (4, 4, 4)),
        (4, "red green blue undefined", (4, 1, 2), (3, 0, 1)),
    ],
)
def test_bands_that_are_red_green_and_blue(bands, names, chosen, expected, tmp_path):
    values = noise(bands)
    photo = write(tmp_path / "a.tif", values, names)
    found = np.asarray(read_photo(photo, PARTS[1], Reading(bands=chosen)))
    assert np.array_equal(found, np.stack([values[band] for band in expected], axis=-1)[30:120, 40:140])


@pytest.mark.parametrize("depth, stated", [(12, {}), (None, {"nbits": 12})])
def test_values_of_12_bits_are_scaled(depth, stated, tmp_path):
    values = np.array([[[0, 100, 2048, 4095]]], np.uint16)
    photo = write(tmp_path / "a.tif", values, **stated)
    found = np.asarray(read_photo(photo, WHOLE, Reading(bit_depth=depth)))
    assert found[0, :, 0].tolist() == [0, 6, 128, 255]  # 255 * 100 / 4095 = 6.2; 255 * 2048 / 4095 = 127.5


@pytest.mark.parametrize(
    "names, extra, background, expected",
    [
        # what is stored where there is no data, or behind transparent pixels, is not shown
        ("red green blue", {"nodata": 9}, None, [(0, 0, 0), (9, 50, 60), (200, 100, 0)]),
        ("red green blue", {"nodata": 9}, (10, 20, 30), [(10, 20, 30), (9, 50, 60), (200, 100, 0)]),
        ("red green blue alpha", {}, (10, 20, 30), [(10, 20, 30), (9, 35, 45), (200, 100, 0)]),
        ("red green blue alpha", {}, None, [(0, 0, 0), (5, 25, 30), (200, 100, 0)]),
    ],
)
def test_pixels_without_data(names, extra, background, expected, tmp_path):
    values = np.array([[9, 9, 9, 0], [9, 50, 60, 128], [200, 100, 0, 255]], np.uint8).T[:, None]
    photo = write(tmp_path / "a.tif", values[: len(names.split())], names, **extra)
    found = np.asarray(read_photo(photo, WHOLE, Reading(background_color=background)))[0]
    assert np.abs(found.astype(int) - expected).max() <= 1  # of rounding, where half transparent
    assert [is_empty(photo, Window(x, 0, 1, 1)) for x in range(3)] == [True, False, False]


@pytest.mark.parametrize("mode", ["1", "P", "L"])
def test_gray_and_palettes_are_as_in_pillow(mode, tmp_path):
    image = Image.fromarray(noise(1)[0]).convert(mode)
    if mode == "P":
        image.putpalette(noise(1, 1, 768, seed=1).tobytes())
    image.save(tmp_path / "a.tif")
    assert np.array_equal(read_photo(tmp_path / "a.tif", WHOLE, Reading()), image.convert("RGB"))


def test_zero_is_white_where_the_file_says_so(tmp_path):
    photo = write(tmp_path / "a.tif", np.array([[[0, 10, 255]]], np.uint8), photometric="MINISWHITE")
    assert np.asarray(Image.open(photo)).tolist() == [[255, 245, 0]]
    assert np.asarray(read_photo(photo, WHOLE, Reading()))[0, :, 0].tolist() == [255, 245, 0]
    assert read_mask(photo, WHOLE).tolist() == [[255, 245, 0]]


BLACK, WHITE, RED = (0, 0, 0, 255), (255, 255, 255, 255), (255, 0, 0, 255)


@pytest.mark.parametrize(
    "stored, options, expected",
    [
        (np.array([0, 1, 7], np.uint8), {}, [0, 1, 7]),
        (np.array([0, 1, 7], np.uint16), {}, [0, 1, 7]),
        (np.array([0, 1, 7], np.float32), {}, [0, 1, 7]),
        (np.array([-9999, 1, 0], np.float32), {"nodata": -9999}, [0, 1, 0]),
        (np.array([255, 1, 0], np.uint8), {"nodata": 255}, [0, 1, 0]),
        (np.array([0, 1, 2], np.uint8), {"colors": {0: BLACK, 1: WHITE, 2: RED}}, [0, 1, 2]),
    ],
)
def test_masks_are_the_values_that_the_file_holds(stored, options, expected, tmp_path):
    found = read_mask(write(tmp_path / "m.tif", stored[None, None], **options), WHOLE)
    assert np.issubdtype(found.dtype, np.integer) and found.tolist() == [expected]


def test_masks_of_several_bands(tmp_path):
    values = noise(3)
    assert np.array_equal(read_mask(write(tmp_path / "m.tif", values), WHOLE), np.moveaxis(values, 0, 2))


def truncated(path):
    write(path, noise(), compress="deflate")
    path.write_bytes(path.read_bytes()[:20000])


def vrt(path):
    path.write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    )


@pytest.mark.parametrize(
    "make, reading, part, words",
    [
        (lambda p: write(p, noise(5)), Reading(), WHOLE, r"has 5 bands \(gray, undefined, .*--bands 3 2 1"),
        (lambda p: write(p, noise(4), "gray undefined undefined undefined"), Reading(), WHOLE, "has 4 bands .*--bands"),
        (lambda p: write(p, noise(2)), Reading(), WHOLE, "has 2 bands .*--bands"),
        (lambda p: write(p, noise(5)), Reading(bands=(6, 1, 2)), WHOLE, r"has 5 bands, --bands is \[6, 1, 2\]"),
        (
            lambda p: write(p, np.array([[[5, 4011, 65535]]], np.uint16), nodata=65535),
            Reading(),
            WHOLE,
            "has 16 bits per band and values up to 4011 here; .*--bit_depth",
        ),
        (
            lambda p: write(p, np.array([[[5, 4011]]], np.uint16)),
            Reading(bit_depth=10),
            WHOLE,
            "has values up to 4011, more than --bit_depth 10 allows",
        ),
        (lambda p: write(p, noise(3, dtype=np.float32)), Reading(), WHOLE, "has bands of float32.*convert it"),
        (lambda p: write(p, noise(3, dtype=np.int16)), Reading(), WHOLE, "has bands of int16.*convert it"),
        (lambda p: write(p, noise()), Reading(), Window(250, 0, 51, 9), "has 300 x 200 pixels, but x=250, y=0, 51 x 9"),
        (lambda p: write(p, noise()), Reading(), Window(-1, 0, 5, 9), "has 300 x 200 pixels, but x=-1"),
        (lambda p: None, Reading(), WHOLE, "can't be read: No such file or directory; restore it"),
        (lambda p: p.mkdir(), Reading(), WHOLE, "can't be read as a raster .*; replace or remove it"),
        (lambda p: p.write_bytes(b""), Reading(), WHOLE, "can't be read as a raster .*; replace or remove it"),
        (lambda p: p.write_bytes(b"II*\0\x08\0\0\0\xff"), Reading(), WHOLE, "can't be read as a raster .*; replace"),
        (truncated, Reading(), WHOLE, "can't be read as a raster .*; replace or remove it"),
        (vrt, Reading(), WHOLE, "can't be read as a raster .*not recognized"),
    ],
)
def test_what_can_t_be_read_is_one_line(make, reading, part, words, tmp_path, capfd):
    make(tmp_path / "a.tif")
    with pytest.raises(InputError, match=words) as error:
        read_photo(tmp_path / "a.tif", part, reading)
    assert str(error.value).isprintable()
    assert capfd.readouterr().err == ""


def test_masks_that_are_no_masks(tmp_path):
    with pytest.raises(InputError, match="is a mask with values that are not whole numbers"):
        read_mask(write(tmp_path / "m.tif", np.array([[[0.5, np.nan]]])), WHOLE)
    name = tmp_path / "m\udce9.tif"
    (tmp_path / "m.tif").rename(name)
    with pytest.raises(InputError, match="path is not UTF-8, which GDAL needs; rename it"):
        read_mask(name, WHOLE)


def test_blocks_that_are_too_large_for_parts(tmp_path, monkeypatch):
    photo = write(tmp_path / "a.tif", noise(3, 512, 512), tiled=True, blockxsize=512, blockysize=512)
    monkeypatch.setattr(rasters, "MOST_BLOCK_BYTES", 512 * 512 * 3 - 1)
    with pytest.raises(InputError, match=r"blocks of 512 x 512 pixels, .*gdal_translate -co TILED=YES"):
        read_photo(photo, PARTS[1], Reading())


def test_a_file_that_is_replaced_is_read_again(tmp_path):
    photo = write(tmp_path / "a.tif", noise(seed=1))
    read_photo(photo, PARTS[1], Reading())
    new = noise(1, 90, 110, seed=2)
    write(tmp_path / "b.tif", new).replace(photo)
    assert np.array_equal(np.asarray(read_photo(photo, WHOLE, Reading()))[..., 0], new[0])
    photo.unlink()
    with pytest.raises(InputError, match="No such file"):
        read_photo(photo, WHOLE, Reading())


def test_without_rasterio_one_line_names_the_extra(tmp_path, monkeypatch):
    photo = write(tmp_path / "a.tif", noise())
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(InputError, match=r"needs rasterio; pip install 'synthset\[raster\]'"):
        read_photo(photo, WHOLE, Reading())


def empty_raster(path, side):
    """A raster of which no pixel is stored."""
    shape = {"width": side, "height": side, "count": 1, "dtype": "uint8", "tiled": True, "SPARSE_OK": "TRUE"}
    with rasterio.open(path, "w", driver="GTiff", nodata=0, **shape):
        return path


def test_which_files_are_rasters_and_orthomosaics(tmp_path):
    rotated = Image.Exif()
    rotated[274] = 6
    Image.fromarray(noise(1)[0]).save(tmp_path / "rotated.tif", exif=rotated)
    Image.fromarray(noise(1)[0]).save(tmp_path / "photo.png")
    (tmp_path / "text.tif").write_text("no TIFF")
    write(tmp_path / "plain.tif", noise())
    write(tmp_path / "placed.TIFF", noise(), **UTM)
    write(tmp_path / "big.tif", noise(), BIGTIFF="YES", **UTM)
    write(tmp_path / "world.tif", noise())
    (tmp_path / "world.tfw").write_text("0.1\n0\n0\n-0.1\n500000\n5300000\n")
    empty_raster(tmp_path / "large.tif", 20000)
    found = {path.name: (is_raster(path), is_orthomosaic(path)) for path in tmp_path.iterdir()}
    del found["world.tfw"]
    assert found == {
        "rotated.tif": (False, False),
        "photo.png": (False, False),
        "text.tif": (False, False),
        "plain.tif": (True, False),
        "placed.TIFF": (True, True),
        "big.tif": (True, True),
        "world.tif": (True, True),
        "large.tif": (True, True),
    }


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_tiles_cover_a_photo_and_are_named_by_position(suffix, tmp_path):
    values, files = noise(), {}
    for name, content in (("photo", np.moveaxis(values, 0, 2)), ("mask", values[0])):
        files[name] = tmp_path / f"{name}{suffix}"
        Image.fromarray(content).save(files[name])
    record = photo_record(files["photo"], files["mask"])
    tiles = tile_records(record, Reading(tile_size=128, tile_overlap=32))
    assert is_read_by_parts(tiles[0]) == (suffix == ".tif")
    # a step of 96; the last column begins at 300 - 128, the last row at 200 - 128
    places = [(x, y) for y in (0, 72) for x in (0, 96, 172)]
    assert [tile.window for tile in tiles] == [(x, y, 128, 128) for x, y in places]
    assert [tile.columns for tile in tiles] == [
        {"source": f"photo{suffix}", "tile_x": x, "tile_y": y} for x, y in places
    ]
    assert tiles[1].name == f"{files['photo']}[x=96, y=0]"
    assert tiles[1].mask_names == (f"{files['mask']}[x=96, y=0]",)
    assert all((tile.image, tile.masks) == (record.image, record.masks) for tile in tiles)
    (whole,) = tile_records(record, Reading(tile_size=512))
    assert whole.window == (0, 0, 300, 200)
    assert [tile.window for tile in tile_records(record, Reading(tile_size=200))] == [
        (0, 0, 200, 200),
        (100, 0, 200, 200),
    ]
    assert tile_records(record, Reading()) == [record]


def test_tiles_are_decoded_from_rasters_and_from_photos(tmp_path):
    """Tiles of bands 5, 3 and 1 of a raster with a mask that is one too, and of a photo that EXIF turns, with a mask
    that was drawn on its stored pixels."""
    values, drawn = noise(5), noise(1) > 128
    write(tmp_path / "a.tif", values, **UTM)
    write(tmp_path / "m.tif", drawn.astype(np.uint8), **UTM)
    reading = Reading(tile_size=128, tile_overlap=32, bands=(5, 3, 1))
    tiles = tile_records(photo_record(tmp_path / "a.tif", tmp_path / "m.tif"), reading)
    assert_decoded(tiles, reading, values[[4, 2, 0]], drawn[0])

    turned = Image.Exif()
    turned[274] = 6  # to be turned clockwise
    Image.fromarray(np.moveaxis(values[:3], 0, 2)).save(tmp_path / "a.png", exif=turned)
    Image.fromarray(drawn[0]).save(tmp_path / "m.png")
    reading = Reading(tile_size=128, tile_overlap=32)
    tiles = tile_records(photo_record(tmp_path / "a.png", tmp_path / "m.png"), reading)
    assert_decoded(tiles, reading, np.rot90(values[:3], -1, (1, 2)), np.rot90(drawn[0], -1))


@pytest.mark.parametrize(
    "colors, reading, expected",
    [
        ({0: WHITE, 1: BLACK, 2: BLACK}, {}, [1, 0, 0]),
        ({0: BLACK, 1: WHITE, 2: RED}, {"object_colors": ((255, 0, 0),)}, [0, 0, 1]),
        ({0: BLACK, 1: WHITE, 2: RED}, {"object_values": (1,)}, [0, 1, 0]),
    ],
)
def test_palettes_of_masks_of_rasters(colors, reading, expected, tmp_path):
    photo = write(tmp_path / "a.tif", noise(3, 20, 3))
    mask = write(tmp_path / "m.tif", np.broadcast_to(np.arange(3, dtype=np.uint8), (1, 20, 3)), colors=colors)
    reading = Reading(tile_size=10, **reading)
    for tile in tile_records(photo_record(photo, mask), reading):
        assert np.asarray(decode_record(tile, reading).mask).tolist() == [expected] * 10


def assert_decoded(tiles, reading, colors, drawn):
    covered = np.zeros(drawn.shape, int)
    for tile in tiles:
        left, top, width, height = tile.window
        part = slice(top, top + height), slice(left, left + width)
        found = decode_record(tile, reading)
        assert np.array_equal(found.image, np.moveaxis(colors, 0, 2)[part])
        assert np.array_equal(found.mask, drawn[part])
        covered[part] += 1
    assert covered.min() == 1


def shifted(**changes):
    return {**UTM, **changes}


@pytest.mark.parametrize(
    "mask, words",
    [
        (lambda p: write(p, noise(1, 200, 299), **UTM), "m.tif is 299x200 pixels but .*a.tif is 300x200"),
        (lambda p: write(p, noise(1), **shifted(crs="EPSG:32633")), "m.tif has another coordinate system"),
        (lambda p: write(p, noise(1), **shifted(transform=from_origin(500000.1, 5300000, 0.1, 0.1))), "another place"),
        (lambda p: write(p, noise(1), **shifted(transform=from_origin(500000, 5300000, 0.11, 0.1))), "another place"),
        (truncated, "m.tif can't be read as a raster"),
    ],
)
def test_masks_of_another_place_are_refused(mask, words, tmp_path):
    photo = write(tmp_path / "a.tif", noise(), **UTM)
    mask(tmp_path / "m.tif")
    if mask is truncated:
        (tmp_path / "m.tif").write_bytes((tmp_path / "m.tif").read_bytes()[:300])
    with pytest.raises(InputError, match=words) as error:
        tile_records(photo_record(photo, tmp_path / "m.tif"), Reading(tile_size=64))
    assert str(error.value).startswith(str(tmp_path / "m.tif"))


def test_a_mask_without_a_place_or_a_hair_beside_fits(tmp_path):
    photo = write(tmp_path / "a.tif", noise(), **UTM)
    for place in ({}, shifted(transform=from_origin(500000.01, 5300000, 0.1, 0.1))):
        mask = write(tmp_path / "m.tif", noise(1), **place)
        assert len(tile_records(photo_record(photo, mask), Reading(tile_size=200))) == 2


def test_what_is_too_large_says_so(tmp_path):
    large = empty_raster(tmp_path / "large.tif", 20000)
    record = photo_record(large, large)
    with pytest.raises(InputError, match="large.tif has 20000 x 20000 pixels; cut it into tiles with --tile_size"):
        tile_records(record, Reading())
    with pytest.raises(
        InputError, match="large.tif has 20000 x 20000 pixels, 1562500 tiles; give a larger --tile_size"
    ):
        tile_records(record, Reading(tile_size=16))
    with pytest.raises(InputError, match="has 20000 x 20000 pixels; cut it into tiles"):
        read_photo(large, WHOLE, Reading())
    Image.new("L", (9, 9)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match="m.png is no TIFF, so that it can't be read by parts as its photo"):
        tile_records(photo_record(large, tmp_path / "m.png"), Reading(tile_size=512))
    last = tile_records(record, Reading(tile_size=512, tile_overlap=64))[-1]
    assert last.window == (19488, 19488, 512, 512) and is_empty(large, last.window)


def test_tiles_of_a_phone_photo_are_upright_and_decode_it_once(tmp_path):
    """EXIF turns the stored 300 x 200 pixels to 200 x 300; its mask is drawn upright."""
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(np.moveaxis(noise(), 0, 2)).save(tmp_path / "a.jpg", exif=turned)
    Image.fromarray(noise(1, 300, 200)[0]).save(tmp_path / "m.png")
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
    decoded = []

    def decode(record):
        assert record.window is None
        decoded.append(threading.get_ident())
        return Decoded(upright, Image.open(tmp_path / "m.png"), np.asarray(upright)[..., 1].astype(np.int32))

    reading = Reading(tile_size=150)
    tiles = tile_records(photo_record(tmp_path / "a.jpg", tmp_path / "m.png"), reading)
    assert [tile.window for tile in tiles] == [(x, y, 150, 150) for y in (0, 150) for x in (0, 50)]
    for tile in tiles:
        left, top, width, height = tile.window
        found = decode_tile(tile, reading, decode)
        part = np.asarray(upright)[top : top + height, left : left + width]
        assert np.array_equal(found.image, part) and np.array_equal(found.labels, part[..., 1])
        assert np.array_equal(found.mask, noise(1, 300, 200)[0][top : top + height, left : left + width])
    other = threading.Thread(target=decode_tile, args=(tiles[0], reading, decode))
    other.start()
    other.join()
    assert len(decoded) == len(set(decoded)) == 2
