"""`hour-llava train`: a recipe, every setting of which is a flag."""

from __future__ import annotations

import difflib
import json as json_format
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import tyro

from hour_llava.commands.lacks import naming_lacks
from hour_llava.commands.terminal import say
from hour_llava.commands.usage import UsageError, read_arguments
from hour_llava.errors import ConfigError
from hour_llava.recipes import RECIPES, Recipe
from hour_llava.train.config import RUN_REPORTS, SCRATCH, DataConfig, ModelConfig, TrainConfig

if TYPE_CHECKING:
    from hour_llava.train.estimate import Plan

RUNS = Path("runs")
NANO = (
    "nano, the built-in model, has a command of its own: python -m hour_llava.recipes.nano --out "
    "runs/nano (in the repository: make nano)"
)


def train(
    recipe: str,
    /,
    *,
    config: TrainConfig,
    out: Path | None = None,
    resume: bool = False,
    print_config: bool = False,
    dry_run: bool = False,
    plan_for: str | None = None,
    anyway: bool = False,
    json: bool = False,
) -> int:
    """Train a model by a recipe; without one, the recipes are listed.

    Several GPUs: torchrun --nproc-per-node 8 -m hour_llava.cli train RECIPE ...

    Args:
        recipe: its name
        config: its settings
        out: folder of the run: model, checkpoints, log; by default runs/NAME
        resume: go on from the newest checkpoint in OUT, or begin where there is none
        print_config: print all settings as JSON, and do nothing
        dry_run: say what is trained, and what it takes: tokens, memory, hours; exit code 1 if it
            cannot fit
        plan_for: the hardware of the plan: h200x8 is eight H200; by default this machine
        anyway: train also what the plan says cannot fit
        json: print the plan as one JSON object
    """
    chosen = RECIPES[recipe]
    if print_config:
        print(json_format.dumps(config.as_dict(), indent=2))
        return 0
    if dry_run:
        return _print_plan(chosen, config, plan_for, as_json=json)
    if plan_for is not None or json:
        raise ConfigError("--plan-for and --json belong to --dry-run: add it")
    folder = RUNS / config.name if out is None else out
    if not config.data.manifest and chosen.prepare is None:
        raise ConfigError(
            f"{recipe} brings no data: name it with --data.manifest FILE.jsonl ..., which "
            "`hour-llava data group` makes and `hour-llava data check` checks"
        )
    return _train(chosen, config, folder, resume=resume, anyway=anyway)


def _train(recipe: Recipe, config: TrainConfig, out: Path, *, resume: bool, anyway: bool) -> int:
    from hour_llava.commands.loading import keep_libraries_quiet
    from hour_llava.train.run import train as run_training

    keep_libraries_quiet()
    _require_data(config.data)
    _require_start(config.model)
    _require_reports(config.watch.reports)

    def prepare(given: TrainConfig) -> TrainConfig:
        prepared = recipe.prepared(given, out)
        if not anyway:
            _require_room(prepared)
        return prepared

    lacks = naming_lacks(
        memory="lower --batch.micro-batch-size (the result stays the same), turn "
        "--hardware.gradient-checkpointing on, or take more GPUs; --dry-run says what it takes",
        disk=f"the disk of {out} is full: free some space and go on with --resume; what stands in "
        f"{out / 'checkpoints'} is whole",
    )
    with lacks:
        model = run_training(config, out, resume=resume, prepare=prepare)
    if is_first_process():
        print(model)
        _say_what_is_next(config, Path(model))
    return 0


def _say_what_is_next(config: TrainConfig, model: Path) -> None:
    name = quote(str(model))
    if config.model.lora.rank:
        merged = model.with_name(f"{model.name}_merged")
        say(f"next: hour-llava merge {name} --out {quote(str(merged))}     (it is an adapter)")
        return
    following = config.name.replace(f"stage{config.stage}", f"stage{config.stage + 1}")
    if following in RECIPES and config.stage < 3:
        data = " --data.manifest FILE.jsonl" if RECIPES[following].prepare is None else ""
        say(f"next: hour-llava train {following} --model.start {name}{data}")
    else:
        say(f"next: hour-llava ask VIDEO QUESTION --model {name}")


def read_train(arguments: Sequence[str], *, program: str) -> Callable[[], int | None]:
    """Read the arguments: a recipe's name, then flags whose defaults are the recipe's.

    Raises:
        UsageError: no recipe, an unknown one, or flags that do not fit.
        SystemExit: help was printed.
    """
    if not arguments:
        raise UsageError(recipes_help(program))
    name, rest = arguments[0], list(arguments[1:])
    if name in ("-h", "--help", "help"):
        print(recipes_help(program))
        raise SystemExit(0)
    if name.startswith("-"):
        raise UsageError(f"{program}: the recipe stands first: {program} RECIPE {name} ...")
    if name == "nano":
        raise UsageError(f"{program}: {NANO}")
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"recipes are {', '.join(RECIPES)}"
        raise UsageError(f"{program}: {name} is no recipe; {hint}")
    recipe = RECIPES[name]
    verb = _with_defaults(name, recipe)
    return read_arguments(verb, rest, program=f"{program} {name}")


def _with_defaults(name: str, recipe: Recipe) -> Callable[..., int]:
    """Give `train` as a function whose settings begin with the recipe's."""
    default = recipe.config()

    def verb(
        *,
        config: Annotated[
            TrainConfig, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff
        ] = default,
        out: Path | None = None,
        resume: bool = False,
        print_config: bool = False,
        dry_run: bool = False,
        plan_for: str | None = None,
        anyway: bool = False,
        json: bool = False,
    ) -> int:
        if config.stage != default.stage:
            raise ConfigError(
                f"--stage {config.stage}: {name} is stage {default.stage}; name the recipe of the "
                "other stage"
            )
        options = {"resume": resume, "print_config": print_config, "dry_run": dry_run}
        options |= {"anyway": anyway, "json": json}
        return train(name, config=config, out=out, plan_for=plan_for, **options)

    verb.__doc__ = (train.__doc__ or "").replace(
        "Train a model by a recipe; without one, the recipes are listed.",
        f"{recipe.summary[:1].upper()}{recipe.summary[1:]}.",
    )
    return verb


def recipes_help(program: str) -> str:
    """List the recipes."""
    width = max(map(len, RECIPES))
    return "\n".join(
        [
            f"usage: {program} RECIPE [SETTINGS]     ({program} RECIPE --help lists the settings)",
            "",
            *(f"  {name:<{width}}  {recipe.summary}" for name, recipe in RECIPES.items()),
            f"  {NANO}",
            "",
            f"example: {program} debug_stage1 --out runs/try",
            f"example: {program} hour_llava_3b_stage3 --dry-run --plan-for h200x8",
        ]
    )


def _print_plan(recipe: Recipe, config: TrainConfig, plan_for: str | None, *, as_json: bool) -> int:
    from hour_llava.train.estimate import plan_lines
    from hour_llava.train.own_features import require_own_features
    from hour_llava.train.start import is_known_by_name

    with tempfile.TemporaryDirectory() as folder:  # for a recipe that makes its own data
        prepared = recipe.prepared(config, Path(folder))
        plan = _plan(prepared, plan_for)
        if not is_known_by_name(prepared.model):  # else its tower is not here to be compared
            require_own_features(prepared)
    plan = replace(plan, config=config)
    if as_json:
        print(json_format.dumps(plan.as_dict(), indent=2))
    else:
        print("\n".join(plan_lines(plan)))
    plan.require_fit()
    return 0


def _require_data(data: DataConfig) -> None:
    """Refuse manifests that cannot be opened."""
    from hour_llava.data.manifest import read_manifest

    for path in (*data.manifest, *([data.validation] if data.validation else [])):
        read_manifest(path, root=data.root, features=data.features)


def _require_start(model: ModelConfig) -> None:
    """Refuse a start that is neither here nor on a hub that can be reached; hub ids are fetched.

    A language model and a tower together take START's place.
    """
    from hour_llava.model.checkpoints import find_folder

    halves = (model.language_model, model.vision_tower)
    for start in halves if all(halves) else (model.start,):
        if start and not start.startswith(SCRATCH):
            find_folder(start)


def _require_reports(names: Sequence[str]) -> None:
    """Refuse reports that are not installed, before a model is loaded for them."""
    for name in names:
        if name in RUN_REPORTS and find_spec(name) is None:
            raise ConfigError(
                f"--watch.reports names {name}, which is not installed: pip install {name}, or "
                "leave it out"
            )


def _require_room(config: TrainConfig) -> None:
    """Refuse to start what cannot fit on this machine's devices."""
    _plan(config, None, count=int(os.environ.get("WORLD_SIZE", "1"))).require_fit()


def _plan(config: TrainConfig, plan_for: str | None, *, count: int | None = None) -> Plan:
    from hour_llava.train.estimate import make_plan
    from hour_llava.train.machines import named_machine, this_machine
    from hour_llava.train.sizes import manifest_streams, paper_streams
    from hour_llava.train.start import start_config

    data = config.data
    machine = (
        this_machine(config.hardware.device, count=count)
        if plan_for is None
        else named_machine(plan_for)
    )
    model_config = start_config(config.model)
    streams = manifest_streams(
        data.manifest,
        data.weights,
        root=data.root,
        features=data.features,
        fps=data.fps,
        count_tokens=_token_counter(config.model.start),
        question_scope=data.question_scope,
        max_length=data.max_length,
        model_config=model_config,
    )
    return make_plan(config, model_config, streams or paper_streams(config.stage), machine)


def _token_counter(start: str) -> Callable[[str], int] | None:
    """Count with the start's own tokenizer, where it lies here."""
    if not any((Path(start) / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        return None
    from hour_llava.model.checkpoints import read_tokenizer

    tokenizer = read_tokenizer(Path(start))
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def is_first_process() -> bool:
    """Say whether this process speaks for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"
