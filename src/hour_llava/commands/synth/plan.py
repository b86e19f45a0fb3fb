"""`hour-llava synth plan`: units, calls, tokens, money and hours, before any is spent."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.commands.progress import readable_seconds
from hour_llava.commands.synth.watching import watch_run
from hour_llava.commands.synth.wording import counted, dollars
from hour_llava.commands.terminal import printable
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.plan import SECONDS_A_CALL, Plan, StagePlan, make_plan


def plan(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    /,
    *,
    json: bool = False,
) -> None:
    """Say what a run would do and cost; no call is made.

    Files are looked at and clips laid for real. Everything that hangs on a model's answers is an
    estimate, marked with ~, made by rehearsing the stages with invented answers of common length.

    Args:
        build: the build's folder
        json: print one JSON object
    """
    opened = Build.open(build)
    with watch_run() as watcher:
        found = make_plan(opened, watcher)
    print(json_format.dumps(_as_dict(found), indent=2) if json else "\n".join(_lines(found)))


def _as_dict(found: Plan) -> dict[str, object]:
    return {
        **asdict(found),
        "stages": [_stage_as_dict(stage) for stage in found.stages],
        "num_videos": dict(found.num_videos),
        "num_calls": found.num_calls,
        "num_tokens": found.num_tokens,
        "usd": found.usd,
        "most_calls_of_verify": found.most_calls_of_verify,
        "hours_of_calls": found.seconds / 3600,
    }


def _stage_as_dict(stage: StagePlan) -> dict[str, object]:
    return {
        **asdict(stage),
        "num_calls": stage.num_calls,
        "prompt_tokens": stage.prompt_tokens,
        "completion_tokens": stage.completion_tokens,
    }


def _lines(found: Plan) -> list[str]:
    videos = ", ".join(f"{number:,} {name}" for name, number in found.num_videos.items())
    lines = [
        f"videos: {videos or 'none'}; {found.hours:.1f} hours; set aside: {found.num_set_aside:,}",
        f"{'stage':<15} {'units':>9} {'calls':>10} {'prompt':>13} {'answers':>12} {'usd':>10}",
    ]
    lines += [_line(stage) for stage in found.stages if stage.num_units]
    usd = "price unknown" if found.usd is None else f"~${found.usd:,.2f}"
    lines.append(
        f"to do: ~{counted(found.num_calls, 'call')}, ~{counted(found.num_tokens, 'token')}, "
        f"{usd}, ~{readable_seconds(found.seconds)} of calls, "
        f"~{readable_seconds(3600 * found.decode_cpu_hours)} of CPU time for decoding"
    )
    if found.num_calls:
        lines.append(
            f"~ is an estimate: {counted(found.num_rehearsed, 'video')} rehearsed with invented "
            f"answers; a call is taken to last {SECONDS_A_CALL:g} s until a run has measured it"
        )
    if found.most_calls_of_verify:
        lines.append(
            "verify asks about a row until its outcome is certain: at most "
            f"{counted(found.most_calls_of_verify, 'call')} for the rehearsed rows"
        )
    if found.spent.calls:
        lines.append(
            f"spent so far: {found.spent.calls:,} calls, {found.spent.tokens:,} tokens, "
            f"{'' if found.spent.num_unpriced else '$'}{dollars(found.spent.known_usd)}"
            f"{' price' if found.spent.num_unpriced else ''}"
        )
    return [printable(line) for line in lines]


def _line(stage: StagePlan) -> str:
    mark = "" if stage.is_exact else "~"
    numbers = (stage.num_units, stage.num_calls, stage.prompt_tokens, stage.completion_tokens)
    units, calls, prompt, answers = (f"{mark}{round(number):,}" for number in numbers)
    usd = dollars(stage.usd)
    return f"{stage.name:<15} {units:>9} {calls:>10} {prompt:>13} {answers:>12} {usd:>10}"
