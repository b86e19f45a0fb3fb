"""Up to five questions of a video in one sample, so that its hour is read once for all of them.

Source: arXiv 2506.05332, training (stage 3: five questions of a long video a sample).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from hour_llava.data.faults import SPEAKERS
from hour_llava.data.manifest import IMAGE, VIDEO, Sample, Turns

MAX_QUESTIONS = 5


@dataclass(kw_only=True)
class GroupingCounts:
    """What came in and what went out."""

    num_read: int = 0
    num_written: int = 0
    num_questions: int = 0
    num_repeated: int = 0
    num_alone: int = 0
    videos: set[str] = field(default_factory=set)


def group_samples(
    samples: Iterable[Sample],
    *,
    max_questions: int = MAX_QUESTIONS,
    seed: int = 0,
    counts: GroupingCounts | None = None,
) -> Iterator[Sample]:
    """Group the questions of each video; everything else passes as it is.

    A video's questions are shuffled, so that its topics mix; what was grouped before is grouped
    anew. A question that the same video has already had with the same answer is left out and
    counted. Samples that are no plain run of question and answer stay alone.

    Args:
        samples: Any.
        max_questions: A sample's limit.
        seed: Another seed, another grouping.
        counts: Filled on the way.

    Cost: all questions of videos are held in memory, about 1.3 GB for VideoMarathon's 3.3 million.
    """
    count = counts if counts is not None else GroupingCounts()
    held: dict[tuple[str, str, str], dict[bytes, None]] = {}
    for sample in samples:
        count.num_read += 1
        pairs = _pairs(sample)
        if pairs is None:
            count.num_alone += 1
            count.num_written += 1
            yield sample
            continue
        own = held.setdefault((sample.video or "", sample.features or "", sample.source), {})
        for pair in pairs:
            packed = json.dumps(pair, ensure_ascii=False).encode("utf-8", "surrogatepass")
            count.num_repeated += packed in own
            own[packed] = None
    for (video, features, source), own in held.items():
        name = video or features
        count.videos.add(name)
        pairs = list(own)
        random.Random(f"{seed} {name} {source}").shuffle(pairs)
        for number, at in enumerate(range(0, len(pairs), max_questions)):
            group = [json.loads(pair) for pair in pairs[at : at + max_questions]]
            count.num_written += 1
            count.num_questions += len(group)
            yield Sample(
                id=f"{_short(name, source)}:{number:04}",
                conversations=_turns(group),
                video=video or None,
                features=features or None,
                source=source,
            )


def _pairs(sample: Sample) -> list[tuple[str, str]] | None:
    """Give a video sample's questions and answers, None where it is another kind of sample."""
    turns = sample.conversations
    speakers = [SPEAKERS.get(turn["from"]) for turn in turns]
    if sample.images or not (sample.video or sample.features):
        return None
    if not turns or speakers != ["human", "gpt"] * (len(turns) // 2):
        return None
    values = [turn["value"].replace(VIDEO, "").replace(IMAGE, "").strip() for turn in turns]
    return list(zip(values[::2], values[1::2], strict=True))


def _turns(group: list[tuple[str, str]]) -> Turns:
    turns: list[dict[str, str]] = []
    for number, (question, answer) in enumerate(group):
        head = "" if number else f"{VIDEO}\n"
        turns += [{"from": "human", "value": head + question}, {"from": "gpt", "value": answer}]
    return tuple(turns)


def _short(name: str, source: str) -> str:
    """Name a video's samples: the end of its path, and a mark of all of it and of the source."""
    mark = hashlib.blake2b(f"{source}\0{name}".encode(), digest_size=4).hexdigest()
    return "/".join([*PurePath(name).parts[-2:], mark])
