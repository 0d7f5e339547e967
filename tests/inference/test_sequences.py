"""Images that become a video, and a video that becomes images."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from restore.errors import ImageError
from restore.images import read_image, write_image
from restore.images.numbering import Numbering
from restore.inference import Restorer


def frames(folder, numbers=range(1, 8), shape=(24, 32, 3), dtype=np.uint8):
    white = np.iinfo(dtype).max
    for number in numbers:
        pixels = np.full(shape, number * (white // 16), dtype)
        write_image(folder / f"{number:05}.png", pixels)
    return folder


def test_images_become_a_video(tmp_path, enlarge):
    pytest.importorskip("av", reason="video needs PyAV")
    from restore.inference.video import ImageSequence, VideoFile, plan_encoding, restore_to_video

    folder = frames(tmp_path / "in", dtype=np.uint16)
    source = ImageSequence(sorted(folder.glob("*.png")), Fraction(30000, 1001))
    encoding = plan_encoding(source.clip, 2, ".mp4")
    outcome = restore_to_video(source, tmp_path / "out.mp4", Restorer(enlarge(2), device="cpu"), encoding)
    assert (outcome.num_frames, outcome.problems) == (7, ())
    video = VideoFile(tmp_path / "out.mp4")
    assert (video.clip.rate, video.clip.pixel_format) == (Fraction(30000, 1001), "yuv420p10le")
    restored = list(video.frames())
    assert [round(frame.pixels.mean() / 4095) for frame in restored] == list(range(1, 8))
    assert [frame.pts * video.clip.time_base for frame in restored] == [Fraction(1001 * n, 30000) for n in range(7)]


def test_frames_have_to_be_alike_and_readable(tmp_path, enlarge):
    pytest.importorskip("av", reason="video needs PyAV")
    from restore.inference.video import ImageSequence, plan_encoding, restore_to_video

    folder = frames(tmp_path / "in")
    restorer = Restorer(enlarge(2), device="cpu")

    def restore():
        source = ImageSequence(sorted(folder.glob("*.png")), Fraction(25))
        encoding = plan_encoding(source.clip, 2, ".mp4")
        return restore_to_video(source, tmp_path / "out.mp4", restorer, encoding, segment_frames=2)

    frames(folder, [6], (20, 32, 3))
    with pytest.raises(ImageError, match=r"00006.png' is 32x20.*32x24"):
        restore()
    (folder / "00006.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with pytest.raises(ImageError, match=r"00006.png"):
        restore()
    assert not (tmp_path / "out.mp4").exists()


def test_a_video_becomes_images_and_goes_on(tmp_path, make_clip, enlarge):
    from restore.inference.video import VideoFile, restore_to_images

    source = VideoFile(make_clip(tmp_path / "in.mp4", 6))
    names = Numbering(tmp_path / "out/%03d.png")
    network = enlarge(2)
    restorer = Restorer(network, device="cpu")
    restorer.group_size = lambda height, width: 2
    outcome = restore_to_images(source, lambda number: names.path(number + 1), restorer)
    assert (outcome.num_frames, outcome.num_kept) == (6, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{number:03}.png" for number in range(1, 7)]
    original = [frame.pixels for frame in source.frames()]
    assert (read_image(names.path(4)).pixels == original[3].repeat(2, 0).repeat(2, 1)).all()
    names.path(5).unlink()
    network.seen.clear()
    outcome = restore_to_images(source, lambda number: names.path(number + 1), restorer, resume=True)
    assert (outcome.num_frames, outcome.num_kept) == (6, 4)
    assert sum(shape[0] for shape in network.seen) == 2
