"""`hour-llava synth mock-server`: a model endpoint that costs nothing, with faults on request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from hour_llava.commands.terminal import say
from hour_llava.errors import HourLlavaError

if TYPE_CHECKING:
    from hour_llava.videomarathon.mock_server import Responder


def mock_server(
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    truth: Path | None = None,
    fault: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    first: tuple[str, ...] = (),
    seed: int = 0,
    retry_after: float = 1.0,
    latency_ms: float = 0.0,
    key_env: str | None = None,
    strict_models: bool = False,
) -> None:
    """Play an OpenAI-compatible endpoint; prints its base URL, serves until Ctrl-C.

    It has the models mock-captioner (sees pictures) and mock-llm. Rows made with it are marked
    `mock` and are never sealed as training data.

    Args:
        port: 0 takes a free one
        host: the address to listen at
        truth: a folder of videos with truth files, whose facts it then answers from
        fault: NAME:RATE, such as 429:0.1; a name alone always strikes; may be given
            several times. Names: 429 500 503 hang cut
            broken truncated empty whitespace loop refusal not_json wrong_schema no_json_schema
            no_json_object wrong_model no_images 400 401 404
        first: faults, or ok, of the first requests in the order of arrival
        seed: another seed, other requests that are struck
        retry_after: seconds, in the 429's header
        latency_ms: what every answer takes
        key_env: the environment variable with the key that requests must carry
        strict_models: answer 404 to any other model's name; without it every name is taken
    """
    try:
        from hour_llava.videomarathon.mock_server import (
            MockServer,
            MockSettings,
            check_fault,
            read_faults,
            serve,
        )
    except ImportError as error:
        raise HourLlavaError(
            f"the mock server needs starlette and uvicorn ({error}); "
            "pip install 'hour-llava[synth]'"
        ) from error
    settings = MockSettings(
        faults=read_faults(fault),
        script=tuple(map(check_fault, first)),
        seed=seed,
        retry_after=retry_after,
        latency_seconds=latency_ms / 1000,
        key=_key(key_env),
        is_strict=strict_models,
    )

    def ready(url: str) -> None:
        print(url, flush=True)
        say(f"mock server at {url}; models mock-captioner, mock-llm; Ctrl-C ends it")

    serve(MockServer(settings, _truth_answers(truth)), host=host, port=port, ready=ready)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise HourLlavaError(f"--key-env {variable}: this environment variable is not set")
    return key


def _truth_answers(folder: Path | None) -> Responder | None:
    if folder is None:
        return None
    from hour_llava.videomarathon.mock_truth import TruthAnswers

    return TruthAnswers(folder).answer
