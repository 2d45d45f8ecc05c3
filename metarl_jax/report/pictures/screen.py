"""Draw games whose screens are stacks of planes: one colour a plane, animated as a GIF by Pillow."""

from pathlib import Path

import numpy as np

BACKGROUND = (24, 24, 32)
COLOURS = (
    *((240, 200, 80), (110, 190, 240), (225, 95, 75), (140, 210, 120), (190, 130, 220), (240, 150, 60)),
    *((200, 200, 205), (90, 140, 130), (250, 170, 190), (150, 150, 90)),
)
PIXEL = 20  # pixels of the picture for each of the game's
GAP = 20
MILLISECONDS = 100


def screen_colours(planes: np.ndarray) -> np.ndarray:
    """Each pixel in the colour of the first of its planes that is on.

    Args:
      planes: ``[..., H, W, C]`` of 0 and 1.

    Returns:
      ``[..., H, W, 3]`` RGB bytes.

    Example:
      >>> screen_colours(np.array([[[0, 1, 1]], [[0, 0, 0]]])).tolist()
      [[[110, 190, 240]], [[24, 24, 32]]]
    """
    return np.array([*COLOURS, BACKGROUND], np.uint8)[first_planes(planes)]


def first_planes(planes: np.ndarray) -> np.ndarray:
    """For each pixel the number of its colour: that of the first plane that is on, or one more than all colours.

    Args:
      planes: ``[..., H, W, C]`` of 0 and 1.

    Returns:
      ``[..., H, W]``.
    """
    on = np.asarray(planes) > 0.5
    return np.where(on.any(axis=-1), np.argmax(on, axis=-1) % len(COLOURS), len(COLOURS))


def animate_screens(
    before: np.ndarray,
    after: np.ndarray,
    path: str | Path,
    labels: tuple[str, str] = ("before adaptation", "after adaptation"),
) -> None:
    """Save two episodes of a game side by side as a GIF.

    Args:
      before: ``[T, H, W, C]`` screens of one episode.
      after: the same of another one, on the right.
      path: the GIF file to write.
      labels: above the left and above the right screen.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     animate_screens(np.zeros((3, 10, 10, 4)), np.ones((3, 10, 10, 4)), f"{folder}/game.gif")
      ...     Path(f"{folder}/game.gif").exists()
      True
    """
    from PIL import Image, ImageDraw

    height, width = PIXEL * before.shape[1], max(PIXEL * before.shape[2], 220)
    frames = []
    for screens in zip(screen_colours(before), screen_colours(after), strict=True):
        frame = Image.new("RGB", (2 * width + 3 * GAP, height + 3 * GAP), "white")
        draw = ImageDraw.Draw(frame)
        for i, (screen, label) in enumerate(zip(screens, labels, strict=True)):
            left = GAP + i * (width + GAP)
            draw.text((left, GAP // 2), label, fill="black")
            large = Image.fromarray(screen).resize((PIXEL * screen.shape[1], height), Image.Resampling.NEAREST)
            frame.paste(large, (left, 2 * GAP))
        frames.append(frame.quantize(len(COLOURS) + 6))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0)
