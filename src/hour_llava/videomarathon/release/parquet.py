"""A release's tables: Parquet files with the published dataset's columns first, and ours behind.

    rows           id, video, URL, question_type, question, answer, data_source | options, ...
    videos         one row a video, with its global caption
    events         one row an event
    clip_captions  one row a clip, its six aspects as columns

The kind of release stands in every file's own metadata, so that a table that travels alone still
says what it is. Writer settings are fixed: equal rows give equal bytes.
Source: the columns of the published VideoMarathon (jylins/videomarathon).
"""

# pyright: basic
# Pyarrow has no types.
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hour_llava.tasks import task_named
from hour_llava.videomarathon.records import QAPair
from hour_llava.videomarathon.release.content import VideoContent, question_type

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_SHARD = 100_000
PUBLISHED_COLUMNS = (
    "id",
    "video",
    "URL",
    "question_type",
    "question",
    "answer",
    "data_source",
)


def letter(index: int) -> str:
    """Return the letter of an option: 0 is A."""
    return chr(ord("A") + index)


def row_dict(content: VideoContent, row: QAPair) -> dict[str, Any]:
    """Return one row of the rows' table."""
    video, task = content.video, task_named(row.task)
    return {
        "id": row.id,
        "video": video.path,
        "URL": video.url,
        "question_type": question_type(row),
        "question": row.question,
        "answer": row.answer,
        "data_source": video.source,
        "options": None if row.options is None else list(row.options),
        "answer_letter": None if row.options is None else letter(row.options.index(row.answer)),
        "topic": task.topic,
        "task": row.task,
        "format": row.format,
        "form": row.form,
        "video_id": row.video_id,
        "video_duration_ms": video.duration_ms,
        "licence": video.licence,
        "evidence": [item.model_dump(mode="json") for item in row.evidence],
        "claim": None if row.claim is None else row.claim.model_dump(mode="json"),
        "provenance": row.provenance.model_dump(mode="json"),
        "verdicts": [verdict.model_dump(mode="json") for verdict in row.verdicts],
        "status": row.status,
        "reasons": list(row.reasons),
    }


def _row_dicts(content: VideoContent) -> Iterable[dict[str, Any]]:
    return (row_dict(content, row) for row in content.accepted)


def _video_dicts(content: VideoContent) -> Iterable[dict[str, Any]]:
    video = content.video
    narrative = content.global_caption
    yield {
        "video_id": video.id,
        "video": video.path,
        "URL": video.url,
        "data_source": video.source,
        "licence": video.licence,
        "duration_ms": video.duration_ms,
        "width": video.width,
        "height": video.height,
        "average_fps": video.average_fps,
        "has_audio": video.has_audio,
        "num_damaged_ms": video.num_damaged_ms,
        "content_digest": video.content_digest,
        "backend": video.backend,
        "num_clips": len(content.clips),
        "num_events": len(content.events),
        "num_rows": len(content.accepted),
        "global_caption": None if narrative is None else narrative.text,
    }


def _event_dicts(content: VideoContent) -> Iterable[dict[str, Any]]:
    for event in content.events:
        yield {
            "event_id": event.id,
            "video_id": event.video_id,
            "video": content.video.path,
            "start_ms": event.span.start_ms,
            "end_ms": event.span.end_ms,
            "title": event.title,
            "narrative": event.narrative,
            "clip_ids": list(event.clip_ids),
            "provenance": event.provenance.model_dump(mode="json"),
        }


def _caption_dicts(content: VideoContent) -> Iterable[dict[str, Any]]:
    for caption in content.captions:
        yield {
            "clip_id": caption.clip_id,
            "video_id": caption.video_id,
            "video": content.video.path,
            "start_ms": caption.span.start_ms,
            "end_ms": caption.span.end_ms,
            **caption.aspects.model_dump(),
            "is_usable": caption.is_usable,
            "verdicts": [verdict.model_dump(mode="json") for verdict in caption.verdicts],
            "provenance": caption.provenance.model_dump(mode="json"),
        }


@dataclass(frozen=True, kw_only=True)
class Table:
    """One configuration of the dataset: its folder, what a video adds to it, its columns."""

    folder: str
    dicts: Callable[[VideoContent], Iterable[dict[str, Any]]]
    schema: Callable[[], pa.Schema]


def write_tables(
    folder: Path, videos_by_split: Mapping[str, Sequence[VideoContent]], metadata: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    """Write every table of every split that has a row.

    Args:
        folder: The release's folder.
        videos_by_split: Split -> its videos.
        metadata: What each file says of itself.

    Returns:
        Table -> split -> number of rows.
    """
    counts: dict[str, dict[str, int]] = {name: {} for name in TABLES}
    for name, table in TABLES.items():
        for split, videos in videos_by_split.items():
            dicts = [item for content in videos for item in table.dicts(content)]
            if dicts:
                _write_shards(folder / table.folder, split, dicts, table.schema(), metadata)
                counts[name][split] = len(dicts)
    return counts


def count_rows(
    videos_by_split: Mapping[str, Sequence[VideoContent]],
) -> dict[str, dict[str, int]]:
    """Return table -> split -> number of rows, as `write_tables` would, without writing."""
    counts: dict[str, dict[str, int]] = {name: {} for name in TABLES}
    for name, table in TABLES.items():
        for split, videos in videos_by_split.items():
            num_rows = sum(1 for content in videos for _ in table.dicts(content))
            if num_rows:
                counts[name][split] = num_rows
    return counts


def _write_shards(
    folder: Path,
    split: str,
    dicts: Sequence[dict[str, Any]],
    schema: pa.Schema,
    metadata: Mapping[str, str],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    described = schema.with_metadata({f"hour_llava.{key}": text for key, text in metadata.items()})
    num_shards = -(-len(dicts) // ROWS_PER_SHARD)
    for shard in range(num_shards):
        part = dicts[shard * ROWS_PER_SHARD : (shard + 1) * ROWS_PER_SHARD]
        pq.write_table(
            pa.Table.from_pylist(list(part), schema=described),
            folder / f"{split}-{shard:05}-of-{num_shards:05}.parquet",
            version="2.6",
            compression="zstd",
            compression_level=3,
            row_group_size=8192,
            write_statistics=True,
        )


def _rows_schema() -> pa.Schema:
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    span = pa.struct({"start_ms": number, "end_ms": number})
    ids = {"clip_id": text, "event_id": text}
    item = pa.struct({"label": text, "span": span, "event_id": text, "clip_id": text})
    return pa.schema(
        {
            **dict.fromkeys(PUBLISHED_COLUMNS, text),
            "options": pa.list_(text),
            **dict.fromkeys(("answer_letter", "topic", "task", "format", "form", "video_id"), text),
            "video_duration_ms": number,
            "licence": text,
            "evidence": pa.list_(pa.struct({"span": span, "quote": text, **ids, "aspect": text})),
            "claim": pa.struct(
                {"claim": text, "value": text, "items": pa.list_(item), "term": text}
            ),
            "provenance": _provenance(),
            "verdicts": _verdicts(),
            "status": text,
            "reasons": pa.list_(text),
        }
    )


def _videos_schema() -> pa.Schema:
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    return pa.schema(
        {
            **dict.fromkeys(("video_id", "video", "URL", "data_source", "licence"), text),
            **dict.fromkeys(("duration_ms", "width", "height"), number),
            "average_fps": pa.float64(),
            "has_audio": pa.bool_(),
            "num_damaged_ms": number,
            **dict.fromkeys(("content_digest", "backend"), text),
            **dict.fromkeys(("num_clips", "num_events", "num_rows"), number),
            "global_caption": text,
        }
    )


def _events_schema() -> pa.Schema:
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        {
            **dict.fromkeys(("event_id", "video_id", "video"), text),
            **dict.fromkeys(("start_ms", "end_ms"), pa.int64()),
            **dict.fromkeys(("title", "narrative"), text),
            "clip_ids": pa.list_(text),
            "provenance": _provenance(),
        }
    )


def _captions_schema() -> pa.Schema:
    import pyarrow as pa

    text = pa.string()
    aspects = ("temporality", "spatiality", "object", "action", "scene", "summary")
    return pa.schema(
        {
            **dict.fromkeys(("clip_id", "video_id", "video"), text),
            **dict.fromkeys(("start_ms", "end_ms"), pa.int64()),
            **dict.fromkeys(aspects, text),
            "is_usable": pa.bool_(),
            "verdicts": _verdicts(),
            "provenance": _provenance(),
        }
    )


def _provenance() -> pa.DataType:
    import pyarrow as pa

    text = pa.string()
    return pa.struct(
        {
            "stage": text,
            "stage_version": pa.int64(),
            **dict.fromkeys(("backend", "model", "prompt"), text),
            "call_keys": pa.list_(text),
        }
    )


def _verdicts() -> pa.DataType:
    import pyarrow as pa

    return pa.list_(pa.struct(dict.fromkeys(("rule", "outcome", "detail"), pa.string())))


TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "default": Table(folder="data", dicts=_row_dicts, schema=_rows_schema),
        "videos": Table(folder="videos", dicts=_video_dicts, schema=_videos_schema),
        "events": Table(folder="events", dicts=_event_dicts, schema=_events_schema),
        "clip_captions": Table(
            folder="clip_captions", dicts=_caption_dicts, schema=_captions_schema
        ),
    }
)
"""Configuration of the dataset card -> table; "default" holds the questions."""
