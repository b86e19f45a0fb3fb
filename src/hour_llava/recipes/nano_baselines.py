"""Train what nano is compared with: `python -m hour_llava.recipes.nano_baselines --nano DIR`.

    no_memaug    no MemAug: the language model reads the decayed tokens as they are
    uniform_32   32 frames spread over the video are all there is, MemAug reads those
    uniform_64   64 of them
    no_rope      MemAug without rotary positions

Each starts from the first weights of nano's own recipe, with the frozen tower and the clips of a
finished run of it (DIR, with DIR/work), and takes the recipe's steps (`--share` of them). With
`--is-warm` it starts from nano's final weights, which favours it, and takes but `WARM`'s steps. The
model goes to OUT/<name>, with a baseline.json that benchmarks/nano_exam.py reads:

    python benchmarks/nano_exam.py swaps --arms full --model OUT/no_memaug --prefix no_memaug/
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

import torch
import tyro
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hour_llava.errors import ConfigError, HourLlavaError
from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.recipes.nano import FAMILIES, NanoSettings, make_config, make_tokenizer, save
from hour_llava.train.nano.bank import load_group
from hour_llava.train.nano.batches import Batch, Composer
from hour_llava.train.nano.lessons import LoopSettings, Stage
from hour_llava.train.nano.loop import train_on_features
from hour_llava.train.nano.objective import Heads, Weights
from hour_llava.train.nano.scratch import start_from_scratch
from hour_llava.train.nano.splice import Scrapbook
from hour_llava.train.nano.team import Team
from hour_llava.world.exam import uniform_seconds
from hour_llava.world.questions import Question

Log = Callable[[str], None]
Name = Literal["no_memaug", "uniform_32", "uniform_64", "no_rope"]
TOWER = "model.vision_tower."
WARM = LoopSettings(
    stages=(Stage(num_steps=150, seconds=(52, 600)),),
    learning_rate=1e-3,
    warm_up_steps=20,
    weights=Weights(asked=0.0, pairs=0.0, lengths=0.0),
)
"""Enough for a model that knows all but how to do without what was taken from it; probes that begin
anew would only disturb it."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a baseline lacks.

    Args:
        num_frames: it sees so many frames of a video, spread evenly (None: all).
        has_memaug: whether anything reads the memory for it.
        has_rope: whether MemAug has rotary positions.
    """

    num_frames: int | None = None
    has_memaug: bool = True
    has_rope: bool = True


BASELINES: dict[Name, Baseline] = {
    "no_memaug": Baseline(has_memaug=False),
    "uniform_32": Baseline(num_frames=32),
    "uniform_64": Baseline(num_frames=64),
    "no_rope": Baseline(has_rope=False),
}


class FewFrames(Composer):
    """Makes batches in which only some frames of each video are left.

    Args:
        num_frames: spread evenly over the video.
    """

    def __init__(
        self,
        config: HourLlavaConfig,
        tokenizer: PreTrainedTokenizerBase,
        families: Sequence[str],
        num_frames: int,
    ) -> None:
        super().__init__(config, tokenizer, families)
        self.num_frames = num_frames

    def compose(
        self,
        features_VFPD: Sequence[Tensor],
        questions_VQ: Sequence[Sequence[Question]],
        *,
        seconds_VF: Sequence[Tensor] | None = None,
        answers: Sequence[str] | None = None,
        classes_VFPA: Tensor | None = None,
        blur: Random | None = None,
    ) -> Batch:
        """Lay out rows, as `Composer.compose`; times stay those of the whole video."""
        num_frames = len(features_VFPD[0])
        kept_f = torch.from_numpy(uniform_seconds(num_frames, self.num_frames))
        seconds_VF = seconds_VF or [torch.arange(num_frames)] * len(features_VFPD)
        return super().compose(
            [features_FPD[kept_f] for features_FPD in features_VFPD],
            questions_VQ,
            seconds_VF=[seconds_F[kept_f] for seconds_F in seconds_VF],
            answers=answers,
            classes_VFPA=None if classes_VFPA is None else classes_VFPA[:, kept_f],
            blur=blur,
        )


def make_model(
    baseline: Baseline, nano: Path, settings: NanoSettings, *, is_warm: bool = False
) -> tuple[HourLlavaForConditionalGeneration, PreTrainedTokenizerBase]:
    """Make an untrained model with the frozen tower of a finished run.

    Args:
        nano: the run's folder.
        is_warm: take all of the run's weights for which the model has a place.

    Raises:
        HourLlavaError: there is no finished run in that folder.
    """
    weights = nano / "model.safetensors"
    if not weights.is_file():
        raise HourLlavaError(
            f"{nano}: no model.safetensors; name the folder of a finished `make nano`"
        )
    tokenizer = make_tokenizer()
    config = make_config(settings, tokenizer)
    if not baseline.has_memaug:
        config.memaug_num_layers = 0
    model = HourLlavaForConditionalGeneration(config)
    start_from_scratch(model, settings.loops[0].seed)
    places = model.state_dict()
    taken = {
        name: weight
        for name, weight in load_file(weights).items()
        if name in places and (is_warm or name.startswith(TOWER))
    }
    model.load_state_dict(taken, strict=False)
    model.model.vision_tower.requires_grad_(False)
    if not baseline.has_rope:
        model.model.memaug.rotary_share = 0.0
    return model, tokenizer


def train_baseline(
    name: Name,
    nano: Path,
    out: Path,
    settings: NanoSettings,
    *,
    share: float,
    log: Log,
    is_warm: bool = False,
) -> Path:
    """Train one baseline and save it into out/name.

    Args:
        nano: folder of a finished run of the recipe, with its work.
        share: of each stage's steps, at least one each.
        is_warm: start from the run's final weights, and take `WARM`'s steps.

    Returns: the model's folder.

    Cost: as long as the recipe's loops take in one process, times `share`.
    """
    baseline = BASELINES[name]
    model, tokenizer = make_model(baseline, nano, settings, is_warm=is_warm)
    composer = Composer(model.config, tokenizer, FAMILIES)
    if baseline.num_frames is not None:
        composer = FewFrames(model.config, tokenizer, FAMILIES, baseline.num_frames)
    groups = [load_group(group, nano / "work") for group in settings.scrap_groups()]
    scraps = Scrapbook(groups)
    noise = settings.noise * groups[0].scale
    loops = [shortened(loop, share) for loop in ((WARM,) if is_warm else settings.loops)]
    torch.manual_seed(settings.loops[0].seed)
    heads = Heads(settings.width, len(composer.answers), settings.tube_size)
    folder = out / name
    for number, loop in enumerate(loops):
        train_on_features(
            model,
            heads,
            composer,
            scraps.videos,
            loop,
            out=folder / "work" / f"loop_{number}",
            noise=noise,
            team=Team(),
            log=lambda line: log(f"{name} {line}"),
        )
    save(model, tokenizer, folder)
    about = asdict(baseline) | {"name": name, "is_warm": is_warm, "share": share}
    about |= {"num_steps": sum(loop.num_steps for loop in loops)}
    (folder / "baseline.json").write_text(json.dumps(about, indent=2) + "\n")
    return folder


def shortened(loop: LoopSettings, share: float) -> LoopSettings:
    """Take a share of every stage's steps, and of the warm-up's."""
    stages = tuple(
        replace(stage, num_steps=max(1, round(share * stage.num_steps))) for stage in loop.stages
    )
    return replace(loop, stages=stages, warm_up_steps=round(share * loop.warm_up_steps))


def _is_there(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Say whether a baseline is trained already, and refuse one that was trained in another way."""
    path = folder / "baseline.json"
    if not path.exists():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    other = [f"{k} {found.get(k)}, now {v}" for k, v in wanted.items() if found.get(k) != v]
    if other:
        raise ConfigError(
            f"{folder} was trained in another way ({', '.join(other)}): name another --out, or "
            "remove that folder"
        )
    return True


def main(
    nano: Path = Path("runs/nano"),
    out: Path = Path("runs/nano_baselines"),
    names: tuple[Name, ...] = tuple(BASELINES),
    share: float = 1.0,
    is_warm: bool = False,
) -> None:
    """Train nano's baselines.

    Args:
        nano: folder of a finished `make nano`.
        out: where the models go; those that are there are not trained again.
        names: which ones.
        share: of the recipe's steps.
        is_warm: start from nano's final weights, and take few steps.

    Raises:
        ConfigError: one that is there was trained in another way.
    """
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    def log(line: str) -> None:
        with (out / "training.log").open("a") as file:
            file.write(f"{(time.monotonic() - started) / 60:6.2f} min: {line}\n")

    for name in names:
        if _is_there(out / name, {"share": share, "is_warm": is_warm}):
            print(f"{out / name} is there already", file=sys.stderr)
        else:
            settings = NanoSettings()
            train_baseline(name, nano, out, settings, share=share, log=log, is_warm=is_warm)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except HourLlavaError as error:
        sys.exit(f"nano_baselines: error: {error}")
