"""
Turns a frame of a video into a JPEG, as a program: the video on its standard input, the JPEG on its standard output.

The video is data from outside, and a media library can be made to allocate gigabytes or to loop by a few hundred bytes.
So it runs in a process of its own, which limits itself before it imports the library or reads the first byte. See
:mod:`airflow_provider_veo.storage.poster`, which starts it.
"""

from __future__ import annotations

import resource
import sys
import time
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SIDE = 640
"""Of the JPEG, in pixels."""
MAX_BYTES = 60_000
"""Of the JPEG."""
MEMORY_BYTES = 768 * 1024**2
"""Of addresses. A frame of 8K takes 120 MiB of memory."""
CPU_SECONDS = 6
_LIMITS = {
    resource.RLIMIT_AS: MEMORY_BYTES,
    resource.RLIMIT_CPU: CPU_SECONDS,
    resource.RLIMIT_FSIZE: 2 * MAX_BYTES,
    resource.RLIMIT_CORE: 0,
}
_FORMATS = {"video/mp4": "mov", "video/quicktime": "mov", "video/webm": "matroska"}
"""FFmpeg's name of the one demuxer that may read a file, by content type."""
_CODECS = frozenset(("h264", "hevc", "av1", "libdav1d", "vp8", "libvpx", "vp9", "libvpx-vp9"))
"""Names of decoders. Others are not needed, and each is more code that reads bytes from outside."""
_MAX_PIXELS = 8192 * 4320
_DECODER_OPTIONS = {"max_pixels": str(_MAX_PIXELS)}
_MAX_STREAMS = 8
_SEARCH_SECONDS = 3.0
"""Processor time for the search. Then the brightest frame so far is taken."""
_SEARCH_FRAMES = 600
_EVERY = 4
"""Only each fourth frame is looked at."""
_THUMBNAIL = (32, 18)
_MIN_BRIGHTNESS, _MIN_CONTRAST = 40, 40
"""Of 255: the mean, and the difference between the brightest and the darkest point, of a frame that shows something."""
_QUALITIES = (3, 5, 8, 12, 18, 31)
"""FFmpeg's quantizers, the best first."""


class NoFrameError(Exception):
    """The video has no frame that can be shown."""


def limit_this_process() -> None:
    """Limit memory, processor time and the size of files of this process for good."""
    for what, limit in _LIMITS.items():
        hard = resource.getrlimit(what)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (limit, limit))


def jpeg_of(file: Any, content_type: str) -> bytes:
    """
    Return a JPEG of the first frame that shows something, or of the brightest one.

    :param file: a seekable binary file.
    :param content_type: of the video.
    :raises NoFrameError: it has no video stream of an allowed codec, or no frame.
    """
    import av

    options = {"max_streams": str(_MAX_STREAMS)}
    with av.open(file, format=_FORMATS[content_type], options=options) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None or stream.codec_context.name not in _CODECS:
            raise NoFrameError(f"no video stream of a known codec, but {stream and stream.codec_context.name}")
        stream.codec_context.options = _DECODER_OPTIONS
        stream.thread_type = "NONE"
        stream.thread_count = 1
        return _encoded(_chosen(container.decode(stream)))


def _chosen(frames: Iterator[Any]) -> Any:
    best, best_brightness = None, -1.0
    for number, frame in enumerate(frames):
        if number % _EVERY == 0:
            brightness, contrast = _light(frame)
            if brightness >= _MIN_BRIGHTNESS and contrast >= _MIN_CONTRAST:
                return frame
            if brightness > best_brightness:
                best, best_brightness = frame, brightness
        if number >= _SEARCH_FRAMES or time.process_time() > _SEARCH_SECONDS:
            break
    if best is None:
        raise NoFrameError("no frame")
    return best


def _light(frame: Any) -> tuple[float, int]:
    width, height = _THUMBNAIL
    plane = frame.reformat(width, height, "gray").planes[0]
    content = bytes(plane)
    points = b"".join(content[row * plane.line_size :][:width] for row in range(height))
    return sum(points) / len(points), max(points) - min(points)


def _encoded(frame: Any) -> bytes:
    import av

    scale = min(1.0, MAX_SIDE / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale) // 2 * 2) for side in (frame.width, frame.height))
    small = frame.reformat(width, height, "yuvj420p")
    for quality in _QUALITIES:
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
        encoder.framerate = Fraction(25)
        encoder.options = {"qmin": str(quality), "qmax": str(quality)}
        jpeg = b"".join(bytes(packet) for packet in (*encoder.encode(small), *encoder.encode(None)))
        if len(jpeg) <= MAX_BYTES:
            return jpeg
    raise NoFrameError(f"its JPEG has more than {MAX_BYTES} bytes")


def main() -> None:
    """Read the video, and write the JPEG."""
    limit_this_process()
    with open(0, "rb", closefd=False) as video:
        jpeg = jpeg_of(video, sys.argv[1])
    sys.stdout.buffer.write(jpeg)


if __name__ == "__main__":
    main()
