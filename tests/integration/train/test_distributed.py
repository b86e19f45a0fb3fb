"""The same training on one process, on two with DDP, and on two with FSDP2: with gloo, on a CPU.

The debug recipe's second stage trains every part, the vision tower too, on pictures, texts and
clips mixed: most steps have a process whose batch is text alone.
"""

from __future__ import annotations

import json
import multiprocessing
import runpy
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

RUNNER = Path(__file__).with_name("distributed_runner.py")
Steps = Callable[[Path], list[dict[str, Any]]]
Job = Callable[..., list[int]]
SAME = ("step", "samples", "tokens", "labels", "broken")


@pytest.fixture(scope="module")
def train_together(train_in_process: Any) -> Job:
    """Return a function that trains in so many processes, and gives their exit codes."""
    context = multiprocessing.get_context("forkserver")

    def train(
        out: Path,
        *,
        processes: int,
        sharding: str,
        precision: str = "fp32",
        lora: int = 0,
        validate: bool = False,
        resume: bool = False,
        signal_at: tuple[int, int] | None = None,
    ) -> list[int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        out.mkdir(parents=True, exist_ok=True)
        job = []
        for rank in range(processes):
            args = {"rank": rank, "world_size": processes, "port": port, "out": str(out)}
            args |= {"recipe": "debug_stage2", "sharding": sharding, "precision": precision}
            args |= {"lora": lora, "validate": validate}
            args |= {"resume": resume, "signal_at": signal_at}
            job.append(
                context.Process(
                    target=runpy.run_path, args=(str(RUNNER), {"ARGS": json.dumps(args)})
                )
            )
        for process in job:
            process.start()
        for process in job:
            process.join(300)
        hanging = [process for process in job if process.exitcode is None]
        for process in hanging:
            process.kill()
        assert not hanging, "the training hangs"
        return [process.exitcode for process in job]

    return train


@pytest.fixture(scope="module")
def finished(train_together: Job, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that gives the folder of a run on so many processes, made once."""
    made: dict[Any, Path] = {}

    def run(processes: int, sharding: str, **options: Any) -> Path:
        key = (processes, sharding, *options.items())
        if key not in made:
            out = tmp_path_factory.mktemp("together") / f"{sharding}{processes}"
            codes = train_together(out, processes=processes, sharding=sharding, **options)
            assert codes == [0] * processes, (out / "stderr-0").read_text()
            made[key] = out
        return made[key]

    return run


def require_same(steps_of: Steps, found: Path, wanted: Path, rtol: float = 1e-5) -> None:
    ours, theirs = steps_of(found), steps_of(wanted)
    assert len(ours) == len(theirs) == 6
    for a, b in zip(ours, theirs, strict=True):
        assert {name: a[name] for name in SAME} == {name: b[name] for name in SAME}
        assert a["loss"] == pytest.approx(b["loss"], rel=rtol)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=10 * rtol)


def require_same_model(found: Path, wanted: Path) -> None:
    name = "model/model.safetensors"
    ours, theirs = load_file(found / name), load_file(wanted / name)
    assert ours.keys() == theirs.keys()
    worst = {key: float((ours[key] - theirs[key]).abs().max()) for key in ours}
    assert max(worst.values()) < 1e-4, max(worst, key=worst.__getitem__)


def measured(out: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "validation"]


def held(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("rank-*.json"))]


def test_two_processes_with_fsdp2_learn_what_one_does(
    finished: Callable[..., Path], steps_of: Steps
) -> None:
    alone, together = finished(1, "none"), finished(2, "fsdp2")
    require_same(steps_of, together, alone)
    require_same_model(together, alone)
    for share in held(together):
        assert share["sharded"] == share["weights"]
        assert share["sharded_moments"] == share["moments"] > 0
        assert share["wrapper"].startswith("FSDP")
        assert share["encoded"] == [3, 4, 32]
        assert share["numbers"] == pytest.approx(share["all_numbers"] / 2, rel=0.01)


@pytest.mark.slow
def test_measuring_a_sharded_model_disturbs_neither_training_nor_checkpoints(
    finished: Callable[..., Path], steps_of: Steps
) -> None:
    alone, together = finished(1, "none", validate=True), finished(2, "fsdp2", validate=True)
    require_same(steps_of, together, finished(1, "none"))
    require_same_model(together, alone)
    ours, theirs = measured(together), measured(alone)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [3, 6]
    for a, b in zip(ours, theirs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


@pytest.mark.slow
def test_two_processes_with_ddp_learn_what_one_does(
    finished: Callable[..., Path], steps_of: Steps
) -> None:
    alone, together = finished(1, "none"), finished(2, "ddp")
    require_same(steps_of, together, alone)
    require_same_model(together, alone)
    assert [share["wrapper"] for share in held(together)] == ["DistributedDataParallel"] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((2, "fsdp2"), (1, "none")),
        ((1, "none"), (2, "fsdp2")),
        ((2, "fsdp2"), (2, "ddp")),
        ((2, "ddp"), (4, "fsdp2")),
    ],
)
def test_a_run_goes_on_with_other_processes(
    first: tuple[int, str],
    then: tuple[int, str],
    tmp_path: Path,
    finished: Callable[..., Path],
    train_together: Job,
    steps_of: Steps,
) -> None:
    whole = finished(*first)
    resumed = tmp_path / "resumed"
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "model")
    shutil.rmtree(resumed / "checkpoints" / "step-00000006")
    codes = train_together(resumed, processes=then[0], sharding=then[1], resume=True)
    assert codes == [0] * then[0], (resumed / "stderr-0").read_text()
    require_same(steps_of, resumed, finished(1, "none"))
    require_same_model(resumed, finished(1, "none"))


@pytest.mark.slow
def test_bfloat16_on_two_processes_is_that_on_one(
    finished: Callable[..., Path], steps_of: Steps
) -> None:
    alone = finished(1, "fsdp2", precision="bf16")
    together = finished(2, "fsdp2", precision="bf16")
    require_same(steps_of, together, alone, rtol=2e-3)
    for share in [*held(alone), *held(together)]:
        assert share["dtypes"] == ["torch.float32"], "the optimiser's weights are not rounded"
        assert share["sharded"] == share["weights"]


@pytest.mark.slow
def test_adapters_are_trained_on_two_processes_as_on_one(
    finished: Callable[..., Path], steps_of: Steps
) -> None:
    alone, together = finished(1, "none", lora=4), finished(2, "fsdp2", lora=4)
    require_same(steps_of, together, alone)
    assert (together / "model/adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_a_signal_to_one_process_ends_both_behind_a_checkpoint(
    tmp_path: Path, train_together: Job, finished: Callable[..., Path], steps_of: Steps
) -> None:
    codes = train_together(tmp_path, processes=2, sharding="fsdp2", signal_at=(1, 2))
    assert codes == [143, 143], (tmp_path / "stderr-0").read_text()
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert names in (["step-00000002"], ["step-00000003"])
    assert train_together(tmp_path, processes=2, sharding="fsdp2", resume=True) == [0, 0]
    require_same(steps_of, tmp_path, finished(1, "none"))
