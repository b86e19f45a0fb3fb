"""What the stages of one process share: the backends, who answers which request, the pictures."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hour_llava.videomarathon.build import Build
from hour_llava.videomarathon.calls.budget import BudgetLike
from hour_llava.videomarathon.calls.caller import DEFAULT_REASKS, Caller
from hour_llava.videomarathon.calls.ledger import Ledger
from hour_llava.videomarathon.calls.limits import LimitsLike
from hour_llava.videomarathon.frames import FrameServer
from hour_llava.videomarathon.stage import Reply, Request, Tools, UnitError

CALLS = "calls"
_KEPT_TRUTHS = 16


class Backend(Protocol):
    """Answers requests."""

    async def answer(self, request: Request) -> Reply: ...


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all processes of a run share, or proxies to it."""

    limits: LimitsLike
    budget: BudgetLike


class Toolbox:
    """The tools of one process and event loop; close it.

    Args:
        build: The build.
        shared: Limits and budget; None where no call can come.
        writer: Names this process's ledger.
        num_decoders: Videos decoded at once.
        retries: How often `synth retry` has been asked for: each time as many answers more.
    """

    def __init__(
        self,
        build: Build,
        *,
        shared: Shared | None,
        writer: str = "local",
        num_decoders: int | None = None,
        retries: int = 0,
    ) -> None:
        self._build = build
        self._ledger: Ledger | None = None
        self._caller: Caller | None = None
        self._endpoint: Backend | None = None
        self._embedded: Backend | None = None
        self._truths: dict[str, Backend] = {}
        endpoints = build.settings.endpoints.by_role()
        if shared is not None and endpoints:
            from hour_llava.videomarathon.backends.endpoint import EndpointBackend

            self._ledger = Ledger.open(build.folder / CALLS, writer=writer)
            self._caller = Caller(
                endpoints,
                self._ledger,
                shared.limits,
                shared.budget,
                max_reasks=DEFAULT_REASKS + (DEFAULT_REASKS + 1) * retries,
            )
            self._endpoint = EndpointBackend(self._caller)
        self.frames = FrameServer(
            build.source,
            build.folder / "cache",
            side=build.settings.frame_side,
            num_decoders=num_decoders or os.cpu_count() or 1,
        )
        self.tools = Tools(ask=self._ask, frames=self.frames, retries=retries)

    def expect_clips(self, num_clips: Mapping[str, int]) -> None:
        """Say how many clips of each video will be captioned."""
        self.frames.expect(num_clips)

    async def close(self) -> None:
        """Stop decoding, close connections, write what the ledger still holds."""
        await self.frames.close()
        if self._caller is not None:
            await self._caller.close()
        if self._ledger is not None:
            await asyncio.to_thread(self._ledger.close)

    async def _ask(self, request: Request) -> Reply:
        return await self._backend(request).answer(request)

    def _backend(self, request: Request) -> Backend:
        video = request.video
        if request.role in ("judge", "blind") or video.backend in ("endpoint", "mock"):
            if self._endpoint is None:
                raise UnitError(
                    f"{request.stage} {request.unit}: no endpoint for the {request.role}; add "
                    f"[endpoints.{request.role}] to build.toml",
                    failure="input",
                )
            return self._endpoint
        if video.backend == "truth" and video.truth_path is not None:
            return self._truth(video.truth_path)
        if self._embedded is None:
            from hour_llava.videomarathon.backends.embedded import EmbeddedBackend

            self._embedded = EmbeddedBackend(self._build.source)
        return self._embedded

    def _truth(self, path: str) -> Backend:
        from hour_llava.videomarathon.backends.truth import TruthBackend

        if path not in self._truths:
            while len(self._truths) >= _KEPT_TRUTHS:
                self._truths.pop(next(iter(self._truths)))
            self._truths[path] = TruthBackend(self._build.source / path)
        return self._truths[path]
