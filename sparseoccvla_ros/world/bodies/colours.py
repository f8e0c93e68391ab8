"""Colours that people have one word for, each far from the others in hue or lightness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparseoccvla_ros.world.city import Colour

COLOURS: dict[str, Colour] = {
    'white': (0.88, 0.88, 0.88),
    'black': (0.045, 0.045, 0.05),
    'grey': (0.37, 0.38, 0.39),
    'red': (0.76, 0.05, 0.06),
    'blue': (0.05, 0.20, 0.70),
    'green': (0.05, 0.44, 0.14),
    'yellow': (0.93, 0.75, 0.05),
    'brown': (0.34, 0.18, 0.08),
}


def draw_colour(
    rng: np.random.Generator, words: Sequence[str], shares: Sequence[float] | None = None
) -> tuple[str, Colour]:
    """One of the words, with its colour a little lighter or darker than usual."""
    word = words[rng.choice(len(words), p=shares)]
    red, green, blue = np.array(COLOURS[word]) * rng.uniform(0.92, 1.08)
    return word, (float(red), float(green), float(blue))
