"""`hour-llava ask`: answer a question about a video or a memory file."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from hour_llava.commands.arguments import NumBytes, OptionalRate, Seconds
from hour_llava.commands.progress import readable_bytes, say_damage, watch
from hour_llava.commands.terminal import say
from hour_llava.errors import QuestionError

if TYPE_CHECKING:
    from hour_llava.session import Answer, Assistant
    from hour_llava.session.remembering import Remembered


def ask(
    video: Annotated[str, tyro.conf.arg(metavar="VIDEO|FILE.hlm")],
    question: Annotated[str, tyro.conf.arg(metavar="QUESTION")],
    /,
    *,
    options: tuple[str, ...] = (),
    model: str = "nano",
    evidence: Path | None = None,
    json: bool = False,
    seed: int = 0,
    no_cache: bool = False,
    device: str | None = None,
    dtype: str | None = None,
    fps: OptionalRate = None,
    start: Seconds = None,
    end: Seconds = None,
    max_new_tokens: int = 64,
    max_memory: NumBytes = None,
) -> None:
    """Answer a question about a video, and say which seconds the answer was read from.

    The video is remembered once and kept; asking again about it takes a moment. The built-in model
    `nano` knows generated MarathonWorld videos only (`hour-llava world make`).

    Args:
        video: a video, or a memory file made by `remember`
        question: in plain words
        options: answer with one of these
        model: `nano`, a local folder, or a hub id
        evidence: write a picture of where the answer was read (png, svg, pdf)
        json: print one JSON object
        seed: of the random forgetting; the same seed gives the same answer
        no_cache: neither read nor keep the memory of a video on disk
        device: cpu, cuda, cuda:1, mps; the best there is by default
        dtype: float32, bfloat16 or float16
        fps: frames a second to watch a video at; 1 if not given
        start: watch from here, seconds or mm:ss
        end: watch up to here, seconds or mm:ss
        max_new_tokens: the longest answer
        max_memory: bound on RAM, for example 2GB; a longer memory is read in chunks
    """
    from hour_llava.commands.loading import load_quietly
    from hour_llava.session.options import RememberOptions

    _check_words(video, question, options, max_new_tokens, evidence)
    assistant = load_quietly(model, device=device, dtype=dtype)
    with watch(Path(video).name) as progress:
        remembering = RememberOptions(
            fps=fps,
            start=start,
            end=end,
            progress=progress,
            use_cache=not no_cache,
            before_watching=lambda planned: assistant.require_answerable(
                planned, question, options, max_new_tokens, max_memory
            ),
        )
        remembered = assistant.open_or_remember(video, remembering)
    answer = assistant.ask(
        remembered.memory,
        question,
        options=options or None,
        evidence=True,
        seed=seed,
        max_new_tokens=max_new_tokens,
        max_memory=max_memory,
    )
    if json:
        print(json_format.dumps(as_json(answer, remembered)))
    else:
        _print_answer(answer, remembered.memory.sampling.fps)
    if evidence is not None:
        _draw(evidence, question, answer, remembered)
    _say_costs(assistant, answer, remembered)


def _draw(picture: Path, question: str, answer: Answer, remembered: Remembered) -> None:
    from hour_llava.session.cache import is_memory_file
    from hour_llava.session.showing import draw_answer

    draw_answer(
        picture,
        question=question,
        answer=answer,
        memory=remembered.memory,
        video=None if is_memory_file(remembered.path) else remembered.path,
    )
    say(f"evidence picture: {picture}")


def _check_words(
    video: str, question: str, options: tuple[str, ...], max_new_tokens: int, picture: Path | None
) -> None:
    """Refuse what can be refused before torch loads and minutes of work on the video begin."""
    from hour_llava.session.cache import is_memory_file
    from hour_llava.session.picture import check_picture
    from hour_llava.session.question import check_question
    from hour_llava.video.container import check_path

    check_question(question, options)
    if max_new_tokens < 1:
        raise QuestionError(f"--max-new-tokens {max_new_tokens}: an answer needs at least 1")
    if picture is not None:
        check_picture(picture, source=video)
    if not is_memory_file(video):
        check_path(video)


def as_json(answer: Answer, remembered: Remembered) -> dict[str, Any]:
    """Return the one object of `--json`; its keys are a promise (docs/asking.md)."""
    memory = remembered.memory
    return {
        "answer": answer.text,
        "abstained": answer.abstained,
        "model": answer.model,
        "domain": answer.domain,
        "video": {
            "path": str(remembered.path),
            "duration_seconds": round(memory.duration_seconds, 3),
            "num_frames": memory.num_frames,
            "damage": [asdict(span) for span in memory.damage],
        },
        "memory": {
            "num_tokens": answer.memory_tokens,
            "num_bytes": memory.num_bytes,
            "cached": remembered.is_cached,
        },
        "kept_tokens": answer.kept_tokens,
        "evidence": [asdict(span) for span in answer.evidence],
        "timings_seconds": {
            "decode": round(remembered.decode_seconds, 4),
            "encode": round(remembered.encode_seconds, 4),
            "augment": round(answer.augment_seconds, 4),
            "generate": round(answer.generate_seconds, 4),
        },
    }


def _print_answer(answer: Answer, fps: float) -> None:
    from hour_llava.session.picture import clock, clock_digits

    digits = clock_digits(fps)
    print(answer.text)
    if not answer.text.strip():
        say("the model ended its turn without a word: ask in other words, or give --options")
    for span in answer.evidence:
        start, end = clock(span.start_seconds, digits), clock(span.end_seconds, digits)
        print(f"[{start}-{end}] {span.score:.0%}")


def _say_costs(assistant: Assistant, answer: Answer, remembered: Remembered) -> None:
    if answer.domain:
        say(f"{answer.model} knows {answer.domain} only")
    if answer.abstained:
        say(f"not sure enough to answer (confidence {answer.confidence:.2f}); best guess: "
            f"{answer.best_guess}")  # fmt: skip
    memory = remembered.memory
    say_damage(memory.damage)
    source = "from the cache" if remembered.is_cached else "remembered now"
    say(
        f"{memory.num_frames:,} frames, {answer.memory_tokens:,} memory tokens "
        f"({readable_bytes(memory.num_bytes)}, {source}), {answer.kept_tokens:,} kept; seconds: "
        f"decode {remembered.decode_seconds:.2f}, encode {remembered.encode_seconds:.2f}, "
        f"augment {answer.augment_seconds:.2f}, generate {answer.generate_seconds:.2f}"
    )
