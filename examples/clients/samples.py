"""Handwritten digits to ask about: 8 by 8 pixels, each 0 to 16, with what they show."""

import json
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[2] / ".build" / "digits" / "samples.json"


def digit(which: int = 0) -> tuple[list[float], int]:
    """The pixels of one held-out digit, row by row, and the digit that it is."""
    try:
        samples = json.loads(SAMPLES.read_text())
    except FileNotFoundError:
        raise SystemExit(f"{SAMPLES} is missing; `make setup` makes it") from None
    sample = samples[which % len(samples)]
    return sample["instance"]["X"], sample["label"]


def drawn(pixels: list[float]) -> str:
    """The digit as a person sees it."""
    shades = " .:-=+*#%@"
    rows = [pixels[start : start + 8] for start in range(0, 64, 8)]
    return "\n".join("".join(2 * shades[min(9, int(pixel * 10 / 17))] for pixel in row) for row in rows)
