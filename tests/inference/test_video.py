"""Videos: times, colours, sound, turned and damaged files, and going on after an interruption."""

from __future__ import annotations

import gc
import io
import itertools
import shutil
import weakref
from fractions import Fraction

import numpy as np
import pytest
from torch import nn

from restore.errors import DataError, MissingError, OptionsError, OutputError
from restore.inference import Restorer
from restore.locks import reserved
from restore.networks import ImageSpec

av = pytest.importorskip("av", reason="video needs PyAV")

from restore.inference.video import VideoFile, plan_encoding, restore_to_images, restore_to_video  # noqa: E402
from restore.inference.video.clip import Clip, Frame  # noqa: E402
from restore.inference.video.colour import Colour, frame_to_pixels, pixels_to_frame  # noqa: E402
from restore.inference.video.segments import Segments  # noqa: E402

VARIABLE = [0, 300, 1100, 1150, 2400, 2912, 4000, 6000, 6010, 6500, 7777, 8000, 8512, 9000, 9900, 12000]


def restore_clip(source, target, network, *, sound=True, segment_frames=100, **encoding):
    source = VideoFile(source)
    restorer = Restorer(network, device="cpu")
    restorer.group_size = lambda height, width: 2
    encoding = plan_encoding(source.clip, restorer.scale, target.suffix, **encoding)
    more = {"carried_from": source.path, "sound": sound, "segment_frames": segment_frames}
    return restore_to_video(source, target, restorer, encoding, **more)


def frames_of(path):
    source = VideoFile(path)
    return list(source.frames(alpha=True))


def seconds(path):
    source = VideoFile(path)
    return [frame.pts * source.clip.time_base for frame in source.frames()]


def packets(path, kind):
    with av.open(str(path)) as file:
        stream = next(stream for stream in file.streams if stream.type == kind)
        found = [(packet.pts * stream.time_base, bytes(packet)) for packet in file.demux(stream) if packet.size]
        return sorted(found)


def near(pixels, expected, tolerance):
    return np.abs(pixels.astype(float) - expected).mean() < tolerance


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_times_and_sound_are_those_of_the_original(tmp_path, make_clip, enlarge, suffix):
    clip = make_clip(tmp_path / "in.mp4", len(VARIABLE), times=VARIABLE)
    outcome = restore_clip(clip, tmp_path / f"out{suffix}", enlarge(2), segment_frames=5)
    assert (outcome.num_frames, outcome.num_kept, outcome.problems) == (16, 0, ())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", f"out{suffix}"]
    times = seconds(outcome.target)
    begin = 0
    if suffix == ".mkv":  # its clock ticks in milliseconds and knows no time below 0, where the sound begins
        begin = times[0]
        assert np.allclose([float(t - begin) for t in times], [pts / 12800 for pts in VARIABLE], atol=0.0011)
    else:
        assert times == [Fraction(pts, 12800) for pts in VARIABLE]
    for before, after in zip(frames_of(clip), frames_of(outcome.target), strict=True):
        assert near(after.pixels, before.pixels.repeat(2, 0).repeat(2, 1), 3)
    sound, original = packets(outcome.target, "audio"), packets(clip, "audio")
    assert [data for _, data in sound] == [data for _, data in original]
    assert all(abs(a - begin - b) < 0.0011 for (a, _), (b, _) in zip(sound, original, strict=True))


def test_sound_can_be_left_out(tmp_path, make_clip, enlarge):
    clip = make_clip(tmp_path / "in.mp4", 3)
    restore_clip(clip, tmp_path / "out.mp4", enlarge(2), sound=False)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert [stream.type for stream in file.streams] == ["video"]


def test_a_transport_stream_begins_at_any_time(tmp_path, make_clip, enlarge):
    clip = make_clip(tmp_path / "in.ts", 6)
    restore_clip(clip, tmp_path / "out.mp4", enlarge(1))
    times = seconds(tmp_path / "out.mp4")
    assert times[0] < Fraction(1, 10)
    assert [b - a for a, b in itertools.pairwise(times)] == [Fraction(1, 25)] * 5


def test_interruption_goes_on_after_the_last_segment(tmp_path, make_clip, enlarge):
    clip = make_clip(tmp_path / "in.mp4", 20)

    class Interrupted(enlarge):
        def forward(self, x):
            if sum(shape[0] for shape in self.seen) >= 13:
                raise KeyboardInterrupt
            return super().forward(x)

    Interrupted.__name__ = enlarge.__name__  # the same network to all appearances
    target = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        restore_clip(clip, target, Interrupted(2), segment_frames=5)
    parts = tmp_path / "out.mp4.parts"
    assert not target.exists()
    num_finished = len(list(parts.glob("*.npz")))
    assert 1 <= num_finished <= 2
    second = enlarge(2)
    outcome = restore_clip(clip, target, second, segment_frames=5)
    assert outcome.num_kept == 5 * num_finished
    assert sum(shape[0] for shape in second.seen) == 20 - outcome.num_kept
    assert not parts.exists()
    restore_clip(clip, tmp_path / "at_once.mp4", enlarge(2), segment_frames=5)
    assert packets(target, "video") == packets(tmp_path / "at_once.mp4", "video")


class Batched(nn.Module):
    """Says in every pixel how many images and how large ones went through it together, as the last bits of sums do."""

    def __init__(self, dies_after=1000):
        super().__init__()
        self.spec = ImageSpec(scale=1)
        self.left = dies_after

    def forward(self, x):
        self.left -= len(x)
        if self.left < 0:
            raise KeyboardInterrupt
        return x / 2 + (len(x) + x.shape[-1]) / 255


@pytest.mark.parametrize("dies_after", [4, 5, 7, 12])
def test_an_interrupted_clip_is_the_same_as_one_that_was_not(tmp_path, make_clip, dies_after):
    clip = make_clip(tmp_path / "in.mkv", 13, codec="ffv1", pix_fmt="bgr0")
    how = {"segment_frames": 5, "codec": "ffv1"}
    restore_clip(clip, tmp_path / "at_once.mkv", Batched(), **how)
    with pytest.raises(KeyboardInterrupt):
        restore_clip(clip, tmp_path / "later.mkv", Batched(dies_after), **how)
    outcome = restore_clip(clip, tmp_path / "later.mkv", Batched(), **how)
    assert outcome.num_kept == dies_after // 5 * 5
    assert (tmp_path / "later.mkv").read_bytes() == (tmp_path / "at_once.mkv").read_bytes()
    restored = [frame.pixels.max() for frame in frames_of(tmp_path / "later.mkv")]
    assert len({*restored}) > 1  # batches of two and of one


@pytest.mark.parametrize("kept", [3, 4])
def test_images_of_a_clip_go_on_the_same(tmp_path, make_clip, kept):
    source = VideoFile(make_clip(tmp_path / "in.mp4", 6))

    def restore(folder, **more):
        restorer = Restorer(Batched(), device="cpu")
        restorer.group_size = lambda height, width: 4
        return restore_to_images(source, lambda number: tmp_path / folder / f"{number}.png", restorer, **more)

    restore("at_once")
    shutil.copytree(tmp_path / "at_once", tmp_path / "later")
    for number in range(kept, 6):
        (tmp_path / "later" / f"{number}.png").unlink()
    outcome = restore("later", resume=True)
    assert (outcome.num_frames, outcome.num_kept) == (6, kept)
    for number in range(6):
        at_once, later = (tmp_path / folder / f"{number}.png" for folder in ("at_once", "later"))
        assert at_once.read_bytes() == later.read_bytes()


def test_tiles_stay_as_they_were_when_the_job_began(tmp_path, make_clip, monkeypatch):
    """However much memory is free when it goes on."""
    clip = make_clip(tmp_path / "in.mkv", 4, (160, 96), codec="ffv1", pix_fmt="bgr0")
    monkeypatch.setattr("restore.inference.fitting.SURELY_FITS_PX", 1)
    how = {"segment_frames": 2, "codec": "ffv1"}

    def with_sides(side):
        monkeypatch.setattr("restore.inference.fitting.Fitting.tile_px", lambda self, *size: side)

    with_sides(80)
    restore_clip(clip, tmp_path / "at_once.mkv", Batched(), **how)
    with pytest.raises(KeyboardInterrupt):
        restore_clip(clip, tmp_path / "later.mkv", Batched(dies_after=20), **how)
    with_sides(64)
    assert restore_clip(clip, tmp_path / "later.mkv", Batched(), **how).num_kept
    assert (tmp_path / "later.mkv").read_bytes() == (tmp_path / "at_once.mkv").read_bytes()


def test_parts_of_another_job_are_thrown_away(tmp_path, make_clip, enlarge):
    clip = make_clip(tmp_path / "in.mp4", 6)

    class Interrupted(enlarge):
        def forward(self, x):
            if len(self.seen) > 1:
                raise KeyboardInterrupt
            return super().forward(x)

    with pytest.raises(KeyboardInterrupt):
        restore_clip(clip, tmp_path / "out.mp4", Interrupted(1), segment_frames=1)
    assert list((tmp_path / "out.mp4.parts").glob("*.npz"))
    assert restore_clip(clip, tmp_path / "out.mp4", enlarge(2), segment_frames=1).num_kept == 0
    assert frames_of(tmp_path / "out.mp4")[0].pixels.shape == (96, 128, 3)


def test_memory_does_not_grow_with_the_clip(tmp_path, enlarge):
    alive = peak = 0

    class Endless:
        path, problems = tmp_path / "frames", []
        clip = Clip(24, 32, Fraction(25), Fraction(1, 25), "yuv420p")

        def frames(self, first=0, *, alpha=False):
            nonlocal alive, peak
            for number in range(first, 60):
                pixels = np.full((24, 32, 3), number, np.uint8)
                alive += 1
                peak = max(peak, alive)
                weakref.finalize(pixels, self._gone)
                yield Frame(pixels, number, 1)

        def _gone(self):
            nonlocal alive
            alive -= 1

        def identity(self):
            return {}

    source, restorer = Endless(), Restorer(enlarge(2), device="cpu")
    restorer.batches = lambda items, image_of: ([item] for item in items)
    outcome = restore_to_video(
        source, tmp_path / "out.mkv", restorer, plan_encoding(source.clip, 2, ".mkv"), segment_frames=8
    )
    gc.collect()
    assert outcome.num_frames == 60
    assert peak <= 12


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("span", [1, 2], ids=["limited", "full"])
def test_colours_by_the_formulas(matrix, span):
    red, blue = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]
    rgb = np.array([200, 90, 30])
    colour = Colour(matrix, span)
    frame = pixels_to_frame(np.full((16, 16, 3), rgb, np.uint8), colour, "yuv444p")
    luma = float(rgb @ [red, 1 - red - blue, blue])
    differences = [(rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)]
    gains, black = ((219 / 255, 224 / 255), 16) if span == 1 else ((1, 1), 0)
    expected = [black + gains[0] * luma, *(128 + gains[1] * value for value in differences)]
    assert np.allclose(frame.to_ndarray()[:, 8, 8], expected, atol=1)
    assert (int(frame.colorspace), int(frame.color_range)) == (matrix, span)
    assert np.allclose(frame_to_pixels(frame, colour, "rgb24")[8, 8], rgb, atol=2)


@pytest.mark.parametrize(("given", "written"), [((1, 2), (1, 2)), ((9, 1), (9, 1)), ((2, 0), (6, 1))])
def test_colours_are_kept_and_said(tmp_path, make_clip, enlarge, given, written):
    clip = make_clip(tmp_path / "in.mp4", 3, sound=None, colorspace=given[0], color_range=given[1])
    restore_clip(clip, tmp_path / "out.mp4", enlarge(2))
    before, after = frames_of(clip)[0], frames_of(tmp_path / "out.mp4")[0]
    assert near(after.pixels, before.pixels.repeat(2, 0).repeat(2, 1), 2)
    colour = VideoFile(tmp_path / "out.mp4").clip.colour
    assert (colour.matrix, colour.range) == written


def test_depth_transparency_and_shape_of_pixels_are_kept(tmp_path, make_clip, enlarge):
    ten = make_clip(tmp_path / "ten.mkv", 3, sound=None, pix_fmt="yuv420p10le", sample_aspect_ratio=Fraction(4, 3))
    restore_clip(ten, tmp_path / "ten_x2.mp4", enlarge(2))
    result = VideoFile(tmp_path / "ten_x2.mp4").clip
    assert (result.pixel_format, result.aspect) == ("yuv420p10le", Fraction(4, 3))
    assert frames_of(tmp_path / "ten_x2.mp4")[0].pixels.dtype == np.uint16
    clear = make_clip(tmp_path / "clear.mov", 2, sound=None, codec="prores_ks", pix_fmt="yuva444p10le")
    restore_clip(clear, tmp_path / "clear_x2.mov", enlarge(2), codec="prores_ks")
    assert frames_of(tmp_path / "clear_x2.mov")[0].pixels.shape == (96, 128, 4)


def test_odd_sides_keep_every_pixel(tmp_path, make_clip, enlarge):
    clip = make_clip(tmp_path / "in.mp4", 2, (33, 47), sound=None, pix_fmt="yuv444p")
    restore_clip(clip, tmp_path / "out.mp4", enlarge(1))
    assert frames_of(tmp_path / "out.mp4")[0].pixels.shape == (33, 47, 3)
    assert plan_encoding(VideoFile(clip).clip, 1, ".webm").codec == "libvpx-vp9"
    sequence = Clip(33, 47, Fraction(25), Fraction(1, 25), "rgb24")
    assert plan_encoding(sequence, 1, ".mp4").pixel_format == "yuv444p"
    assert plan_encoding(sequence, 2, ".mp4").pixel_format == "yuv420p"


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_a_rotation_is_applied(tmp_path, make_clip, enlarge, degrees):
    clip = make_clip(tmp_path / "in.mp4", 2, sound=None)
    stored = frames_of(clip)[0].pixels
    turned(clip, degrees)
    restore_clip(clip, tmp_path / "out.mp4", enlarge(1))
    assert near(frames_of(tmp_path / "out.mp4")[0].pixels, np.rot90(stored, degrees // 90), 3)


def turned(path, degrees):
    """Give a video the matrix of a camera that was held at an angle (counterclockwise)."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), -90: (0, -1)}[degrees]
    values = [cos << 16, -sin << 16, 0, sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_of_a_file_that_was_cut_off_all_is_kept_that_is_there(tmp_path, make_clip, enlarge, suffix):
    clip = make_clip(tmp_path / f"in{suffix}", 60)
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) * 6 // 10])
    outcome = restore_clip(clip, tmp_path / "out.mp4", enlarge(1))
    assert 20 < outcome.num_frames < 50
    assert len(frames_of(tmp_path / "out.mp4")) == outcome.num_frames
    assert "are missing" in outcome.problems[0]


def test_without_its_index_nothing_of_a_file_can_be_read(tmp_path, make_clip):
    clip = make_clip(tmp_path / "in.mov", 4)
    data = clip.read_bytes()
    clip.write_bytes(data[: data.index(b"moov")])
    with pytest.raises(DataError, match=r"is not a video that can be read .* its end is missing"):
        VideoFile(clip)


def test_damage_in_the_middle_is_passed_over(tmp_path, make_clip, enlarge):
    clip = make_clip(tmp_path / "in.mp4", 40, sound=None)
    data = bytearray(clip.read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 200] = b"\xff" * 200
    clip.write_bytes(data)
    outcome = restore_clip(clip, tmp_path / "out.mp4", enlarge(1))
    assert 30 < outcome.num_frames <= 40
    assert any("could not be decoded" in problem for problem in outcome.problems)


def test_what_is_no_video_says_so(tmp_path, make_clip):
    (tmp_path / "text.mp4").write_text("I am no video\n" * 40)
    with pytest.raises(DataError, match=r"text.mp4' is not a video"):
        VideoFile(tmp_path / "text.mp4")
    with pytest.raises(DataError, match="does not exist"):
        VideoFile(tmp_path / "nowhere.mp4")
    clip = make_clip(tmp_path / "in.mp4", 5)
    with av.open(str(clip)) as file, av.open(str(tmp_path / "sound.mp4"), "w") as sound:
        stream = sound.add_stream_from_template(file.streams.audio[0])
        for packet in file.demux(file.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                sound.mux(packet)
    with pytest.raises(DataError, match=r"no video stream.*there is audio"):
        VideoFile(tmp_path / "sound.mp4")


def test_what_cannot_be_encoded_is_refused_before_the_work(tmp_path, make_clip, enlarge):
    clip = make_clip(tmp_path / "in.mp4", 2)
    network = enlarge(2)
    for target, options, words in (
        ("out.mp4", {"codec": "h246"}, "h246.*Did you mean"),
        ("out.mp4", {"codec": "aac"}, "encodes audio"),
        ("out.mov", {"codec": "prores_ks", "crf": 20}, "no such setting"),
        ("out.mp4", {"pixel_format": "yuv420"}, "Did you mean 'yuv420p'"),
        ("out.webm", {}, r"cannot hold.*\.mkv"),
        ("out.webm", {"codec": "h264"}, r"cannot hold.*\.mkv"),
    ):
        with pytest.raises(OptionsError, match=words):
            restore_clip(clip, tmp_path / target, network, **options)
    assert not network.seen
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingError, match=r"restore-toolkit\[video\]"):
        VideoFile(tmp_path / "clip.mp4")


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "cut":
        del data[len(data) // 2 :]
    elif how == "empty":
        data.clear()
    elif how == "a bit":
        data[len(data) // 3] ^= 4
    elif how == "text":
        data[:] = b"<html>no such page</html>"
    elif how == "an array":
        buffer = io.BytesIO()
        np.save(buffer, np.zeros(3))
        data[:] = buffer.getvalue()
    elif how == "another array":
        buffer = io.BytesIO()
        np.savez(buffer, num_frames=5)
        data[:] = buffer.getvalue()
    elif how == "too little":
        parts = dict(np.load(path))
        buffer = io.BytesIO()
        np.savez(buffer, **{**parts, "sizes": parts["sizes"][:-1]})
        data[:] = buffer.getvalue()
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "empty", "a bit", "text", "an array", "another array", "too little"])
def test_a_damaged_part_is_made_again(tmp_path, make_clip, caplog, how):
    clip = make_clip(tmp_path / "in.mkv", 13, codec="ffv1", pix_fmt="bgr0")
    settings = {"segment_frames": 4, "codec": "ffv1"}
    restore_clip(clip, tmp_path / "whole.mkv", Batched(), **settings)
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        restore_clip(clip, target, Batched(12), **settings)
    damage(tmp_path / "out.mkv.parts/00001.npz", how)
    outcome = restore_clip(clip, target, Batched(), **settings)
    assert (outcome.num_frames, outcome.num_kept) == (13, 4)
    assert "00001.npz' is damaged: it is made again" in caplog.text
    assert target.read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "out.mkv", "whole.mkv"]


def test_a_file_with_other_frames_than_were_restored_does_not_take_the_name(tmp_path, make_clip, enlarge, monkeypatch):
    clip, target = make_clip(tmp_path / "in.mp4", 9), tmp_path / "out.mp4"
    target.write_bytes(b"the one before")
    packets_of = Segments.packets

    def losing(segments, time_base):
        yield from itertools.islice(packets_of(segments, time_base), 8)

    with monkeypatch.context() as patched:
        patched.setattr(Segments, "packets", losing)
        with pytest.raises(OutputError, match=r"cannot write .*out\.mp4': 9 frames were restored and the file holds 8"):
            restore_clip(clip, target, enlarge(1))
    assert target.read_bytes() == b"the one before"
    assert restore_clip(clip, target, enlarge(1)).num_kept == 9
    assert len(frames_of(target)) == 9


@pytest.mark.parametrize("kind", ["video", "images"])
def test_one_output_is_written_by_one_process(tmp_path, make_clip, enlarge, kind):
    source, restorer = VideoFile(make_clip(tmp_path / "in.mp4", 3)), Restorer(enlarge(1), device="cpu")
    target = tmp_path / {"video": "out.mp4", "images": "frames/0.png"}[kind]
    restore = {
        "video": lambda: restore_clip(source.path, target, enlarge(1)),
        "images": lambda: restore_to_images(source, lambda number: tmp_path / f"frames/{number}.png", restorer),
    }[kind]
    with reserved(target), pytest.raises(OutputError, match=rf"{target.name}' is being written by another process"):
        restore()
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


CHAPTERS = [(0, 40, "Opening"), (40, 90, "Middle"), (90, 120, "End")]


def with_more(path, suffix=".mkv", *, font=False, cover=False, alpha=False):
    """A clip with chapters, a title, and what else is asked for."""
    path = path.with_suffix(suffix)
    with av.open(str(path), "w") as file:
        file.metadata["title"] = "My film"
        times = Fraction(1, 1000)
        file.set_chapters(
            [
                {"id": number, "start": start, "end": end, "time_base": times, "metadata": {"title": title}}
                for number, (start, end, title) in enumerate(CHAPTERS, 1)
            ]
        )
        codec, pixel_format = ("libvpx-vp9", "yuva420p") if alpha else ("libx264", "yuv420p")
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        if alpha:
            stream.metadata["alpha_mode"] = "1"
        if cover:
            further = file.add_stream("libx264", rate=25)
            further.width, further.height, further.pix_fmt = 16, 16, "yuv420p"
        if font:
            file.add_attachment("a.ttf", "font/ttf", b"not much of a font")
        for number in range(3):
            picture = np.full((48, 64, 4), 90 + number, np.uint8)
            picture[:, 32:, 3] = 255
            picture[:, :32, 3] = 60
            frame = av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format=pixel_format)
            frame.pts = number
            file.mux(stream.encode(frame))
            if cover:
                small = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
                file.mux(further.encode(small.reformat(format="yuv420p")))
        file.mux(stream.encode(None))
        if cover:
            file.mux(further.encode(None))
    return path


def chapters_of(path):
    with av.open(str(path)) as file:
        return [
            (round(1000 * each["start"] * each["time_base"]), each["metadata"]["title"]) for each in file.chapters()
        ]


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".webm"])
def test_chapters_and_title_are_kept_or_it_is_said(tmp_path, enlarge, suffix, sound, caplog):
    clip = with_more(tmp_path / "in")
    target = tmp_path / f"out{suffix}"
    restore_clip(clip, target, enlarge(1), sound=sound)
    assert chapters_of(target) == [(start, title) for start, _, title in CHAPTERS] or "chapters" in caplog.text
    with av.open(str(target)) as file:
        assert file.metadata["title"] == "My film"


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_attachments_are_kept_or_it_is_said(tmp_path, enlarge, suffix, caplog):
    clip = with_more(tmp_path / "in", font=True, cover=True)
    restore_clip(clip, tmp_path / f"out{suffix}", enlarge(1))
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        attached = [(each.metadata["filename"], each.data) for each in file.streams if each.type == "attachment"]
    said = [record.message for record in caplog.records if "not carried over" in record.message]
    assert attached == ([("a.ttf", b"not much of a font")] if suffix == ".mkv" else [])
    expected = ["a further video stream", *(["the attachment 'a.ttf'"] if suffix != ".mkv" else [])]
    assert {message.split(": ")[1] for message in said} == set(expected)


def test_transparency_of_webm_is_read(tmp_path, enlarge, caplog):
    clip = with_more(tmp_path / "in", ".webm", alpha=True)
    restore_clip(clip, tmp_path / "out.mkv", enlarge(1), codec="ffv1")
    alpha = frames_of(tmp_path / "out.mkv")[0].pixels[..., 3]
    assert (near(alpha[:, :30], 60, 3), near(alpha[:, 34:], 255, 3)) == (True, True)
    restore_clip(clip, tmp_path / "out.webm", enlarge(1))
    assert "libvpx-vp9 holds no transparency: it is left out" in caplog.text
