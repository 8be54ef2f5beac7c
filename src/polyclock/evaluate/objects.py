"""Are the objects of a film still there, where they should be, and themselves? Truth has masks; the film may have none.

An object of a true frame is looked for in the film's frame of that moment: its pixels are laid over the picture at
every displacement of at most a quarter of the picture, and the place where they differ least is where it is found.
Nothing else is asked of the film than its pictures, so that films of any model can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

LEAST = 12  # px that must be seen of an object for it to count
MOST = 0.5  # share of the picture: what covers more is no object in it
REACH = 0.25  # of the picture's larger side: how far an object is looked for
LIKE = 2 / 3  # of the best other place's difference: what differs less is the object
TOLD = 0.04  # root mean square, of [0, 1]: what differs less from the best other place cannot be told from it
SHOWN = 0.5  # share of an object that must lie inside the picture where it is looked for
MOVED = 0.5  # px of an object's centre: what moves less stands still
LIKENESS = 0.25  # of the union: what a predicted mask must share with the true one, centre on centre, to be the object

AT_ONCE = 16  # objects that are worked on together
KEPT = 2**28  # bytes: spectra of all objects that take no more are kept from one film to the next


class Sought:
    """The objects of true films, ready to be looked for in others.

    true    uint8 (B, T, H, W, 3)
    labels  (B, T, H, W, 2) = instance, class of the same frames. Objects are the instances above 0; in a sample without
            instances the pixels of a class above 0 are one object. Of an object at least 12 px must be seen, and it may
            cover at most half of the picture
    """

    def __init__(self, true: Tensor, labels: Tensor) -> None:
        self.size, self.reach = len(true), int(REACH * max(true.shape[2:4]))
        ids = _ids(labels, _named(labels))
        every = [_Object(ids == value) for value in ids.unique().tolist() if value > 0]
        none = torch.zeros(0, 2, dtype=torch.long)
        self.sample, self.frame = torch.cat([o.seen.nonzero() for o in every] or [none]).T
        self.moves = torch.cat([o.moved[o.seen] for o in every] or [torch.zeros(0, dtype=torch.bool)])
        self._mask = torch.cat([o.mask[o.seen] for o in every] or [torch.zeros(0, *true.shape[2:4], dtype=torch.bool)])
        self._true = true
        self._kept: dict[int, _Piece] = {}
        height, width = (size + self.reach for size in true.shape[2:4])
        self._small = len(self._mask) * 4 * 8 * height * (width + 2) <= KEPT
        found = [(piece.other(), piece.found(true[piece.sample, piece.frame])[1]) for piece in self._pieces()]
        self.other = torch.cat([other for other, _ in found] or [torch.zeros(0, dtype=torch.float64)])
        self._at = torch.cat([at for _, at in found] or [torch.zeros(0, 2, dtype=torch.float64)])

    def _pieces(self) -> Iterator[_Piece]:
        """The objects, some at a time: what is worked out of one takes a hundred times its pixels."""
        for start in range(0, len(self._mask), AT_ONCE):
            piece = self._kept.get(start)
            if piece is None:
                some = slice(start, start + AT_ONCE)
                piece = _Piece(self._mask[some], self._true, self.sample[some], self.frame[some], self.reach)
            if self._small:
                self._kept[start] = piece
            yield piece

    def errors(self, film: Tensor, first: int = 0) -> dict[str, Tensor]:
        """uint8 (B, T, H, W, 3) -> {"permanence", "place_error", "place_error_moving", "object_error"}, (B,) each.

        For each object and frame from `first` on, e(d) is the mean squared difference, in [0, 1], between its pixels
        and those of the film at displacement d; e' is the least e in the true frame itself among places that share
        less than half of the object with it: the best that anything but the object scores.

        permanence          share of objects and frames with min e < 2/3 e': the film still shows it, somewhere near
        place_error         mean distance, px, between the displacements of the least e in the film and in the true
                            frame, each to a fraction of a pixel by the parabola through its neighbours; over those
                            that are still there
        place_error_moving  the same over objects whose true mask has its centre 0.5 px or more from where it was when
                            the clip began
        object_error        mean root of min e: how much the object differs from what it looks like, where it is found

        Objects with e' below 0.04^2 cannot be told from what surrounds them and do not count.
        """
        found = [piece.found(film[piece.sample, piece.frame]) for piece in self._pieces()]
        least = torch.cat([value for value, _ in found] or [torch.zeros(0, dtype=torch.float64)])
        away = (torch.cat([at for _, at in found] or [self._at]) - self._at).norm(dim=-1)
        counts = (self.frame >= first) & self.other.isfinite() & (self.other >= TOLD**2)
        there = counts & (least < LIKE * self.other)
        return {
            "permanence": self._mean(there.double(), counts),
            "place_error": self._mean(away, there),
            "place_error_moving": self._mean(away, there & self.moves),
            "object_error": self._mean(least.sqrt(), counts),
        }

    def _mean(self, values: Tensor, used: Tensor) -> Tensor:
        """(n,) -> (B,) the mean of each sample's `used`; NaN where it has none."""
        total, n = torch.zeros(2, self.size, dtype=torch.float64)
        total.index_add_(0, self.sample[used], values[used])
        n.index_add_(0, self.sample[used], torch.ones_like(values[used]))
        return total / n


class _Piece:
    """A few objects of true frames: mask (n, H, W) bool of the frames (sample (n,), frame (n,)) of `true`."""

    def __init__(self, mask: Tensor, true: Tensor, sample: Tensor, frame: Tensor, reach: int) -> None:
        self.sample, self.frame, self.reach = sample, frame, reach
        shape = mask.double()
        self._room = tuple(size + reach for size in mask.shape[1:])
        self.area = shape.sum((1, 2))
        own = shape[..., None] * (true[sample, frame].double() / 255)
        self._mask = self._turned(shape)
        self._own = [self._turned(own[..., c]) for c in range(own.shape[-1])]
        whole = self._turned(torch.ones_like(shape))
        self._inside = self._summed(self._mask, whole)
        self._squares = self._summed(self._turned(own.square().sum(-1)), whole)
        self._true = true

    def other(self) -> Tensor:
        """(n,): the least difference in the true frame among places that share less than half of the object with it."""
        shared = self._summed(self._mask, self._mask) / self.area[:, None, None]
        same = self._landscape(self._true[self.sample, self.frame])
        return torch.where(shared < 0.5, same, torch.inf).flatten(1).amin(1)

    def found(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (n, H, W, 3) -> the least difference (n,) and its displacement (n, 2) px."""
        landscape = self._landscape(pictures)
        return landscape.flatten(1).amin(1), _lowest(landscape)

    def _landscape(self, pictures: Tensor) -> Tensor:
        """uint8 (n, H, W, 3) -> (n, 2 reach + 1, 2 reach + 1): mean squared difference by rows and columns.

        Infinite where less than half of the object lies inside the picture.
        """
        values = pictures.double() / 255
        squares = self._summed(self._mask, self._turned(values.square().sum(-1))) + self._squares
        for c, own in enumerate(self._own):
            squares = squares - 2 * self._summed(own, self._turned(values[..., c]))
        difference = (squares / (self._inside.clamp_min(1) * len(self._own))).clamp_min(0)
        return torch.where(self._inside >= SHOWN * self.area[:, None, None] - 1e-6, difference, torch.inf)

    def _turned(self, values: Tensor) -> Tensor:
        """The spectrum of (n, H, W), with room for every displacement."""
        return torch.fft.rfft2(values, s=self._room)

    def _summed(self, one: Tensor, other: Tensor) -> Tensor:
        """Spectra of a and b -> sum over p of a(p) b(p + d), (n, 2 reach + 1, 2 reach + 1) for all d."""
        whole = torch.fft.irfft2(one.conj() * other, s=self._room)
        near = torch.arange(-self.reach, self.reach + 1)
        return whole[:, near % self._room[0]][:, :, near % self._room[1]]


def mask_errors(predicted: Tensor, labels: Tensor, first: int = 0) -> dict[str, Tensor]:
    """Segmentations (B, T, H, W, 2), predicted and true -> {"permanence", "place_error"}, (B,) each.

    Of the frames from `first` on: permanence = share of the ids that are truly seen (12 px and more) whose predicted
    mask shares a quarter of the union with the true one, once it is moved so that their centres meet; place_error =
    mean distance, px, of these centres, over those that are there. Instances are compared in samples of which both have
    them, else classes; id 0 is no object.
    """
    both = _named(predicted) & _named(labels)
    said, real = (_ids(v, both)[:, first:] for v in (predicted, labels))
    sums = torch.zeros(3, len(real), dtype=torch.float64)
    for value in real.unique().tolist():
        if value <= 0:
            continue
        thing, guess = _Object(real == value), said == value
        away = _centre(guess) - thing.centre
        seen, off = thing.seen, away.norm(dim=-1)
        there = seen & (_shared(guess, thing.mask, away.round().long(), seen) >= LIKENESS)
        sums += torch.stack([seen.sum(1), there.sum(1), torch.where(there, off, 0.0).sum(1)]).double()
    return {"permanence": sums[1] / sums[0], "place_error": sums[2] / sums[1]}


def _named(labels: Tensor) -> Tensor:
    """(B, T, H, W, 2) -> (B,) whether a sample has instances."""
    return (labels[..., 0] > 0).flatten(1).any(1)


def _ids(labels: Tensor, named: Tensor) -> Tensor:
    """(B, T, H, W, 2) -> (B, T, H, W) its instances where `named` (B,), else its classes."""
    return torch.where(named[:, None, None, None], labels[..., 0], labels[..., 1])


def _shared(guess: Tensor, mask: Tensor, away: Tensor, of: Tensor) -> Tensor:
    """Masks (B, T, H, W) bool, displacements (B, T, 2) px -> (B, T) intersection over union, where `of` (B, T)."""
    out = torch.zeros(of.shape, dtype=torch.float64)
    for b, t in of.nonzero().tolist():
        moved = guess[b, t].roll((-away[b, t]).tolist(), (0, 1))
        out[b, t] = (moved & mask[b, t]).sum() / (moved | mask[b, t]).sum()
    return out


class _Object:
    """One id: its mask (B, T, H, W) bool, its centre (B, T, 2) px, in which frames it counts (B, T), and has moved."""

    def __init__(self, mask: Tensor) -> None:
        area = mask.sum((2, 3))
        self.mask, self.centre = mask, _centre(mask)
        self.seen = (area >= LEAST) & (area <= MOST * mask.shape[2] * mask.shape[3])
        began = self.seen.int().argmax(1)  # the first frame that shows it
        at = self.centre[torch.arange(len(mask)), began][:, None]
        self.moved = (self.centre - at).norm(dim=-1) >= MOVED


def _centre(mask: Tensor) -> Tensor:
    """(..., H, W) bool -> (..., 2) the mean row and column; 0 where it is empty."""
    n = mask.sum((-2, -1)).clamp_min(1).double()
    rows, columns = (torch.arange(s, dtype=torch.float64) for s in mask.shape[-2:])
    return torch.stack([(mask.sum(-1) * rows).sum(-1) / n, (mask.sum(-2) * columns).sum(-1) / n], -1)


def _lowest(landscape: Tensor) -> Tensor:
    """(n, 2 reach + 1, 2 reach + 1) -> (n, 2) px, rows and columns: the displacement of the least value.

    Of equals the nearest: what is the same everywhere has not moved. Between pixels by the parabola through the least
    and its neighbours on either side; at the end of the landscape the pixel itself.
    """
    if not len(landscape):
        return torch.zeros(0, 2, dtype=torch.float64)
    side = landscape.shape[1]
    near = torch.arange(side, dtype=torch.float64) - side // 2
    flat = (landscape + 1e-9 * (near[:, None].square() + near.square())).flatten(1).argmin(1)
    row, column, every = flat // side, flat % side, torch.arange(len(landscape))

    def between(at: Tensor, before: Tensor, here: Tensor, after: Tensor) -> Tensor:
        bend = before - 2 * here + after
        inner = (at > 0) & (at < side - 1) & bend.isfinite() & (bend > 1e-12)
        return at - side // 2 + torch.where(inner, (before - after) / (2 * bend), 0.0).clamp(-0.5, 0.5)

    here = landscape[every, row, column]
    up, down = (landscape[every, (row + i).clamp(0, side - 1), column] for i in (-1, 1))
    left, right = (landscape[every, row, (column + i).clamp(0, side - 1)] for i in (-1, 1))
    return torch.stack([between(row, up, here, down), between(column, left, here, right)], -1)
