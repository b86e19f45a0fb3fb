"""What a call costs besides the model's time, and how fast answers are made durable.

`overhead` is the CPU time of the calling process per call, model time excluded: keys, ledger,
budget, limits, the openai SDK, HTTP over loopback, guards, schema; the mock server is a process of
its own; of ten batches the least disturbed counts. `sdk_alone` is the same request by the openai
SDK's `create` and nothing of ours, for comparison. `lookup` reads the same answers from the ledger
in a second run. `durable` is rows a second that are on the disk (synchronous=FULL) with so many
calls under way.

    python benchmarks/calls.py --calls 400
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hour_llava.videomarathon.calls.budget import Budget, BudgetCaps
from hour_llava.videomarathon.calls.caller import Caller
from hour_llava.videomarathon.calls.ladder import dress
from hour_llava.videomarathon.calls.ledger import Ledger, StoredCall
from hour_llava.videomarathon.calls.limits import make_limits
from hour_llava.videomarathon.calls.request import CallRequest, media_url
from hour_llava.videomarathon.schemas import ClipAspects, json_schema
from hour_llava.videomarathon.settings import EndpointSettings
from record import keep_results, origin

RESULTS = Path(__file__).parent / "results" / "calls.json"
CONCURRENCY = 16
PICTURE_BYTES, NUM_PICTURES = 30_000, 30
Work = Callable[[Caller], Coroutine[Any, Any, None]]


def question(number: int, *, pictures: bool) -> CallRequest:
    """Ask for a clip's caption: 400 words of prompt, and 30 pictures of 30 kB when asked for."""
    text = f"Clip {number}. " + "Describe this stretch of the video under six aspects. " * 45
    content: Any = text
    media: dict[str, bytes] = {}
    if pictures:
        for index in range(NUM_PICTURES):
            data = b"\xff\xd8" + f"{number}-{index}".encode() + bytes(PICTURE_BYTES)
            media[media_url(data).removeprefix("media:")] = data
        parts = [{"type": "image_url", "image_url": {"url": f"media:{sha}"}} for sha in media]
        content = [*parts, {"type": "text", "text": text}]
    return CallRequest(
        role="captioner",
        messages=[{"role": "user", "content": content}],
        media=media,
        schema=json_schema(ClipAspects),
        schema_name="ClipAspects",
        stage="captions",
        unit=f"video:{number}000-{number + 30}000",
    )


async def cpu_per_call(endpoint: EndpointSettings, folder: Path, requests: list[Any]) -> float:
    """Return CPU milliseconds a call of this process; connections are warm."""
    ledger = Ledger.open(folder)
    caller = Caller(
        {"captioner": endpoint},
        ledger,
        make_limits({"captioner": endpoint}),
        Budget(BudgetCaps(max_calls=10**9), ledger.totals()),
    )
    await caller.call(question(-1, pictures=False), ClipAspects.model_validate)
    spent = await least_cpu(lambda r: caller.call(r, ClipAspects.model_validate), requests)
    await caller.close()
    ledger.close()
    return spent


async def least_cpu(ask: Callable[[Any], Coroutine[Any, Any, Any]], requests: list[Any]) -> float:
    """Return CPU milliseconds a call in the batch that others on this machine disturbed least."""
    size = max(10, len(requests) // 10)
    costs: list[float] = []
    for at in range(0, len(requests), size):
        batch = requests[at : at + size]
        started = time.process_time()
        await asyncio.gather(*map(ask, batch))
        costs.append(1000 * (time.process_time() - started) / len(batch))
    return min(costs)


async def cpu_of_sdk(endpoint: EndpointSettings, requests: list[CallRequest]) -> float:
    """Return CPU milliseconds a call of the SDK alone, text only."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0)
    slots = asyncio.Semaphore(CONCURRENCY)

    async def ask(request: CallRequest) -> None:
        body = dress(request.messages, request.schema, request.schema_name, "json_schema")
        async with slots:
            await client.chat.completions.create(model=endpoint.model, seed=1, **body)

    await ask(question(-2, pictures=False))
    spent = await least_cpu(ask, requests)
    await client.close()
    return spent


async def commits_per_second(folder: Path, num_rows: int, at_once: int) -> tuple[float, float]:
    """Return rows a second that reach the disk, and CPU milliseconds a row."""
    ledger = Ledger.open(folder, f"bench-{at_once}")
    slots = asyncio.Semaphore(at_once)

    async def put(number: int) -> None:
        async with slots:
            await ledger.put(row(number))

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(put, range(num_rows)))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    ledger.close()
    return num_rows / seconds, 1000 * cpu / num_rows


def row(number: int) -> StoredCall:
    messages = [{"role": "user", "content": "Describe this stretch. " * 100}]
    return StoredCall(
        key=f"{number:032d}",
        endpoint="http://host/v1 model",
        model="model",
        stage="captions",
        unit=f"video:{number}",
        attempt=0,
        reask=0,
        step="json_schema",
        request={"messages": messages},
        body="x" * 2000,
        prompt_tokens=1000,
        completion_tokens=300,
        usd=0.001,
        seconds=1.0,
        tries=1,
    )


def measure(num_calls: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "hour_llava.cli", "synth", "mock-server"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        endpoint = EndpointSettings(
            base_url=url, model="mock-captioner", images=True, max_concurrency=CONCURRENCY
        )
        texts = [question(n, pictures=False) for n in range(num_calls)]
        seen = [question(n, pictures=True) for n in range(num_calls // 10)]
        results: dict[str, Any] = {
            "overhead_cpu_ms_text": asyncio.run(cpu_per_call(endpoint, folder / "a", texts)),
            "lookup_cpu_ms_text": asyncio.run(cpu_per_call(endpoint, folder / "a", texts)),
            "sdk_alone_cpu_ms_text": asyncio.run(cpu_of_sdk(endpoint, texts)),
            "overhead_cpu_ms_30_pictures": asyncio.run(cpu_per_call(endpoint, folder / "b", seen)),
        }
    finally:
        server.kill()
        server.communicate()
    for at_once in (1, 16, 64):
        rate, cpu = asyncio.run(commits_per_second(folder, min(2000, 60 * at_once), at_once))
        results[f"durable_rows_per_second_{at_once}_at_once"] = rate
        results[f"ledger_cpu_ms_{at_once}_at_once"] = cpu
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/calls.json")
    arguments = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory(prefix="hour-llava-bench-") as folder:
            runs.append(measure(arguments.calls, Path(folder)))
    result = {
        "calls": arguments.calls,
        "best": {
            name: (max if "per_second" in name else min)(run[name] for run in runs)
            for name in runs[0]
        },
        "runs": runs,
    }
    if arguments.record:
        keep_results(RESULTS, [result], origin("openai", "pydantic"), same=("calls",))
    print(json.dumps(result["best"], indent=2))


if __name__ == "__main__":
    main()
