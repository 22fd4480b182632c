import struct
import sys

import av
import numpy as np
import pytest
from PIL import Image

from synthset.data.frames import iter_frames
from synthset.errors import InputError


def write_video(path, levels, size=(48, 32)):
    """A video with a frame of each gray level; its left third is white."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for level in levels:
            frame = np.full((height, width, 3), level, np.uint8)
            frame[:, : width // 3] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return path


def test_every_nth_frame_in_order(tmp_path):
    video = write_video(tmp_path / "field.mp4", range(0, 200, 20))
    for every, expected in ((1, range(0, 200, 20)), (3, (0, 60, 120, 180)), (100, (0,))):
        frames = list(iter_frames(video, every))
        assert all(
            isinstance(frame, Image.Image) and frame.mode == "RGB" and frame.size == (48, 32) for frame in frames
        )
        levels = [np.asarray(frame)[:, 24:].mean() for frame in frames]
        assert np.allclose(levels, list(expected), atol=4)


def test_a_video_stored_sideways_is_turned_upright(tmp_path):
    video = write_video(tmp_path / "phone.mp4", [60, 60])
    content = video.read_bytes()
    identity, clockwise = (
        struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        for a, b, c, d in ((1, 0, 0, 1), (0, 1, -1, 0))
    )
    track = content.index(b"tkhd")  # the track's header has the matrix (ISO/IEC 14496-12), like the movie's before it
    place = content.index(identity, track)
    video.write_bytes(content[:place] + clockwise + content[place + len(identity) :])
    frame = next(iter_frames(video))
    assert frame.size == (32, 48)
    top, bottom = np.asarray(frame)[:12], np.asarray(frame)[-12:]
    assert top.mean() > 240 and bottom.mean() < 70  # a quarter clockwise turns left to top


@pytest.mark.parametrize("content", [b"", b"not a video"])
def test_something_else_is_one_line(tmp_path, content):
    (tmp_path / "notes.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"notes\.mp4 can't be read as a video .*; give another video"):
        next(iter_frames(tmp_path / "notes.mp4"))


def test_sound_alone_has_no_frames(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match=r"sound\.wav has no video stream"):
        next(iter_frames(path))


def test_without_pyav_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'synthset\[video\]'"):
        next(iter_frames(tmp_path / "field.mp4"))
