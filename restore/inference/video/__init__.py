"""Clips through a `Restorer`: videos and numbered images in, videos and numbered images out.

    source = VideoFile("clip.mp4")
    encoding = plan_encoding(source.clip, restorer.scale, ".mp4")
    restore_to_video(source, "restored.mp4", restorer, encoding, carried_from=source.path)

Times of frames, colours, the shape of pixels, sound, subtitles, chapters and attachments stay what they are, or it is
said; a rotation is applied. What is finished is kept when the work is interrupted, and the same call goes on.
"""

from restore.inference.video.clip import FrameSource
from restore.inference.video.encoding import VIDEO_OUTPUTS, Encoding, plan_encoding
from restore.inference.video.reading import VideoFile
from restore.inference.video.restoring import ClipOutcome, restore_to_images, restore_to_video
from restore.inference.video.sequences import ImageSequence

__all__ = [
    "VIDEO_OUTPUTS",
    "ClipOutcome",
    "Encoding",
    "FrameSource",
    "ImageSequence",
    "VideoFile",
    "plan_encoding",
    "restore_to_images",
    "restore_to_video",
]
