"""
Renders a real MP4 for a request: H.264 in the requested aspect ratio, with motion and the prompt in its own script.

The same scene always renders to the same bytes.
"""

from __future__ import annotations

import colorsys
import dataclasses
import functools
import math
import random
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import pylopdf_fonts_zh_cn
from PIL import Image, ImageDraw, ImageFont

FRAMES_PER_SECOND = 24
SIZES = {
    # (aspect ratio, upsampled): width and height
    ("16:9", False): (640, 360),
    ("9:16", False): (360, 640),
    ("16:9", True): (1280, 720),
    ("9:16", True): (720, 1280),
}
SCALE = {False: 2, True: 4}
"""Factor by which the background is painted smaller than the frame. It is blurred anyway, and painting is slow."""
NOT_FIRST = "，。！？；：、）》」』】…,.!?;:)"
"""Characters that may not begin a line."""
LIGHTS = 5
"""Soft discs that drift over the background."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """Everything that a file's bytes depend on."""

    video_id: str
    model: str
    prompt: str
    aspect_ratio: str
    upsampled: bool
    seconds: float


@dataclasses.dataclass(frozen=True)
class _Light:
    mask: Image.Image
    colour: tuple[int, int, int]
    x: float
    y: float
    phase: float
    turns: int


@dataclasses.dataclass(frozen=True)
class _Caption:
    size: tuple[int, int]
    blocks: tuple[tuple[tuple[int, int, int, int], Image.Image], ...]
    """The box of each block of text, and the text as a mask."""
    shadow: int


def render(scene: Scene) -> bytes:
    """Return a scene's MP4."""
    size = SIZES[scene.aspect_ratio, scene.upsampled]
    chance = random.Random(scene.video_id)  # noqa: S311 (colours, not secrets)
    hue = chance.random()
    small = (size[0] // SCALE[scene.upsampled], size[1] // SCALE[scene.upsampled])
    backdrop = _backdrop(small, hue)
    lights = [_light(small, hue, chance) for _ in range(LIGHTS)]
    caption = _caption(scene, size)
    frames = max(2, round(scene.seconds * FRAMES_PER_SECOND))
    # A file, not memory: moving the index to the front (faststart) reads back what was written.
    with tempfile.TemporaryDirectory(prefix="veo-sandbox-") as folder:
        path = Path(folder) / "video.mp4"
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = _stream(container, size)
            for number in range(frames):
                image = _frame(backdrop, lights, caption, number / frames)
                # PyAV declares no types for this method.
                video_frame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
                container.mux(stream.encode(video_frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


def _stream(container: av.container.OutputContainer, size: tuple[int, int]) -> av.VideoStream:
    stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"preset": "ultrafast", "crf": "23"})
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.time_base = Fraction(1, FRAMES_PER_SECOND)
    stream.thread_count = 1  # leave the other cores to the code under test
    return stream


def _frame(backdrop: Image.Image, lights: list[_Light], caption: _Caption, moment: float) -> Image.Image:
    """Return one frame. `moment` goes from 0 to 1, and the end matches the beginning, so that the video loops."""
    painting = backdrop.copy()
    width, height = painting.size
    for light in lights:
        angle = light.phase + math.tau * moment * light.turns
        left = round((light.x + 0.22 * math.cos(angle)) * width - light.mask.width / 2)
        top = round((light.y + 0.16 * math.sin(angle)) * height - light.mask.height / 2)
        painting.paste(light.colour, (left, top, left + light.mask.width, top + light.mask.height), light.mask)
    frame = painting.resize(caption.size, Image.Resampling.BILINEAR)
    width, height = frame.size
    bar = max(2, height // 120)
    frame.paste((255, 255, 255), (0, height - bar, round(width * moment) + bar, height))
    for box, letters in caption.blocks:
        frame.paste((0, 0, 0), (box[0] + caption.shadow, box[1] + caption.shadow), letters)
        frame.paste((255, 255, 255), box, letters)
    return frame


def _backdrop(size: tuple[int, int], hue: float) -> Image.Image:
    fade = Image.linear_gradient("L").resize(size)
    return Image.composite(
        Image.new("RGB", size, _colour(hue + 0.12, 0.65, 0.16)), Image.new("RGB", size, _colour(hue, 0.6, 0.5)), fade
    )


def _light(size: tuple[int, int], hue: float, chance: random.Random) -> _Light:
    across = round(min(size) * chance.uniform(0.5, 0.95))
    glow = Image.radial_gradient("L").resize((across, across)).point(lambda value: max(0, 150 - value))
    return _Light(
        mask=glow,
        colour=_colour(hue + chance.uniform(-0.15, 0.25), 0.45, 1.0),
        x=chance.uniform(0.2, 0.8),
        y=chance.uniform(0.2, 0.8),
        phase=chance.uniform(0, math.tau),
        turns=chance.choice((-1, 1)),
    )


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _caption(scene: Scene, size: tuple[int, int]) -> _Caption:
    """Return the caption of each frame: the prompt in the middle, the model below."""
    width, height = size
    prompt = Image.new("L", size)
    text, font = _fitted(scene.prompt, round(width * 0.86), round(height * 0.68), largest=min(size) // 10)
    ImageDraw.Draw(prompt).multiline_text(
        (width / 2, height * 0.46), text, fill=255, font=font, anchor="mm", align="center", spacing=font.size * 0.3
    )
    labels = Image.new("L", size)
    draw = ImageDraw.Draw(labels)
    small = _font(max(11, min(size) // 26))
    margin = width * 0.04
    draw.text((margin, height * 0.95), scene.model, fill=210, font=small, anchor="ls")
    label = "sandbox · upsampled" if scene.upsampled else "sandbox"
    draw.text((width - margin, height * 0.95), label, fill=210, font=small, anchor="rs")
    boxes = [(layer, layer.getbbox()) for layer in (prompt, labels)]
    blocks = tuple((box, layer.crop(box)) for layer, box in boxes if box)
    return _Caption(size, blocks, shadow=max(1, min(size) // 300))


def _fitted(text: str, width: int, height: int, largest: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """Return the text in lines and the largest font that fits into the box. Truncate the text if no font fits."""
    smallest = max(12, largest // 3)
    for size in range(largest, smallest - 1, -2):
        font = _font(size)
        lines = _wrapped(text, font, width)
        room = int(height / (size * 1.75))
        if len(lines) <= room:
            return "\n".join(lines), font
    return "\n".join([*lines[: room - 1], lines[room - 1][:-1] + "…"]), font


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = []
    for paragraph in text[:2000].splitlines():
        line = ""
        for piece in _pieces(paragraph):
            if line and font.getlength((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece if line else piece.lstrip()
        lines.append(line.rstrip())
    return lines


def _pieces(text: str) -> list[str]:
    """Return the pieces between which a line may break: words with their spaces, and single Chinese characters."""
    pieces: list[str] = []
    for letter in text:
        if pieces and letter in NOT_FIRST:
            pieces[-1] += letter
            continue
        alone = letter >= "\u2e80"
        follows = pieces and pieces[-1][-1] < "\u2e80" and pieces[-1][-1] != " " and len(pieces[-1]) < 24
        if follows and not alone:
            pieces[-1] += letter
        else:
            pieces.append(letter)
    return pieces


@functools.lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(pylopdf_fonts_zh_cn.sans_path()), size)
