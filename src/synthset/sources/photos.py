"""Photos: 8-bit sRGB without transparency from whatever a picture file holds."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from ..errors import InputError
from .pictures import Picture, printable, reason_of
from .reading import Reading

DEFAULT = Reading()
SRGB_TOLERANCE = 4  # largest change of a color, of 255, by which a profile still counts as sRGB
DEPTH_UNKNOWN = ("PNG", "TIFF")  # formats whose samples need not reach white; Pillow scales those of others
FEW = 1000  # a photo of 16 bits is brighter than 12 bits reach in one of so many samples


def to_rgb(picture: Picture, reading: Reading = DEFAULT) -> Image.Image:
    """Converts a picture to mode "RGB" of 8 bits: gray is repeated, a palette looked up, more bits are scaled, a color
    profile is applied, and what is transparent gets `reading.background_color`. Notes for the report are added to
    `picture`.

    Raises:
        InputError: the file leaves open what its black and white are, or what is behind its transparent pixels.
    """
    image = picture.image
    if picture.samples is not None:
        color, alpha = _scale(picture, reading)
    elif image.mode in ("I", "F", "LAB"):
        kind = "Lab color" if image.mode == "LAB" else "32 or signed bits per channel"
        raise InputError(f"has {kind}, which has no defined black and white; save it as RGB of 8 or 16 bits")
    elif image.has_transparency_data:
        whole = image.convert("RGBA")
        color, alpha = whole.convert("RGB"), whole.getchannel("A")
    else:
        color, alpha = image, None
    color = _to_srgb(picture, color)
    if alpha is not None and alpha.getextrema()[0] < 255:  # type: ignore[operator]
        if reading.background_color is None:
            share = np.mean(np.asarray(alpha) < 255)
            raise InputError(
                f"has transparent pixels ({100 * share:.3g} %), which hide colors; give the color behind them with "
                "synthset prepare --background_color, or save it without transparency"
            )
        color = Image.composite(color, Image.new("RGB", color.size, reading.background_color), alpha)
    return color


def _scale(picture: Picture, reading: Reading) -> tuple[Image.Image, Image.Image | None]:
    """Scales more than 8 bits to 8.

    `reading.bit_depth` counts, or the number of significant bits that the file states. Without both, samples are of 16
    bits if they reach the upper half of those, and at least one of `FEW` is above what 12 bits reach (bright
    defects of a sensor of 12 bits are no photo of 16 bits).

    Returns:
        The photo of mode "L" or "RGB", and its alpha channel, if it has one.

    Raises:
        InputError: the number of bits is unknown, or less than the samples have.
    """
    samples, alpha = picture.split_samples()
    largest = int(samples.max())
    bits = reading.bit_depth or picture.significant_bits
    if picture.format not in DEPTH_UNKNOWN:
        bits = 16
    if bits is None:
        if largest < 2**15 or np.count_nonzero(samples >= 2**12) * FEW < samples.size:
            raise InputError(
                f"has 16 bits per channel but values up to {largest}, so that its white is unknown; give its "
                f"significant bits, such as synthset prepare --bit_depth {max(largest.bit_length(), 12)}, or save it "
                "with 8 bits"
            )
        bits = 16
    elif largest >= 2**bits:
        raise InputError(
            f"has values up to {largest}, more than {bits} bits; give synthset prepare --bit_depth "
            f"{largest.bit_length()}"
        )
    white = 2**bits - 1
    table = ((np.arange(white + 1) * 255 + white // 2) // white).astype(np.uint8)
    color = Image.fromarray(table[samples])
    if alpha is None:
        return color, None
    opaque = white if alpha.max() <= white else 65535
    return color, Image.fromarray((alpha.astype(np.uint32) * 255 // opaque).astype(np.uint8))


def _to_srgb(picture: Picture, color: Image.Image) -> Image.Image:
    """Converts to mode "RGB", by the color profile of the file if it is not sRGB.

    Raises:
        InputError: CMYK without a profile, whose colors are undefined.
    """
    profile = picture.image.info.get("icc_profile")
    if profile and color.mode not in ("1", "L"):
        layout = color.mode if color.mode in ("RGB", "CMYK") else "RGB"
        try:
            name, transform = _srgb_transform(profile, layout)
        except Exception as error:  # ImageCms.PyCMSError, OSError, ValueError and more
            reason = reason_of(error)
            if layout == "CMYK":
                raise InputError(f"is CMYK, and its color profile can't be used ({reason}); save it as sRGB") from None
            picture.suspicious.append(f"color profile that can't be used ({reason}), read as sRGB")
            return color.convert("RGB")
        if transform is not None:
            picture.repaired.append(f"color profile {name} converted to sRGB")
            converted = ImageCms.applyTransform(color if color.mode == layout else color.convert(layout), transform)
            assert converted is not None
            return converted
    if color.mode == "CMYK":
        raise InputError("is CMYK without a color profile, so that its colors are undefined; save it as sRGB")
    return color.convert("RGB")


@lru_cache(maxsize=16)
def _srgb_transform(profile: bytes, mode: str) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Name of a color profile, and the transform to sRGB of pictures of `mode`; None if it is sRGB or gray.

    Raises:
        Exception: of several kinds, if the profile is damaged or made for another mode.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    name = printable(ImageCms.getProfileDescription(source))[:60] or "without a name"
    if source.profile.xcolor_space.strip() == "GRAY":
        return name, None
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode == "RGB":
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
        shown = ImageCms.applyTransform(Image.fromarray(colors), transform)
        if np.abs(np.asarray(shown).astype(int) - colors).max() <= SRGB_TOLERANCE:
            return name, None
    return name, transform
