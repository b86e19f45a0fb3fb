"""Forgetting keeps the frames and cells that the rules say, and counts them before it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hour_llava import memory


def test_uniform_frames_equal_numpys_linspace_for_every_length() -> None:
    for num_frames in range(128, 7201):
        num_kept = memory.count_kept_frames(num_frames)
        expected = np.linspace(0, num_frames - 1, num_kept).astype(np.int64)
        assert np.array_equal(memory.uniform_frames(num_frames, num_kept).numpy(), expected)


def test_short_videos_are_repeated_as_released() -> None:
    for num_frames in range(1, 128):
        expected = np.linspace(0, num_frames - 1, 128).astype(np.int64)
        assert np.array_equal(memory.repeat_frame_index(num_frames).numpy(), expected)
    assert torch.equal(memory.repeat_frame_index(500), torch.arange(500))
    assert torch.equal(memory.repeat_frame_index(5, min_frames=1), torch.arange(5))


@pytest.mark.parametrize(
    ("num_frames", "kept"),
    [(1, 544), (128, 544), (130, 544), (200, 850), (900, 3825), (2048, 8704), (86_400, 8704)],
)
def test_kept_tokens_of_the_released_sizes(num_frames: int, kept: int) -> None:
    assert memory.count_kept_tokens(num_frames) == kept


def test_uniform_keeps_even_rows_and_columns_and_random_a_quarter_rounded_up() -> None:
    assert memory.uniform_cells(3, 5).tolist() == [0, 2, 4, 10, 12, 14]
    assert len(memory.uniform_cells(27, 27)) == memory.count_kept_cells(27, 27, spatial="uniform")
    assert memory.count_kept_cells(27, 27, spatial="uniform") == 196
    assert memory.count_kept_cells(27, 27, spatial="random") == 183
    assert memory.random_cells(3, 729).shape == (3, 183)


def test_random_cells_come_from_the_default_generator_unless_another_is_given() -> None:
    torch.manual_seed(7)
    first = memory.random_cells(4, 64)
    torch.manual_seed(7)
    assert torch.equal(first, memory.random_cells(4, 64))
    given = memory.random_cells(4, 64, generator=torch.Generator().manual_seed(7))
    assert torch.equal(first, given)


def test_one_video_forgets_alike_on_every_day_and_another_differently() -> None:
    def draw(seed: int, content: str) -> list[int]:
        generator = memory.forgetting_generator(seed, content)
        return memory.random_cells(1, 64, generator=generator)[0].tolist()

    assert draw(0, "c0ffee") == draw(0, "c0ffee") == [int(x) for x in draw(0, "c0ffee")]
    assert draw(0, "c0ffee") != draw(1, "c0ffee")
    assert draw(0, "c0ffee") != draw(0, "beef")


def test_keyframes_keep_the_frames_unlike_their_neighbours() -> None:
    features = torch.ones(40, 8)
    features[13] = torch.tensor([1.0, -1] * 4)
    features[30] = torch.tensor([-1.0, 1] * 4)
    assert memory.keyframes(features, 2).tolist() == [13, 30]
    assert memory.keyframes(features[:1], 1).tolist() == [0]


def test_question_guided_frames_keep_the_nearest_to_the_question_in_time_order() -> None:
    features = torch.eye(6)
    question = torch.tensor([0.0, 0.2, 0, 0, 0.9, 0.5])
    assert memory.question_guided_frames(features, question, 3).tolist() == [1, 4, 5]


def test_random_frames_are_sorted_and_distinct() -> None:
    frames = memory.random_frames(100, 25, generator=torch.Generator().manual_seed(0))
    assert len(frames) == 25
    assert (frames.diff() > 0).all()


def test_queries_stand_behind_the_text_and_text_behind_the_largest_position() -> None:
    own = torch.tensor([0, 2, 64, 8])
    assert memory.query_positions([3, own, 2]).tolist() == [0, 1, 2, 3, 5, 67, 11, 68, 69]
    assert memory.query_positions([own, 0, own]).tolist() == [0, 2, 64, 8, 65, 67, 129, 73]
    assert memory.query_positions([]).tolist() == []


def test_a_memory_without_frames_is_refused_with_the_number() -> None:
    with pytest.raises(ValueError, match="at least 1 frame, this one has 0"):
        memory.repeat_frame_index(0)
