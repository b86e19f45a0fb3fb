"""`hour-llava synth stats`: what a build holds, what its rules said, what it cost."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

from hour_llava.commands.synth.wording import counted, dollars
from hour_llava.commands.terminal import printable, say
from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.calls.ledger import read_spent
from hour_llava.videomarathon.stats import BuildStats, Usage, collect

_GAP_EDGES = (0, 30, 60, 120, 300, 600, 1200, 1800, 3600)


def stats(
    build: Annotated[Path, tyro.conf.arg(metavar="BUILD_DIR")],
    /,
    *,
    json: bool = False,
    plots: Path | None = None,
) -> None:
    """Print the yield funnel, failures a rule, topics, evidence, cost, and table 1 with our row.

    Args:
        build: the build's folder, finished or not
        json: print one JSON object
        plots: draw the release's plots into this folder
    """
    opened = Build.open(build)
    found = collect(opened, name=opened.settings.name, usage=read_usage(build))
    if plots is not None:
        from hour_llava.videomarathon.release.plots import draw_plots

        plots.mkdir(parents=True, exist_ok=True)
        draw_plots(plots, found, title=opened.settings.name)
        say(f"plots are in {plots}")
    if json:
        print(json_format.dumps(found.as_dict(), indent=2))
    else:
        print("\n".join(printable(line) for line in describe(found)))


def read_usage(folder: Path) -> tuple[Usage, ...]:
    """Read what the ledger says of each stage."""
    return tuple(
        Usage(
            stage=stage,
            num_calls=spent.calls,
            num_prompt_tokens=spent.prompt_tokens,
            num_completion_tokens=spent.completion_tokens,
            usd=None if spent.known_usd is None else round(spent.known_usd, 6),
        )
        for stage, spent in sorted(read_spent(folder / "calls").items())
    )


def describe(found: BuildStats) -> Iterator[str]:
    """Write the figures for a terminal."""
    yield (
        f"{found.num_videos:,} of {counted(found.num_files, 'video')}, {found.hours:,.2f} hours, "
        f"{counted(found.num_clips, 'clip')} "
        f"({counted(found.num_unusable_clips, 'caption')} not usable), "
        f"{counted(found.num_events, 'event')}"
    )
    for reason, number in found.set_aside.items():
        yield f"  set aside, {reason}: {number:,}"
    yield ""
    yield f"{'yield':<24}{'open-ended':>12}{'mult. choice':>14}{'all':>10}{'of first':>10}"
    first = max(1, found.funnel[0].num_rows)
    for step in found.funnel:
        yield (
            f"{step.name:<24}{step.num_open_ended:>12,}{step.num_multiple_choice:>14,}"
            f"{step.num_rows:>10,}{step.num_rows / first:>10.1%}"
        )
    yield ""
    yield f"{'rule':<24}{'passed':>10}{'failed':>10}{'skipped':>10}{'failed %':>11}"
    for rule in found.rules:
        if rule.num_passed or rule.num_failed or rule.num_skipped:
            yield (
                f"{rule.rule:<24}{rule.num_passed:>10,}{rule.num_failed:>10,}"
                f"{rule.num_skipped:>10,}{rule.fail_rate:>11.1%}"
            )
    yield from _balance(found)
    yield from _topics(found)
    yield from _gaps(found)
    yield from _costs(found)
    yield from _table_1(found)


def _balance(found: BuildStats) -> Iterator[str]:
    yield ""
    for size, counts in found.option_positions.items():
        yield f"answers among {size} options stand at A, B, ...: {' '.join(map(str, counts))}"
    if found.longest_option_rate is not None:
        yield f"the answer is the longest option: {found.longest_option_rate:.1%}"
    if found.yes_rate is not None:
        yield f"yes among yes/no answers: {found.yes_rate:.1%}"


def _topics(found: BuildStats) -> Iterator[str]:
    yield ""
    yield f"{'topic':<24}{'rows':>10}{'share':>10}{'paper':>10}"
    for topic in found.topics:
        yield f"{topic.topic:<24}{topic.num_rows:>10,}{topic.share:>10.1%}{topic.target:>10.1%}"
    yield ""
    yield f"{'task':<26}{'open-ended':>12}{'mult. choice':>14}"
    for task in found.tasks:
        yield f"{task.task:<26}{task.num_open_ended:>12,}{task.num_multiple_choice:>14,}"


def _gaps(found: BuildStats) -> Iterator[str]:
    gaps = found.evidence_gaps_seconds
    if not gaps:
        return
    yield ""
    yield "from the first piece of evidence to the last"
    for low, high in zip(_GAP_EDGES, (*_GAP_EDGES[1:], None), strict=True):
        number = sum(low <= gap and (high is None or gap < high) for gap in gaps)
        label = f"{low}-{high} s" if high is not None else f"over {low} s"
        bar = "#" * round(40 * number / len(gaps))
        yield f"  {label:<14}{number:>8,}  {bar}".rstrip()


def _costs(found: BuildStats) -> Iterator[str]:
    if not found.usage:
        return
    yield ""
    yield f"{'stage':<24}{'calls':>10}{'tokens in':>14}{'tokens out':>14}{'usd':>10}"
    for used in found.usage:
        yield (
            f"{used.stage:<24}{used.num_calls:>10,}{used.num_prompt_tokens:>14,}"
            f"{used.num_completion_tokens:>14,}{dollars(used.usd):>10}"
        )


def _table_1(found: BuildStats) -> Iterator[str]:
    yield ""
    yield f"{'table 1':<24}{'hours':>12}{'mean min':>10}{'open-ended':>12}{'mult. choice':>14}"
    for row in found.table_1:
        hours = f"{row.hours:,.0f}" if row.hours >= 100 else f"{row.hours:,.2f}"
        yield (
            f"{row.name:<24}{hours:>12}{row.mean_minutes:>10.1f}{row.num_open_ended:>12,}"
            f"{row.num_multiple_choice:>14,}"
        )
