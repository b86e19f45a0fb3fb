"""Train the built-in nano model from scratch: `python -m hour_llava.recipes.nano --out DIR`.

    render   clips of MarathonWorld at the tower's size, damaged as other codecs would
    tower    stage 1: what stands in each cell of single frames
    encode   the frozen tower's features of all clips
    loop     stages 2 and 3: MemAug and language model on videos made of the clips' pieces, short
             ones first, then up to an hour

Two processes of one thread each share the work; the common trainer runs all stages. Every part
leaves files in DIR/work and is passed over when those are there; a stage that was killed goes on at
its last checkpoint. DIR/recipe.json has settings, commit and versions, DIR/training.log the time
taken, DIR/work/STAGE/log.jsonl every step.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hour_llava.errors import HourLlavaError
from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.model.tensor_files import open_to_others
from hour_llava.model.video_processing_hour_llava import HourLlavaVideoProcessor
from hour_llava.train.nano.abstain import find_threshold
from hour_llava.train.nano.bank import (
    ClipGroup,
    Encode,
    TokenGroup,
    encode_group,
    frames_and_classes,
    load_group,
    render_group,
)
from hour_llava.train.nano.batches import Composer
from hour_llava.train.nano.drills import drill_timeline
from hour_llava.train.nano.foreign import foreign_frames
from hour_llava.train.nano.lessons import LoopSettings, Stage
from hour_llava.train.nano.loop import measure, train_on_features, train_tower
from hour_llava.train.nano.objective import Heads, Weights
from hour_llava.train.nano.scraps import scrap_timeline
from hour_llava.train.nano.scratch import start_from_scratch
from hour_llava.train.nano.splice import Scrapbook
from hour_llava.train.nano.team import Team
from hour_llava.train.nano.tokenizer import END, IMAGE, START, VIDEO, build_tokenizer
from hour_llava.train.nano.tower import (
    AttributeHeads,
    FrameLessons,
    TowerObjective,
    TowerSettings,
    has_unusual_pose,
)
from hour_llava.train.provenance import keep_settings
from hour_llava.train.signals import EXIT_CODES
from hour_llava.train.watching.terminal import say
from hour_llava.world.questions import ALL_FAMILIES, vocabulary

Log = Callable[[str], None]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<video> "
    "{% elif part['type'] == 'image' %}<image> "
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ ' <|im_start|> ' if message['role'] == 'user' else ' <|im_end|> ' }}"
    "{% endfor %}"
)
"""Words alone: at this size a system turn and role names would only cost time."""


FAMILIES = ALL_FAMILIES
"""What nano is asked: all that MarathonWorld asks."""

NUM_PROCESSES = 2
HEADS_SEED = 1


HARD_FAMILIES = (
    "agent", "patient", "verb", "side", "effect", "relation", "same_colour", "colour_match",
    "return_stays", "same_action", "action_order", "act_sequence", "flash_sequence",
    "scene_sequence", "gap", "out_of_sight", "scene_duration",
    "next_scene", "previous_scene", "scene_order", "summary", "when", "action_when",
)  # fmt: skip
"""What is learned last: the second loop asks it twice as often."""

COMPARING_FAMILIES = ("relation", "same_colour", "colour_match", "same_action")
"""What stands at chance after the first loop, in which nothing is told of what is compared."""

LENGTH_FAMILIES = ("gap", "out_of_sight", "scene_duration")
"""Lengths of time: in words, the more of them the longer the video."""

LAGGING_FAMILIES = (
    *(*LENGTH_FAMILIES, "act_sequence", "scene_sequence", "flash_sequence", "summary", "summary"),
    *("effect", "effect", "action", "same_action", "same_colour", "next_scene", "verb"),
)
"""What is still being learned at the end of the second loop: the last one asks it most."""

FORGOTTEN_FAMILIES = ("longer_scene", "scene", "side", "duration")
"""What the last loop undoes when it asks it no more often than the rest."""


def _default_loops() -> tuple[LoopSettings, ...]:
    short = LoopSettings(
        stages=(Stage(num_steps=2100, seconds=(20, 45)),),
        last_rate=0.6,
        is_clock_held=True,
        weights=Weights(asked=0.0, pairs=0.0, lengths=0.0),
    )
    comparing = LoopSettings(
        stages=(Stage(num_steps=1000, seconds=(20, 120)),),
        learning_rate=1.8e-3,
        last_rate=0.8,
        warm_up_steps=40,
        families=(*FAMILIES, *HARD_FAMILIES, *3 * COMPARING_FAMILIES),
        weights=Weights(asked=2.0),
        seed=1,
    )
    long = LoopSettings(
        stages=3
        * (
            # Beyond an hour: what lies at the edge of the lengths met is told too short.
            Stage(num_steps=1200, seconds=(40, 6000), most_frames=300),
            Stage(num_steps=30, seconds=(600, 3600)),
        ),
        learning_rate=1.1e-3,
        warm_up_steps=40,
        families=(*FAMILIES, *FORGOTTEN_FAMILIES, *2 * LAGGING_FAMILIES, *2 * LENGTH_FAMILIES),
        weights=Weights(asked=0.5),
        save_every=100,
        seed=2,
    )
    return short, comparing, long


@dataclass(frozen=True, kw_only=True)
class NanoSettings:
    """The whole run.

    Args:
        short: groups of clips (seconds, clips), from which the tower learns.
        scraps: (seconds, clips, groups) made to be cut up; these and the short ones are what the
            videos are made of that the rest learns from.
        drills: clips that crowd all cells with turning, moving and growing shapes, for the tower.
        held_out: groups that nothing is trained on, for the log.
        noise: standard deviation added to the features, as a share of theirs.
    """

    image_size: int = 96
    patch_size: int = 16
    tower_width: int = 96
    tower_layers: int = 3
    width: int = 128
    layers: int = 2
    language_layers: int = 3
    tube_size: int = 3
    short: tuple[tuple[int, int], ...] = ((20, 900), (16, 600), (26, 500), (14, 600))
    scraps: tuple[int, int, int] = (60, 400, 4)
    drills: tuple[int, int] = (20, 1100)
    held_out: tuple[tuple[int, int], ...] = ((20, 60), (180, 20), (600, 8))
    tower: tuple[TowerSettings, ...] = (
        TowerSettings(num_steps=3600, learning_rate=2e-3),
        TowerSettings(num_steps=3400, learning_rate=1.2e-3, shares=(0.25, 0.25, 0.5), seed=1),
    )
    loops: tuple[LoopSettings, ...] = field(default_factory=_default_loops)
    noise: float = 0.12

    def short_groups(self) -> list[ClipGroup]:
        """List the clips that the tower learns from, drills last."""
        seconds, count = self.drills
        drills = ClipGroup(seconds=seconds, num_clips=count, first_seed=0, make=drill_timeline)
        return [*(_group(seconds, count, 0) for seconds, count in self.short), drills]

    def scrap_groups(self) -> list[ClipGroup]:
        """List the clips that videos are made of."""
        seconds, count, num_groups = self.scraps
        scraps = [
            ClipGroup(
                seconds=seconds, num_clips=count, first_seed=1000 * number, make=scrap_timeline
            )
            for number in range(num_groups)
        ]
        return [*(_group(seconds, count, 0) for seconds, count in self.short), *scraps]

    def held_out_groups(self) -> list[ClipGroup]:
        """List the clips that nothing is trained on."""
        return [_group(seconds, count, 500_000) for seconds, count in self.held_out]

    def all_groups(self) -> list[ClipGroup]:
        """List all clips."""
        return list(
            dict.fromkeys([*self.short_groups(), *self.scrap_groups(), *self.held_out_groups()])
        )


def _group(seconds: int, num_clips: int, offset: int) -> ClipGroup:
    return ClipGroup(seconds=seconds, num_clips=num_clips, first_seed=offset + 1000 * seconds)


def make_tokenizer() -> PreTrainedTokenizerBase:
    """Make the tokenizer of MarathonWorld's words: of wordings, of answers, of what fills slots."""
    tokenizer = build_tokenizer(vocabulary())
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_config(settings: NanoSettings, tokenizer: PreTrainedTokenizerBase) -> HourLlavaConfig:
    """Make the configuration: the 3B's classes, small, with the options the 3B lacks."""
    text = {
        "model_type": "qwen2",
        "vocab_size": len(tokenizer),
        "hidden_size": settings.width,
        "intermediate_size": 3 * settings.width,
        "num_hidden_layers": settings.language_layers,
        "num_attention_heads": settings.width // 32,
        "num_key_value_heads": settings.width // 32,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "bos_token_id": tokenizer.convert_tokens_to_ids(START),
        "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": settings.tower_width,
        "intermediate_size": 4 * settings.tower_width,
        "num_hidden_layers": settings.tower_layers,
        "num_attention_heads": settings.tower_width // 32,
        "image_size": settings.image_size,
        "patch_size": settings.patch_size,
        "vision_use_head": False,
    }
    return HourLlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=_token_id(tokenizer, IMAGE),
        video_token_id=_token_id(tokenizer, VIDEO),
        pool_size=2,
        memaug_num_layers=settings.layers,
        spatial_forgetting="uniform",
        max_kept_frames=8,
        min_memory_frames=1,
        image_aspect_ratio="pad",
        time_instruction=False,
        vision_tower_name=None,
        projector_layer_norm=True,
        tube_size=settings.tube_size,
        time_features=True,
        log_n_reference=2000,
        option_scoring="likelihood",
        domain="MarathonWorld",
    )


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


def train_nano(out: Path, settings: NanoSettings) -> None:
    """Run all parts in two processes and save model and processor into `out`.

    Raises:
        ConfigError: what is done in `out` was done with other settings.
        SystemExit: a process ended early; what is done stays done.
    """
    keep_settings(out / "recipe.json", asdict(settings))
    (out / "work").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as meeting:
        point, started = Path(meeting) / "point", time.monotonic()
        processes = [
            get_context("spawn").Process(target=_run, args=(rank, point, out, settings, started))
            for rank in range(NUM_PROCESSES)
        ]
        for process in processes:
            process.start()
        say(f"into {out}: about 90 minutes on two cores; {out / 'training.log'} has more")
        with _handing_on(processes):
            _wait_for(processes)


@contextmanager
def _handing_on(processes: Sequence[BaseProcess]) -> Iterator[None]:
    """Let those who train hear a signal that reaches this process alone: they save and end.

    Raises:
        SystemExit: with 143, or 130 behind Ctrl-C, whatever part they were at.
    """
    told: list[int] = []

    def tell(number: int, _: object) -> None:
        told.append(number)
        for process in processes:
            process.terminate()

    before = {one: signal.signal(one, tell) for one in EXIT_CODES}
    try:
        yield
    except SystemExit as ended:
        if not told:
            raise
        say("stopped; the same command goes on at what is done (clips half drawn begin anew)")
        raise SystemExit(EXIT_CODES[told[0]]) from ended
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _wait_for(processes: Sequence[BaseProcess]) -> None:
    """Wait for all; when one fails, the others wait for nothing.

    Raises:
        SystemExit: with the first bad exit code.
    """
    waiting = list(processes)
    while waiting:
        wait([process.sentinel for process in waiting])
        codes = [process.exitcode for process in waiting]  # once: one may end in between
        waiting = [one for one, code in zip(waiting, codes, strict=True) if code is None]
        if failed := [code for code in codes if code]:
            for process in waiting:
                process.join(timeout=20)  # it may be saving
                process.kill()
            raise SystemExit(failed[0])


def _run(rank: int, meeting_point: Path, out: Path, settings: NanoSettings, started: float) -> None:
    """Do one process's share of all parts; the first one writes the log."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this hands Ctrl-C on
    log = partial(_log, out / "training.log", started) if rank == 0 else _say_nothing
    team = Team.join(rank, NUM_PROCESSES, meeting_point)
    tokenizer = make_tokenizer()
    torch.manual_seed(settings.loops[0].seed)
    model = HourLlavaForConditionalGeneration(make_config(settings, tokenizer))
    start_from_scratch(model, settings.loops[0].seed)
    bank = _Bank(out / "work", settings, team, log)
    bank.draw(settings.all_groups())
    _train_tower(model, settings, bank, team, log)
    bank.encode(settings, model.encode_video)
    composer = Composer(model.config, tokenizer, FAMILIES)
    _train_rest(model, composer, settings, bank, team, log)
    if rank == 0:
        longer = [bank.features(group) for group in settings.held_out_groups()[1:]]
        set_threshold(model, composer, settings, longer, log)
        save(model, tokenizer, out)
        log("saved")
    team.leave()


def _log(path: Path, started: float, line: str) -> None:
    minutes, cpu = (time.monotonic() - started) / 60, time.process_time() / 60
    with path.open("a") as file:
        file.write(f"{minutes:6.2f} min, {cpu:6.2f} CPU min: {line}\n")
    if " step " not in line:  # a stage's steps have a progress line of their own
        say(f"{minutes:.1f} min: {line.partition(' | ')[0]}")


def _say_nothing(line: str) -> None:
    """Log nothing: the first process speaks for both."""


def save(
    model: HourLlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, out: Path
) -> None:
    """Write model and processor."""
    processor = HourLlavaProcessor.from_config(model.config, tokenizer, chat_template=CHAT_TEMPLATE)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    open_to_others(*out.glob("*.safetensors"))


class _Bank:
    """The clips' frames, drawn by both processes, and the tower's features of them."""

    def __init__(self, work: Path, settings: NanoSettings, team: Team, log: Log) -> None:
        self.work, self.team, self.log = work, team, log
        self.resize = HourLlavaVideoProcessor(settings.image_size)

    def draw(self, groups: Sequence[ClipGroup]) -> None:
        """Draw its share of the groups, those that are not there, and wait for the other's."""
        for group in _share(groups, self.team.rank):
            render_group(group, self.work, self.resize, is_degraded=True)
            self.log(f"drew {group.num_clips} clips of {group.seconds} s")
        self.team.wait()

    def encode(self, settings: NanoSettings, encode: Encode) -> None:
        """Run the tower over its share of the frames, and wait for the other's."""
        groups = [*settings.scrap_groups(), *settings.held_out_groups()]
        for group in _share(groups, self.team.rank):
            encode_group(group, self.work, self.work, encode)
        self.team.wait()
        self.log("encoded")

    def features(self, group: ClipGroup) -> TokenGroup:
        """Read a group's features."""
        return load_group(group, self.work)


def _share(groups: Sequence[ClipGroup], rank: int) -> list[ClipGroup]:
    """Divide groups by their frames: the largest first, each to who has less to do."""
    shares: list[list[ClipGroup]] = [[] for _ in range(NUM_PROCESSES)]
    work = [0] * NUM_PROCESSES
    for group in sorted(groups, key=lambda one: -one.seconds * one.num_clips):
        taker = work.index(min(work))
        shares[taker].append(group)
        work[taker] += group.seconds * group.num_clips
    return shares[rank]


def _train_tower(
    model: HourLlavaForConditionalGeneration,
    settings: NanoSettings,
    bank: _Bank,
    team: Team,
    log: Log,
) -> None:
    """Train the tower on the short clips' frames, or read what was trained before."""
    tower, heads = model.model.vision_tower, AttributeHeads(settings.tower_width)
    both = torch.nn.ModuleDict({"tower": tower, "heads": heads})
    paths = [bank.work / f"tower_{number}.safetensors" for number in range(len(settings.tower))]
    is_done = [path.exists() for path in paths]
    team.wait()
    material = None if all(is_done) else _tower_material(settings, bank)
    for phase, path, was_done in zip(settings.tower, paths, is_done, strict=True):
        if material is not None and not was_done:
            train_tower(
                TowerObjective(model, heads),
                FrameLessons(**material, settings=phase, team_size=team.size),
                out=path.with_suffix(""),
                team=team,
                log=log,
            )
            if team.rank == 0:
                save_file(both.state_dict(), path)
        team.wait()
        both.load_state_dict(load_file(path))
    tower.requires_grad_(False)
    model.eval()


def _tower_material(settings: NanoSettings, bank: _Bank) -> dict[str, Any]:
    """Read frames and classes, and number those of ordinary clips, of unusual poses, of drills."""
    frames, classes = frames_and_classes(settings.short_groups(), bank.work)
    num_drills = settings.drills[0] * settings.drills[1]
    clips, drills = np.split(np.arange(len(frames)), [len(frames) - num_drills])
    pools = (clips, clips[has_unusual_pose(classes[clips])], drills)
    return {"frames_FCHW": frames, "classes_FPA": classes, "pools": pools}


def _train_rest(
    model: HourLlavaForConditionalGeneration,
    composer: Composer,
    settings: NanoSettings,
    bank: _Bank,
    team: Team,
    log: Log,
) -> None:
    """Train MemAug and the language model on videos made of pieces, or read what was trained."""
    torch.set_flush_denormal(True)  # attention rounds much to nothing: a step in fifteen
    groups = [bank.features(group) for group in settings.scrap_groups()]
    scraps = Scrapbook(groups)
    noise = settings.noise * groups[0].scale
    torch.manual_seed(HEADS_SEED)  # whatever was done before here, or passed over
    heads = Heads(settings.width, len(composer.answers), settings.tube_size)
    both = torch.nn.ModuleDict({"model": model, "heads": heads})
    paths = [bank.work / f"loop_{number}.safetensors" for number in range(len(settings.loops))]
    is_done = [path.exists() for path in paths]
    team.wait()
    for loop, path, was_done in zip(settings.loops, paths, is_done, strict=True):
        if not was_done:
            train_on_features(
                model,
                heads,
                composer,
                scraps.videos,
                loop,
                out=path.with_suffix(""),
                noise=noise,
                team=team,
                log=log,
            )
            if team.rank == 0:
                save_file(both.state_dict(), path)
                _measure(model, composer, settings, bank, log)
        team.wait()
        both.load_state_dict(load_file(path))
    model.model.vision_tower.requires_grad_(False)
    model.eval()


def _measure(
    model: HourLlavaForConditionalGeneration,
    composer: Composer,
    settings: NanoSettings,
    bank: _Bank,
    log: Log,
) -> None:
    for held_out in settings.held_out_groups():
        tally = measure(model, composer, bank.features(held_out), questions_per_video=22)
        log(f"held out, {held_out.seconds} s: {tally.line()}")


@torch.no_grad()
def _foreign_features(
    model: HourLlavaForConditionalGeneration, settings: NanoSettings, seeds: range
) -> list[Tensor]:
    """Encode videos of other worlds."""
    resize = HourLlavaVideoProcessor(settings.image_size)
    size = settings.image_size
    return [model.encode_video(resize(foreign_frames(80, size, seed))) for seed in seeds]


def set_threshold(
    model: HourLlavaForConditionalGeneration,
    composer: Composer,
    settings: NanoSettings,
    groups: Sequence[TokenGroup],
    log: Log,
) -> None:
    """Measure below which confidence nano should not answer, and write it into its config."""
    foreign = _foreign_features(model, settings, range(10_000, 10_008))
    threshold, wrong, strange = find_threshold(model, composer, groups, foreign)
    model.config.abstain_below = round(threshold, 3)
    log(f"abstains below {threshold:.3f}: {wrong:.2f} of wrong, {strange:.2f} of foreign answers")


def main(out: Path) -> None:
    """Train nano.

    Args:
        out: where the model goes; what is done already in out/work is not done again.
    """
    train_nano(out, NanoSettings())


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except HourLlavaError as error:
        sys.exit(f"nano: error: {error}")
