"""The dataset card: README.md with the front matter that the Hugging Face hub reads.

All that varies comes from the release's own rows and figures: nothing is claimed that was not
counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from types import MappingProxyType
from typing import Any

from hour_llava.tasks import task_named
from hour_llava.videomarathon.checks.table import RULES
from hour_llava.videomarathon.records import ClipCaption, Event, GlobalCaption, QAPair
from hour_llava.videomarathon.release.content import DEMONSTRATION_NOTE, Kind, VideoContent
from hour_llava.videomarathon.release.parquet import TABLES
from hour_llava.videomarathon.stats import BuildStats, DatasetRow

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
_LARGEST = "1M<n<10M"
_HUB_LICENCES = re.compile(
    r"apache-2\.0|mit|cc0-1\.0|cc-by-[34]\.0|cc-by-sa-[34]\.0|cc-by-nc(-sa|-nd)?-4\.0|"
    r"cc-by-nd-4\.0|odbl|pddl|unlicense"
)
_BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "truth": "the generator's own truth stands in for captioner and language model: every "
        "answer is exact",
        "endpoint": "a captioner looked at frames, and a language model wrote events, narratives "
        "and questions",
        "embedded": "measured facts (colours, brightness, motion, cuts) put into fixed sentences; "
        "no model looked at the video",
        "mock": "a mock endpoint answered; its words are placeholders",
    }
)

_ASKED_OF_MODELS_AND_BUILDS: Mapping[str, str] = MappingProxyType(
    {
        "judged_entailed": "a judge model finds the answer, and no other option, in the captions",
        "blind": "a model without the video does not find the answer in three of four orders",
        "near_duplicate": "no other row of the video asks nearly the same",
        "option_position": "the right option stands at each place equally often",
        "longest_option": "the right option is the longest as often as chance has it",
        "yes_rate": "yes and no are the answer equally often",
        "topic_mix": "topics have their target shares, where a build is thinned to them",
    }
)


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """All that a card is written from.

    Args:
        title: The release's name.
        kind: Training data or a demonstration.
        videos: Its videos.
        stats: Its figures.
        counts: Table -> split -> number of rows.
        language: Of questions and captions, as a code.
    """

    title: str
    kind: Kind
    videos: Sequence[VideoContent]
    stats: BuildStats
    counts: Mapping[str, Mapping[str, int]]
    language: str = "en"


def write_card(facts: CardFacts) -> str:
    """Return the text of README.md."""
    text = files("hour_llava.videomarathon.release").joinpath("card_template.md").read_text("utf-8")
    rows = [row for content in facts.videos for row in content.accepted]
    formats = Counter(row.format for row in rows)
    body = Template(text).substitute(
        title=plain(facts.title),
        note=_note(facts.kind),
        num_rows=f"{len(rows):,} question{'' if len(rows) == 1 else 's'}",
        num_open_ended=f"{formats['oe']:,}",
        num_multiple_choice=f"{formats['mc']:,}",
        num_videos=f"{len(facts.videos):,} video{'' if len(facts.videos) == 1 else 's'}",
        hours=f"{facts.stats.hours:.2f}",
        splits=_splits(facts.counts),
        makers=_makers(facts.videos),
        table_1=write_table_1(facts.stats.table_1),
        tasks=_tasks(facts.stats),
        rules=_rules(facts.stats),
        set_aside=_set_aside(facts.stats),
        limits=_limits(facts),
        licences=_licences(facts.videos),
    )
    body = re.sub(r"\n{3,}", "\n\n", body)  # where a part has nothing to say
    return f"---\n{_front_matter(facts, len(rows))}---\n{body}"


def write_table_1(rows: Iterable[DatasetRow]) -> str:
    """Return the paper's comparison of datasets with our row last, as Markdown."""
    lines = [
        (
            plain(row.name),
            f"{row.hours:,.2f}" if row.hours < 10 else f"{row.hours:,.0f}",
            f"{row.mean_minutes:.1f}",
            "-"
            if row.min_minutes is None or row.max_minutes is None
            else f"{row.min_minutes:.1f}-{row.max_minutes:.1f}",
            f"{row.num_open_ended:,}" if row.num_open_ended else "-",
            f"{row.num_multiple_choice:,}" if row.num_multiple_choice else "-",
        )
        for row in rows
    ]
    head = ("dataset", "hours", "mean minutes", "minutes", "open-ended", "multiple-choice")
    return "### Beside others (the paper's table 1)\n" + _table(head, lines)


def plain(text: str) -> str:
    """Return text in one line that Markdown takes for words only."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    for mark in "\\`*[]<>|":
        line = line.replace(mark, f"\\{mark}")
    return line


def _note(kind: Kind) -> str:
    return f"> **{DEMONSTRATION_NOTE}.**" if kind == "demonstration" else ""


def _front_matter(facts: CardFacts, num_rows: int) -> str:
    from huggingface_hub import DatasetCardData

    licence, name = _hub_licence(facts.videos)
    more: dict[str, Any] = {} if name is None else {"license_name": name}
    demonstration = ["demonstration-not-training-data"] if facts.kind == "demonstration" else []
    data = DatasetCardData(
        pretty_name=" ".join(facts.title.split()),
        language=[facts.language],
        license=licence,
        task_categories=["visual-question-answering", "video-text-to-text"],
        size_categories=[next((s for most, s in _SIZES if num_rows < most), _LARGEST)],
        tags=["video", "long-video", "hour-llava", *demonstration],
        configs=[
            {
                "config_name": name,
                **({"default": True} if name == "default" else {}),
                "data_files": [
                    {"split": split, "path": f"{TABLES[name].folder}/{split}-*.parquet"}
                    for split in counts
                ],
            }
            for name, counts in facts.counts.items()
            if counts
        ],
        **more,
    )
    return str(data.to_yaml(line_break="\n")) + "\n"  # pyright: ignore[reportUnknownMemberType]


def _hub_licence(videos: Sequence[VideoContent]) -> tuple[str, str | None]:
    """Return the hub's name of the videos' licence, and ours where the hub has none."""
    licences = sorted({(content.video.licence or "unknown").strip() for content in videos})
    if licences == ["unknown"]:
        return "unknown", None
    if len(licences) == 1 and _HUB_LICENCES.fullmatch(licences[0].lower()):
        return licences[0].lower(), None
    return "other", " and ".join(" ".join(licence.split()) for licence in licences)


def _splits(counts: Mapping[str, Mapping[str, int]]) -> str:
    splits = list(dict.fromkeys(split for by_split in counts.values() for split in by_split))
    names = {"default": "questions"}
    head = ("split", *(names.get(name, name.replace("_", " ")) for name in counts))
    lines = [
        (split, *(f"{by_split.get(split, 0):,}" for by_split in counts.values()))
        for split in splits
    ]
    return _table(head, lines)


def _makers(videos: Sequence[VideoContent]) -> str:
    backends = Counter(backend for content in videos for backend in content.backends)
    lines = [
        f"* `{backend}` (videos: {count:,}): {_BACKENDS[backend]}."
        for backend, count in sorted(backends.items())
    ]
    made = sorted(
        {
            (
                record.provenance.stage,
                record.provenance.backend,
                record.provenance.model or "-",
                record.provenance.prompt or "-",
            )
            for content in videos
            for record in _made(content)
        }
    )
    head = ("stage", "backend", "model", "prompt")
    table = _table(head, [tuple(plain(word) for word in line) for line in made])
    return "\n".join([*lines, "", table])


def _made(content: VideoContent) -> Iterable[ClipCaption | Event | GlobalCaption | QAPair]:
    yield from (*content.captions, *content.events, *content.accepted)
    if content.global_caption is not None:
        yield content.global_caption


def _tasks(stats: BuildStats) -> str:
    lines = [
        (
            task_named(count.task).topic,
            task_named(count.task).name,
            f"{count.num_open_ended:,}",
            f"{count.num_multiple_choice:,}",
        )
        for count in stats.tasks
    ]
    head = ("topic", "task", "open-ended", "multiple-choice")
    return "### Tasks\n" + _table(head, lines)


def _rules(stats: BuildStats) -> str:
    asks = {**_ASKED_OF_MODELS_AND_BUILDS, **{rule.name: rule.asks for rule in RULES}}
    lines = [
        (
            rate.rule,
            plain(asks.get(rate.rule, "")),
            f"{rate.num_passed:,}",
            f"{rate.num_failed:,}",
            f"{rate.num_skipped:,}",
        )
        for rate in stats.rules
        if rate.num_passed + rate.num_failed + rate.num_skipped
    ]
    return _table(("rule", "asks for", "passed", "failed", "not applicable"), lines)


def _set_aside(stats: BuildStats) -> str:
    lines = [(plain(reason), f"{count:,}") for reason, count in sorted(stats.set_aside.items())]
    return _table(("reason", "files"), lines) if lines else "None."


def _limits(facts: CardFacts) -> str:
    backends = {backend for content in facts.videos for backend in content.backends}
    lines = [
        "* Automatic rules find faults of form and contradictions with the tables; they do not "
        "find a caption that is wrong about its clip. `synth review` measures that with people.",
        "* Nothing is heard: sound is not used.",
        "* Answers of multiple choice are a narrow measure of understanding.",
    ]
    if "truth" in backends:
        lines.append(
            "* Videos of MarathonWorld are generated: exact, and nothing like footage of the world."
        )
    if "endpoint" in backends:
        lines.append(
            "* Captions and questions of `endpoint` rows are synthetic; the paper's authors found "
            "78.7 % of 80 multiple-choice rows of theirs right."
        )
    if facts.kind == "demonstration":
        lines.insert(0, f"* {DEMONSTRATION_NOTE}. Do not train on it.")
    return "\n".join(lines)


def _licences(videos: Sequence[VideoContent]) -> str:
    found = Counter((content.video.source, content.video.licence) for content in videos)
    lines = [
        (plain(source), plain(licence or "not stated"), f"{count:,}")
        for (source, licence), count in sorted(found.items(), key=lambda item: str(item[0]))
    ]
    return (
        "The licence of a video is that of its source, and holds for what is quoted of it. Pixels "
        "are in a release only where their licence allows it and only when asked for.\n\n"
        + _table(("source", "licence", "videos"), lines)
    )


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
