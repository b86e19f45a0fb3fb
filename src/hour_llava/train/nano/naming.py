"""What the words of a question name, and where in the video that is: told in training only.

"Is the star in the same corner as the moon?" is asked of two moments. Told only that the question
as a whole must see both, no word knows which of them is its own. So the row of "star" is told to
look at the star, and to know after MemAug's first block what a linear probe can tell of it: place,
colour, action, time. The visual tokens are four slots, one for each of the first names, and are
told the same: they are what the language model sees. The token at which it begins to answer is to
know of each name what may be compared, and after the last layer what each two of them share:
without that nothing is ever compared (docs/log.md).

Shape letters: V videos, Q questions a video, F frames, P cells, A attributes, N named rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hour_llava.train.nano.tower import ACTS, MEMORY_SIZES, multi_hot
from hour_llava.world.families import LADDER_SECONDS
from hour_llava.world.timeline import SCENES, SHAPES

NUM_SLOTS = 4
"""Names of a question that have visual tokens of their own."""
PAIRS = tuple(combinations(range(NUM_SLOTS), 2))
PAIR_BITS = ("colour", "act", "row", "column")
"""What two names may have in common."""
TIME_BINS = 16
NUM_NAME_BITS = sum(MEMORY_SIZES.values()) + TIME_BINS
COMPARED = ("colour", "act", "cell")
"""What of two names is compared, beside their times."""
NUM_COMPARED_BITS = sum(MEMORY_SIZES[name] for name in COMPARED) + TIME_BINS
NUM_LENGTHS = len(PAIRS) + NUM_SLOTS + 1
"""Between each two names, of each name, of the whole video."""

_COLUMNS = list(MEMORY_SIZES)
_NAMES = {"shape": SHAPES, "scene": SCENES, "act": ACTS}


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Which rows of MemAug name what.

    Args:
        spans_VQF: the questions' spans of evidence, then one more a name of a question of several
            spans: where that is.
        span_of_row: for each video, which of its spans each of MemAug's rows is told.
        rows_N: packed rows that name something seen.
        questions_N: the question of each, counted over all videos.
        slots_N: which name of its question each is, the first four.
        bits_NA: what is to be known of it.
        seconds_N2: when it is first seen, and the second after it was last seen.
        whole_Q: seconds of each question's video.
    """

    spans_VQF: Tensor
    span_of_row: list[list[int]]
    rows_N: Tensor
    questions_N: Tensor
    slots_N: Tensor
    bits_NA: Tensor
    seconds_N2: Tensor
    whole_Q: Tensor

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Compare the names of each question with each other.

        Returns:
            Each pair's question, its number in `PAIRS`, and `PAIR_BITS`: (n,), (n,), (n, 4).
        """
        first_n, second_n, numbers_n = self._paired()
        one, other = self._compared(first_n), self._compared(second_n)
        bits_nA = torch.stack([(a & b).any(-1) for a, b in zip(one, other, strict=True)], dim=-1)
        return self.questions_N[first_n], numbers_n, bits_nA

    def lengths(self) -> tuple[Tensor, Tensor, Tensor]:
        """Measure how long it is between each two names, that each is there, and the whole video.

        Returns:
            Each one's question, its number (a pair's in `PAIRS`; behind them, a slot; the last is
            the video's), and the nearest rung of the ladder of lengths; what is shorter than that
            begins is left out.
        """
        first_n, second_n, numbers_n = self._paired()
        starts, ends = self.seconds_N2.unbind(-1)
        between_n = torch.maximum(
            starts[second_n] - ends[first_n], starts[first_n] - ends[second_n]
        )
        every_Q = torch.arange(len(self.whole_Q))
        questions = torch.cat([self.questions_N[first_n], self.questions_N, every_Q])
        last_Q = torch.full_like(every_Q, NUM_LENGTHS - 1)
        numbers = torch.cat([numbers_n, len(PAIRS) + self.slots_N, last_Q])
        seconds = torch.cat([between_n, ends - starts, self.whole_Q])
        is_long = seconds >= LADDER_SECONDS[0]
        distance = seconds[is_long, None].log() - torch.tensor(LADDER_SECONDS).log()
        return questions[is_long], numbers[is_long], distance.abs().argmin(-1)

    def _paired(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pair the names of each question: places of the first and the second, and the number."""
        is_one_question_NN = self.questions_N[:, None] == self.questions_N
        is_pair_NN = is_one_question_NN & (self.slots_N[:, None] < self.slots_N)
        first_n, second_n = is_pair_NN.nonzero().unbind(-1)
        number_of = torch.zeros(NUM_SLOTS, NUM_SLOTS, dtype=torch.long)
        for number, (first, second) in enumerate(PAIRS):
            number_of[first, second] = number
        return first_n, second_n, number_of[self.slots_N[first_n], self.slots_N[second_n]]

    def compared_bits(self) -> Tensor:
        """Give what is known of each name of `COMPARED`, and when it is there: (N, bits)."""
        *parts, times = self.bits_NA.split([*MEMORY_SIZES.values(), TIME_BINS], dim=-1)
        by_name = dict(zip(_COLUMNS, parts, strict=True))
        return torch.cat([*(by_name[name] for name in COMPARED), times], dim=-1)

    def _compared(self, chosen_n: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give some names' colours, acts, rows and columns as bits."""
        sizes = [*(MEMORY_SIZES[name] for name in COMPARED), TIME_BINS]
        colour, act, cell, _ = self.compared_bits()[chosen_n].bool().split(sizes, dim=-1)
        cells_nRC = cell.unflatten(-1, (2, 2))
        return colour, act, cells_nRC.any(-1), cells_nRC.any(-2)


class Names:
    """Finds shapes, scenes and actions in questions.

    Args:
        tokenizer: of words.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.named: dict[tuple[int, ...], tuple[int, int]] = {}
        for column, names in _NAMES.items():
            for number, name in enumerate(names):
                ids = tuple(tokenizer(name, add_special_tokens=False).input_ids)
                self.named[ids] = (_COLUMNS.index(column), number)
        self.longest = max(map(len, self.named))

    def find(self, ids: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Yield the place of each name's last word, its column among the labels and its class."""
        for first in range(len(ids)):
            for last in range(first, min(first + self.longest, len(ids))):
                found = self.named.get(tuple(ids[first : last + 1]))
                if found is not None:
                    yield last, *found

    def tell(
        self,
        asked_VQ: Sequence[Sequence[Sequence[int]]],
        rows_VQ: Sequence[Sequence[int]],
        spans_VQF: Tensor,
        classes_VFPA: Tensor | None,
        *,
        seconds_VF: Sequence[Tensor],
        first_word: int,
    ) -> Naming:
        """Lay out what each row is told.

        Args:
            asked_VQ: words of the questions.
            rows_VQ: MemAug's rows of each question: visual ones, then its words.
            spans_VQF: int8, the number (from 1 on) of the span of evidence that a frame is in.
            classes_VFPA: what stands in each cell (None: nothing is told of names).
            seconds_VF: when the frames are.
            first_word: visual rows of a question.
        """
        told = _Told(spans_VQF, classes_VFPA, seconds_VF, first_word)
        for video, (questions, rows) in enumerate(zip(asked_VQ, rows_VQ, strict=True)):
            for number, (ids, count) in enumerate(zip(questions, rows, strict=True)):
                names = () if classes_VFPA is None else self.find(ids)
                told.add_question(video, number, count, names)
        return told.naming()


class _Told:
    """What was told of the questions so far, in their order."""

    def __init__(
        self,
        spans_VQF: Tensor,
        classes_VFPA: Tensor | None,
        seconds_VF: Sequence[Tensor],
        first_word: int,
    ) -> None:
        self.spans_VQF, self.classes_VFPA = spans_VQF, classes_VFPA
        self.seconds_VF, self.first_word = seconds_VF, first_word
        self.span_of_row: list[list[int]] = [[] for _ in spans_VQF]
        self.own_spans: list[list[Tensor]] = [[] for _ in spans_VQF]
        self.slot_of_visual = _slots_of(first_word)
        self.rows: list[tuple[int, int, int]] = []
        self.bits: list[Tensor] = []
        self.seconds: list[tuple[int, int]] = []
        self.whole: list[int] = []
        self.num_rows = 0

    def add_question(
        self, video: int, number: int, count: int, names: Iterable[tuple[int, int, int]]
    ) -> None:
        """Tell a question's rows its spans, and those that name something where that is."""
        span_F, own = self.spans_VQF[video, number], [number] * count
        seconds_F, slot = self.seconds_VF[video], 0
        for place, column, wanted in names:
            assert self.classes_VFPA is not None
            classes_FPA = self.classes_VFPA[video]
            is_it_FP = _where(classes_FPA[..., column] == wanted, span_F)
            if slot == NUM_SLOTS or not is_it_FP.any():
                continue
            row = self.first_word + place
            self.rows.append((self.num_rows + row, len(self.whole), slot))
            self.bits.append(_known(classes_FPA, is_it_FP, seconds_F))
            seen = seconds_F[is_it_FP.any(-1)]
            self.seconds.append((int(seen[0]), int(seen[-1]) + 1))
            if span_F.max() > 1:
                own_span = self.spans_VQF.shape[1] + len(self.own_spans[video])
                self.own_spans[video].append(is_it_FP.any(-1).to(span_F.dtype))
                own[row] = own_span
                for visual, its_slot in enumerate(self.slot_of_visual):
                    if its_slot == slot:
                        own[visual] = own_span
            slot += 1
        self.span_of_row[video] += own
        self.whole.append(int(seconds_F[-1]) + 1)
        self.num_rows += count

    def naming(self) -> Naming:
        """Give all of it."""
        columns_N3 = torch.tensor(self.rows, dtype=torch.long).reshape(-1, 3)
        rows_N, questions_N, slots_N = columns_N3.unbind(-1)
        return Naming(
            spans_VQF=_extended(self.spans_VQF, self.own_spans),
            span_of_row=self.span_of_row,
            rows_N=rows_N,
            questions_N=questions_N,
            slots_N=slots_N,
            bits_NA=torch.stack(self.bits) if self.bits else torch.zeros(0, NUM_NAME_BITS),
            seconds_N2=torch.tensor(self.seconds, dtype=torch.long).reshape(-1, 2),
            whole_Q=torch.tensor(self.whole),
        )


def _slots_of(num_visual: int) -> list[int]:
    """Say which slot each of a question's visual tokens belongs to."""
    return [token * NUM_SLOTS // num_visual for token in range(num_visual)]


def slot_means(augmented_BSD: Tensor) -> Tensor:
    """Average the visual tokens of each slot: (B, slots, D)."""
    slots_S = torch.tensor(_slots_of(augmented_BSD.shape[1]))
    shares_KS = torch.nn.functional.one_hot(slots_S, NUM_SLOTS).T.to(augmented_BSD.dtype)
    shares_KS = shares_KS / shares_KS.sum(-1, keepdim=True).clamp(min=1)
    return shares_KS @ augmented_BSD


def _where(is_named_FP: Tensor, span_F: Tensor) -> Tensor:
    """Say where the thing meant is: in the evidence; what is only compared, anywhere."""
    in_evidence_FP = is_named_FP & (span_F > 0)[:, None]
    return is_named_FP if span_F.max() > 1 and not in_evidence_FP.any() else in_evidence_FP


def _known(classes_FPA: Tensor, is_it_FP: Tensor, seconds_F: Tensor) -> Tensor:
    """Give the bits (A,) of all that stands where something is, and of when it is there."""
    bits_A = multi_hot(classes_FPA[is_it_FP].long()).amax(0)
    times = torch.zeros(TIME_BINS, dtype=bits_A.dtype)
    times[seconds_F[is_it_FP.any(-1)] * TIME_BINS // (seconds_F[-1] + 1)] = 1
    return torch.cat([bits_A, times])


def _extended(spans_VQF: Tensor, more_VNF: Sequence[Sequence[Tensor]]) -> Tensor:
    most = max(map(len, more_VNF))
    num_videos, _, num_frames = spans_VQF.shape
    extra = spans_VQF.new_zeros(num_videos, most, num_frames)
    for video, spans in enumerate(more_VNF):
        for number, span_F in enumerate(spans):
            extra[video, number] = span_F
    return torch.cat([spans_VQF, extra], dim=1)
