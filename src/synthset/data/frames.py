"""Frames of a video as pictures."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ..errors import InputError


def iter_frames(path: str | Path, every: int = 1) -> Iterator[Image.Image]:
    """Decodes a video with PyAV, one frame at a time.

    Args:
        path: anything FFmpeg reads (mp4, mov, avi, mkv, ...).
        every: yield frames 0, `every`, 2 * `every` and so on.

    Yields:
        RGB images, upright: the rotation that phones store beside the picture is applied.

    Raises:
        InputError: when the first frame is asked for, if PyAV is not installed or the file is not a video; later, if a
            frame is damaged.
    """
    try:
        import av
    except ImportError:
        raise InputError(f"reading the video {path} needs PyAV; pip install 'synthset[video]'") from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} has no video stream; give a video or a folder of images")
            container.streams.video[0].thread_type = "AUTO"
            number = -1
            for number, frame in enumerate(container.decode(video=0)):
                if number % every == 0:
                    picture = frame.to_image()
                    yield picture.rotate(frame.rotation, expand=True) if frame.rotation else picture
            if number < 0:
                raise InputError(f"{path} holds no frames; give another video or a folder of images")
    except av.error.FFmpegError as error:
        raise InputError(
            f"{path} can't be read as a video ({error.strerror}); give another video or a folder of images"
        ) from error
