"""What a run would do and cost, before anything is spent.

Files are looked at and clips laid for real (that costs nothing and is kept). Then the stages are
rehearsed for the videos that an endpoint will describe: the same stages, prompts and pictures'
sizes, with the mock's answers in the model's place and no call made. So calls and prompts of
captions are exact; whatever hangs on a model's answers (how many events, how long a text, how many
rows are tested blind) is an estimate, marked as such. Of many videos a sample is rehearsed.
"""

from __future__ import annotations

import asyncio
import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from hour_llava.videomarathon.backends.endpoint import to_call
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.calls.budget import BudgetCaps
from hour_llava.videomarathon.calls.ledger import Spent, read_spent
from hour_llava.videomarathon.calls.prices import price_of
from hour_llava.videomarathon.calls.tokens import count_messages, count_text
from hour_llava.videomarathon.frames import seconds_in
from hour_llava.videomarathon.mock_answers import Asked, answer
from hour_llava.videomarathon.pipeline import MAY_SET_ASIDE
from hour_llava.videomarathon.records import Clip, Record, SetAside, Video
from hour_llava.videomarathon.runner import Watcher, run_build
from hour_llava.videomarathon.schemas import json_schema
from hour_llava.videomarathon.stage import Reply, Request, Role, Stage, Tools, Unit
from hour_llava.videomarathon.state import State, topic_units
from hour_llava.videomarathon.toolbox import CALLS

MAX_REHEARSED = 12
"""So many videos are rehearsed; the others cost like these, by their length."""
SECONDS_A_CALL = 6.0
"""What a call takes where no run has measured it yet."""
DECODE_SECONDS_AN_HOUR = 75.0
"""CPU seconds for an hour of 720p (benchmarks/results/reader.json)."""


@dataclass(kw_only=True)
class RolePlan:
    """What a stage asks of one role's endpoint."""

    num_calls: float = 0
    prompt_tokens: float = 0
    completion_tokens: float = 0


@dataclass(kw_only=True)
class StagePlan:
    """A stage's share of what is to do."""

    name: str
    num_units: int = 0
    roles: dict[Role, RolePlan] = field(default_factory=dict[Role, RolePlan])
    usd: float | None = 0.0
    seconds: float = 0.0
    is_exact: bool = True
    most_calls: float = 0
    """What the calls may come to where a stage stops asking as soon as an outcome is certain."""

    @property
    def num_calls(self) -> float:
        """Return the calls of all roles."""
        return sum(role.num_calls for role in self.roles.values())

    @property
    def prompt_tokens(self) -> float:
        """Return what all roles are sent."""
        return sum(role.prompt_tokens for role in self.roles.values())

    @property
    def completion_tokens(self) -> float:
        """Return what all roles answer."""
        return sum(role.completion_tokens for role in self.roles.values())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do, stage by stage, and for how many videos."""

    stages: tuple[StagePlan, ...]
    num_videos: Mapping[str, int]
    num_set_aside: int
    hours: float
    num_rehearsed: int
    decode_cpu_hours: float
    spent: Spent = field(default_factory=Spent)

    @property
    def num_calls(self) -> int:
        """Return the calls of all stages."""
        return round(sum(stage.num_calls for stage in self.stages))

    @property
    def most_calls_of_verify(self) -> int:
        """Return the calls of verify if no row's outcome were certain before its last question."""
        return round(sum(stage.most_calls for stage in self.stages))

    @property
    def num_tokens(self) -> int:
        """Return prompts and answers of all stages."""
        return round(sum(s.prompt_tokens + s.completion_tokens for s in self.stages))

    @property
    def usd(self) -> float | None:
        """Return dollars, or None where a price is unknown."""
        known = [stage.usd for stage in self.stages]
        return None if None in known else sum(usd for usd in known if usd is not None)

    @property
    def seconds(self) -> float:
        """Return how long the calls take at the concurrency of the settings."""
        return sum(stage.seconds for stage in self.stages)


def make_plan(build: Build, watcher: Watcher) -> Plan:
    """Look at the files, lay the clips, rehearse the rest.

    Raises:
        BuildError: as `run_build`.
    """
    run_build(build, watcher, caps=BudgetCaps(), until="clips", with_release=False)
    state = State(build)
    videos = [video for video, _ in state.videos().values()]
    served = [video for video in videos if video.backend == "endpoint"]
    sample = _sample(served)
    folder = build.folder / CALLS
    spent = read_spent(folder) if folder.is_dir() else {}
    rehearsal = _Rehearsal(build, state)
    for video in sample:
        asyncio.run(rehearsal.play(video))
    stages = rehearsal.plans
    done_ms = sum(video.duration_ms for video in sample)
    factor = sum(video.duration_ms for video in served) / done_ms if done_ms else 1.0
    decoded = [video for video in videos if video.backend in ("endpoint", "embedded")]
    left_ms = _ms_to_decode(state, decoded)
    for plan in stages.values():
        plan.is_exact = plan.is_exact and len(sample) == len(served)
        _scale(plan, factor)
        _price(build, plan, spent.get(plan.name, Spent()))
        plan.num_units += _num_free_units(build, state, plan.name)
    backends = [video.backend for video in videos]
    return Plan(
        stages=tuple(stages.values()),
        num_videos={name: backends.count(name) for name in sorted(set(backends))},
        num_set_aside=sum(isinstance(row, SetAside) for row in state.rows("ingest")),
        hours=sum(video.duration_ms for video in videos) / 3_600_000,
        num_rehearsed=len(sample),
        decode_cpu_hours=left_ms / 3_600_000 * DECODE_SECONDS_AN_HOUR / 3600,
        spent=sum(spent.values(), Spent()),
    )


def _sample(videos: Sequence[Video]) -> list[Video]:
    """Take videos evenly by length."""
    if len(videos) <= MAX_REHEARSED:
        return list(videos)
    ordered = sorted(videos, key=lambda video: (video.duration_ms, video.id))
    step = (len(ordered) - 1) / (MAX_REHEARSED - 1)
    return [ordered[round(number * step)] for number in range(MAX_REHEARSED)]


def _ms_to_decode(state: State, videos: Sequence[Video]) -> int:
    """Return the milliseconds of video that have yet to be shown to a captioner, or measured."""
    waiting = {work.video_id for work in state.of("captions").todo()}
    return sum(video.duration_ms for video in videos if video.id in waiting)


def _num_free_units(build: Build, state: State, name: str) -> int:
    """Count the units to do of videos that need no endpoint."""
    stage, done = build.stage(name), state.of(name).parts
    if stage.unit == "file":
        return 0
    num = 0
    for video, _ in state.videos().values():
        if video.backend != "endpoint":
            units = {
                "clip": state.clips(video.id),
                "video_topic_format": topic_units(video.id),
            }.get(stage.unit, [video.id])
            num += sum(unit not in done for unit in units)
    return num


def _scale(plan: StagePlan, factor: float) -> None:
    plan.num_units = round(plan.num_units * factor)
    plan.most_calls *= factor
    for role in plan.roles.values():
        role.num_calls *= factor
        role.prompt_tokens *= factor
        role.completion_tokens *= factor


def _price(build: Build, plan: StagePlan, spent: Spent) -> None:
    each = spent.seconds / spent.calls if spent.calls else SECONDS_A_CALL
    for name, role in plan.roles.items():
        endpoint = build.settings.endpoints.of(name)
        if endpoint is None:
            continue
        price = price_of(endpoint)
        usd = price and price.usd(
            prompt_tokens=round(role.prompt_tokens), completion_tokens=round(role.completion_tokens)
        )
        plan.usd = None if usd is None or plan.usd is None else plan.usd + usd
        plan.seconds += role.num_calls * each / endpoint.max_concurrency


class _Rehearsal:
    """Runs the stages of one video after the other, counting what would be asked."""

    def __init__(self, build: Build, state: State) -> None:
        self._build, self._state = build, state
        stages = [s for s in build.stages if s.unit != "build"]
        self.plans = {stage.name: StagePlan(name=stage.name) for stage in stages}
        self._stages = stages

    async def play(self, video: Video) -> None:
        """Go through a video's units; those done are read, the others rehearsed."""
        rows: dict[str, dict[str, list[Record]]] = {"ingest": {video.id: [video]}}
        for stage in self._stages:
            if stage.unit == "file":
                continue
            rows[stage.name] = {}
            for unit in _units(stage, video, rows):
                rows[stage.name][unit] = await self._unit(stage, unit, video, rows)
            if stage.name in MAY_SET_ASIDE and any(
                isinstance(row, SetAside) for found in rows[stage.name].values() for row in found
            ):
                return

    async def _unit(
        self, stage: Stage, unit: str, video: Video, rows: Mapping[str, Mapping[str, list[Record]]]
    ) -> list[Record]:
        known = self._state.of(stage.name)
        if unit in known.parts:
            return known.store.read(known.parts[unit])
        plan = self.plans[stage.name]
        plan.num_units += 1

        async def ask(request: Request) -> Reply:
            return _rehearse(request, plan)

        async def frames(video: Video, start_ms: int, end_ms: int) -> list[tuple[int, bytes]]:
            picture = _blank(video.width, video.height, self._build.settings.frame_side)
            first, last = seconds_in(start_ms, end_ms)
            return [(1000 * second, picture) for second in range(first, last + 1)]

        inputs = {
            need: [row for found in rows[need].values() for row in found] for need in stage.needs
        }
        if stage.unit == "clip":
            inputs["clips"] = [r for r in inputs["clips"] if isinstance(r, Clip) and r.id == unit]
        plan.is_exact = stage.name in ("clips", "captions", "global_caption")
        parameters = dict(stage.parameters(self._build.settings))
        if stage.name == "verify" and stage.count_calls is not None:
            plan.most_calls += stage.count_calls(Unit(id=unit, inputs=inputs), parameters)
        return await stage.run(
            Unit(id=unit, inputs=inputs), parameters, Tools(ask=ask, frames=frames)
        )


def _units(
    stage: Stage, video: Video, rows: Mapping[str, Mapping[str, list[Record]]]
) -> Sequence[str]:
    if stage.unit == "clip":
        return [
            row.id for found in rows["clips"].values() for row in found if isinstance(row, Clip)
        ]
    return topic_units(video.id) if stage.unit == "video_topic_format" else [video.id]


def _rehearse(request: Request, plan: StagePlan) -> Reply:
    """Count a call and answer it as the mock would."""
    call = to_call(request)
    text = "\n".join(_texts(call.messages))
    said = answer(Asked(schema=json_schema(request.schema), text=text, unit=request.unit))
    role = plan.roles.setdefault(request.role, RolePlan())
    role.num_calls += 1
    role.prompt_tokens += count_messages(call.messages, call.media)
    role.completion_tokens += count_text(said)
    payload = request.schema.model_validate_json(said)
    return Reply(payload=payload, backend="mock", model="rehearsal", call_key="0" * 16)


def _texts(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    found: list[str] = []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        found += [part["text"] for part in parts if part["type"] == "text"]
    return found


@functools.lru_cache(maxsize=64)
def _blank(width: int, height: int, side: int) -> bytes:
    """Return a picture of the size that the captioner would be shown."""
    scale = min(1.0, side / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "JPEG")
    return file.getvalue()
