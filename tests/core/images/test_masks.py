"""From strokes to cells and back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from amused_core import AmusedError
from amused_core.images.masks import cells_to_mask, feather, grow_cells, mask_to_cells


def stroke(y: int, x: int, size: tuple[int, int] = (32, 48)) -> torch.Tensor:
    mask = torch.zeros(1, *size)
    mask[0, y, x] = 1
    return mask


@pytest.mark.parametrize("factor", [4, 8, 16])
def test_a_one_pixel_stroke_selects_its_cell_wherever_it_is(factor: int) -> None:
    for y in range(32):
        for x in range(48):
            cells = mask_to_cells(stroke(y, x), factor)
            assert cells.nonzero().tolist() == [[0, y // factor, x // factor]]


def test_a_thin_line_selects_every_cell_it_touches() -> None:
    mask = torch.zeros(1, 32, 32)
    mask[0, 7, :] = 1
    assert mask_to_cells(mask, 4).nonzero()[:, 1].tolist() == [1] * 8


def test_threshold() -> None:
    assert mask_to_cells(torch.full((1, 4, 4), 0.5), 4).all()
    assert not mask_to_cells(torch.full((1, 4, 4), 0.499), 4).any()
    assert mask_to_cells(torch.full((1, 4, 4), 0.1), 4, threshold=0.1).all()


def test_invert_takes_the_untouched_cells() -> None:
    mask = stroke(9, 9)
    assert torch.equal(mask_to_cells(mask, 4, invert=True), ~mask_to_cells(mask, 4))


def test_grow_adds_a_square_and_shrink_takes_it_back() -> None:
    cells = mask_to_cells(stroke(16, 24), 4)
    assert grow_cells(cells, 1).sum() == 9 and grow_cells(cells, 2).sum() == 25
    assert torch.equal(grow_cells(grow_cells(cells, 2), -2), cells)
    assert torch.equal(grow_cells(cells, 0), cells)
    assert not grow_cells(cells, -1).any()


def test_growing_beyond_the_picture() -> None:
    assert grow_cells(mask_to_cells(stroke(0, 0), 4), 100).all()


def test_the_pictures_border_is_no_border_of_the_mask() -> None:
    assert grow_cells(torch.ones(1, 4, 4, dtype=torch.bool), -2).all()
    assert torch.equal(feather(torch.ones(1, 8, 8), 3), torch.ones(1, 8, 8))


def test_each_picture_of_a_batch_by_itself() -> None:
    cells = mask_to_cells(torch.cat([stroke(0, 0), stroke(31, 47), torch.zeros(1, 32, 48)]), 16)
    assert cells.flatten(1).sum(-1).tolist() == [1, 1, 0]


def test_cells_to_mask_and_back() -> None:
    cells = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    mask = cells_to_mask(cells, 8)
    assert mask.shape == (2, 40, 56) and mask.dtype == torch.float32
    assert torch.equal(mask_to_cells(mask, 8), cells)


@pytest.mark.parametrize("pixels", [1, 2, 5, 40])
def test_feather_never_leaks(pixels: int) -> None:
    mask = cells_to_mask(torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(1)) > 0.4, 8)
    soft = feather(mask, pixels)
    assert soft.shape == mask.shape and (soft[mask == 0] == 0).all()
    assert soft.min() >= 0 and soft.max() <= 1


@pytest.mark.parametrize("pixels", [1, 4, 9])
def test_feather_is_that_of_square_windows(pixels: int) -> None:
    """Which take minutes where they are wide."""
    mask = (torch.rand(2, 24, 40, generator=torch.Generator().manual_seed(pixels)) > 0.01).float()
    padded = F.pad(mask[:, None], [2 * pixels] * 4, mode="replicate")
    shrunk = -F.max_pool2d(-padded, 2 * pixels + 1, stride=1)
    assert torch.equal(feather(mask, pixels), F.avg_pool2d(shrunk, 2 * pixels + 1, stride=1)[:, 0])
    assert torch.equal(feather(torch.ones(1, 7, 32), 256), torch.ones(1, 7, 32))


@pytest.mark.parametrize("count", [8, 100, 10**18])
def test_growing_without_end(count: int) -> None:
    cells = torch.zeros(2, 4, 8, dtype=torch.bool)
    cells[0, 3, 7] = True
    assert grow_cells(cells, count).flatten(1).all(1).tolist() == [True, False]
    assert grow_cells(~cells, -count).flatten(1).any(1).tolist() == [False, True]


def test_feather_rises_to_one_inside() -> None:
    mask = torch.zeros(1, 32, 32)
    mask[0, :, 8:] = 1
    row = feather(mask, 2)[0, 16]
    assert (row.diff() >= 0).all() and row[7] == 0 and row[12:].eq(1).all() and 0 < row[9] < 1


@pytest.mark.parametrize("pixels", [0, -3])
def test_no_feather(pixels: int) -> None:
    mask = stroke(3, 3)
    assert torch.equal(feather(mask, pixels), mask)


def test_sides_that_do_not_fit() -> None:
    with pytest.raises(AmusedError, match="33x32 pixels.*multiples of 4"):
        mask_to_cells(torch.zeros(1, 32, 33), 4)


def test_nan() -> None:
    with pytest.raises(AmusedError, match="NaN.*0 to 1"):
        mask_to_cells(torch.full((1, 8, 8), torch.nan), 4)
