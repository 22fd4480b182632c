"""Video frames as images."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import InputError

if TYPE_CHECKING:
    from av.container import InputContainer


def iter_frames(path: str | Path, every: int = 1) -> Iterator[Image.Image]:
    """Decodes a video with PyAV, one frame at a time.

    Args:
        path: anything FFmpeg reads (mp4, mov, avi, mkv, ...).
        every: yield frames 0, `every`, 2 * `every` and so on.

    Yields:
        RGB images, with the rotation from the metadata applied.

    Raises:
        InputError: when the first frame is requested, if PyAV is not installed or the file is not a video; later, if a
            frame is damaged.
    """
    with _open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        number = -1
        for number, frame in enumerate(container.decode(video=0)):
            if number % every == 0:
                image = frame.to_image()
                yield image.rotate(frame.rotation, expand=True) if frame.rotation else image
        if number < 0:
            raise InputError(f"{path} holds no frames; give another video or a folder of images")


def count_frames(path: str | Path, every: int = 1) -> int | None:
    """Number of images that [`iter_frames`] yields, as the video's header gives it; None if it does not.

    Raises:
        InputError: PyAV is not installed, or the file is not a video.
    """
    with _open(path) as container:
        frames = container.streams.video[0].frames
    return -(-frames // every) or None


@contextmanager
def _open(path: str | Path) -> Iterator["InputContainer"]:
    """Opens a video; errors of FFmpeg become `InputError`."""
    try:
        import av
    except ImportError:
        raise InputError(f"reading the video {path} needs PyAV; pip install 'synthset[video]'") from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} has no video stream; give a video or a folder of images")
            yield container
    except av.error.FFmpegError as error:
        raise InputError(
            f"{path} can't be read as a video ({error.strerror}); give another video or a folder of images"
        ) from error
