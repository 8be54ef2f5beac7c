"""Which way up a video is shown: a phone stores pictures as its sensor lies, and a matrix that turns them."""

from __future__ import annotations

import struct
from typing import NamedTuple

import av
import numpy as np


class Turn(NamedTuple):
    """Stored picture -> shown picture: rows and columns change places, then it is mirrored in height, in width."""

    exchanged: bool = False
    upended: bool = False
    mirrored: bool = False

    @property
    def said(self) -> str:
        """For what depends on how the pictures are shown: "" where that is as they are stored."""
        return "".join(letter for letter, on in zip("xvh", self, strict=True) if on)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the stored picture -> of the shown one, and back."""
        return (width, height) if self.exchanged else (height, width)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, C) as stored -> a view of it as shown."""
        if self.exchanged:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.upended else 1, :: -1 if self.mirrored else 1]


def turn_of(frame: av.VideoFrame) -> Turn:
    """How a player shows this picture, to the nearest quarter turn; as stored where the file does not say.

    The display matrix of ISO/IEC 14496-12 puts the pixel (x, y) at (a x + c y, b x + d y), rows counted downwards.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Turn()
    a, b, _, c, d = struct.unpack("=9i", bytes(matrix))[:5]
    if abs(a) >= abs(b):
        return Turn(False, d < 0, a < 0)
    return Turn(True, b < 0, c < 0)
