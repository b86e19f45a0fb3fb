"""Layouts of memories and what is kept of them, against slow readable twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hour_llava.errors import TokenCountError
from hour_llava.memory import count_kept_tokens, query_positions
from hour_llava.model.image_geometry import best_sheet_wh, merged_hw, unpadded_box
from hour_llava.model.rows import check_counts, pack_rows
from hour_llava.model.visual_plan import (
    CellDraws,
    VisualPlan,
    images_memory_positions,
    plan_images,
    plan_video,
)


@pytest.mark.parametrize("num_frames", [1, 7, 8, 9, 100, 3000])
@pytest.mark.parametrize("spatial", ["uniform", "random"])
def test_the_plan_of_a_video_keeps_what_the_count_says(
    make_config: Any, num_frames: int, spatial: str
) -> None:
    config = make_config(pool_size=4, spatial_forgetting=spatial)
    plan = plan_video(num_frames, config, CellDraws(seed=5))
    counted = count_kept_tokens(num_frames, grid_side=4, min_frames=8, spatial=spatial)
    assert plan.num_kept == counted == sum(plan.block_lengths)
    assert torch.equal(plan.kept_S, plan.kept_S.unique())
    capped = plan_video(num_frames, config, CellDraws(seed=5), max_kept_frames=1)
    assert capped.num_kept == 5


@pytest.mark.parametrize("size_hw", [(17, 30), (30, 17), (16, 16), (3, 200), (300, 2)])
@pytest.mark.parametrize("spatial", ["uniform", "random"])
def test_a_newline_follows_every_row_that_kept_a_cell(
    make_config: Any, size_hw: tuple[int, int], spatial: str
) -> None:
    config = make_config(spatial_forgetting=spatial)
    rows, columns = merged_hw(
        size_hw[::-1], config.image_grid_pinpoints, config.tile_size, config.grid_side
    )
    sheet_wh = best_sheet_wh(size_hw[::-1], config.image_grid_pinpoints)
    tiles = 1 + sheet_wh[0] * sheet_wh[1] // config.tile_size**2
    plan = plan_images([size_hw], [tiles], config, CellDraws(seed=3))
    positions = images_memory_positions([size_hw], [tiles], config)
    assert len(positions) == config.grid_side**2 + rows * (columns + 1)
    assert torch.equal(plan.positions_S, positions[plan.kept_S])
    sheet = plan.kept_S[plan.kept_S >= config.grid_side**2] - config.grid_side**2
    row, column = sheet // (columns + 1), sheet % (columns + 1)
    for number in range(rows):
        kept = column[row == number].tolist()
        assert (columns in kept) == (len(kept) > 0)
        assert kept != [columns]


def test_packed_positions_equal_the_twin_that_walks_row_by_row() -> None:
    generator = torch.Generator().manual_seed(0)

    def block(length: int) -> torch.Tensor:
        return torch.randint(0, 50, (length,), generator=generator).sort().values

    blocks = [block(5), block(3), block(4)]
    plans = [
        VisualPlan(kept_S=blocks[0], positions_S=blocks[0], block_lengths=(5,)),
        None,
        VisualPlan(
            kept_S=torch.cat(blocks[1:]), positions_S=torch.cat(blocks[1:]), block_lengths=(3, 4)
        ),
    ]
    visual = torch.zeros(3, 14, dtype=torch.bool)
    visual[0, 4:9] = True
    visual[2, :3] = visual[2, 3:7] = True  # two images side by side, no text before
    question = torch.ones(3, 14, dtype=torch.bool)
    question[0, 1] = question[1, 5:] = False
    check_counts(visual.sum(1).tolist(), plans)
    rows = pack_rows(question, visual, plans)
    twins = [
        query_positions([3, blocks[0], 5]),
        query_positions([5]),
        query_positions([blocks[1], blocks[2], 7]),
    ]
    assert rows.lengths == [13, 5, 14]
    assert torch.equal(rows.positions_N, torch.cat(twins))
    with pytest.raises(TokenCountError, match=r"row 1 .* 2 visual placeholders, but 0"):
        check_counts([5, 2, 7], plans)


def test_thin_pictures_keep_at_least_a_row_and_a_column() -> None:
    assert unpadded_box((1, 10_000), (54, 27)) == (0, 54, 13, 14)
    top, bottom, left, right = unpadded_box((10_000, 1), (54, 54))
    assert (bottom - top >= 1, right - left) == (True, 54)
