"""One call from question to answer: asked once, paid once, kept before it is read.

    key -> ledger has it? read it
        -> else reserve budget, then up to six tries: permit -> HTTP -> ledger
        -> guards, schema; an unusable answer is asked again, twice, each under its own key

So a build that was killed and runs again reads what it has paid for, faults included, and pays
only for what was under way.
"""

from __future__ import annotations

import asyncio
import random
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from hour_llava.errors import EndpointError
from hour_llava.videomarathon.calls.budget import BudgetLike
from hour_llava.videomarathon.calls.client import Client, TryError, explain_fatal, wire_messages
from hour_llava.videomarathon.calls.guards import Answer, ContentError, read_answer, read_object
from hour_llava.videomarathon.calls.keys import call_key
from hour_llava.videomarathon.calls.ladder import Ladder, Step, dress, next_step
from hour_llava.videomarathon.calls.ledger import Ledger, StoredCall
from hour_llava.videomarathon.calls.limits import LimitsLike, Outcome, endpoint_id
from hour_llava.videomarathon.calls.prices import Price, price_of
from hour_llava.videomarathon.calls.request import CallRequest, CallResult, ContentFault, Sampling
from hour_llava.videomarathon.calls.tokens import count_messages, count_text
from hour_llava.videomarathon.stage import Role, UnitError

if TYPE_CHECKING:
    from hour_llava.videomarathon.settings import EndpointSettings

DEFAULT_REASKS = 2
_REASK_TEMPERATURE = 0.5  # the same question to a greedy model gives the same answer
_LONGEST_FACTOR = 4  # an answer cut at max_tokens gets twice the room, then four times
_ESTIMATE_MARGIN = 1.5  # a reservation's prompt tokens are an estimate

Validate = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How transient failures are retried: full jitter, doubling up to a cap.

    Args:
        tries: HTTP requests for one answer, at most.
        base_seconds: The first wait is between 0 and this.
        max_seconds: No wait is longer; Retry-After is the limits' affair and comes on top.
    """

    tries: int = 6
    base_seconds: float = 1.0
    max_seconds: float = 60.0


@dataclass(frozen=True, kw_only=True)
class _Target:
    """An endpoint with what is derived from it."""

    settings: EndpointSettings
    id: str
    price: Price | None
    client: Client


@dataclass(frozen=True, kw_only=True)
class _Purchase:
    """One question, ready to be asked."""

    request: CallRequest
    target: _Target
    sampling: Sampling
    key: str
    reask: int
    last_fault: ContentFault | None


class Caller:
    """Asks endpoints; one a process and event loop, over limits and a budget that are shared.

    Args:
        endpoints: By role.
        ledger: This process's.
        limits: `Limits`, or a proxy to one elsewhere.
        budget: `Budget`, or a proxy.
        max_reasks: How often an unusable answer is asked again; a `retry` of failed units raises
            it: what is in the ledger is read for nothing.
        retry: Of transient failures.
    """

    def __init__(
        self,
        endpoints: Mapping[Role, EndpointSettings],
        ledger: Ledger,
        limits: LimitsLike,
        budget: BudgetLike,
        *,
        max_reasks: int = DEFAULT_REASKS,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._ledger = ledger
        self._limits = limits
        self._budget = budget
        self._max_reasks = max_reasks
        self._retry = retry or RetryPolicy()
        self._ladder = Ladder(ledger)
        self._targets: dict[Role, _Target] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def call(self, request: CallRequest, validate: Validate | None = None) -> CallResult:
        """Return a usable answer, from the ledger or from the endpoint.

        Args:
            request: The question.
            validate: Raises ValueError where an answer does not fit; pydantic's `model_validate`.

        Raises:
            UnitError: no usable answer ("content"), or none at all after all tries ("transient").
            EndpointError: the endpoint serves nobody: wrong key, no model, no images, down.
            BudgetError: what may be spent is spent.
            ResourceError: the answer could not be kept.
        """
        target = self._target(request)
        fault: ContentError | None = None
        factor = 1
        for reask in range(self._max_reasks + 1):
            if fault is not None and fault.fault == "length":
                factor = min(2 * factor, _LONGEST_FACTOR)
            sampling = _sampling(target.settings, request.attempt, reask, factor)
            purchase = _Purchase(
                request=request,
                target=target,
                sampling=sampling,
                key=call_key(request, model=target.settings.model, sampling=sampling, reask=reask),
                reask=reask,
                last_fault=fault.fault if fault else None,
            )
            try:
                return await self._ask_once(purchase, validate)
            except ContentError as error:
                fault = error
        raise _no_answer(request, target, fault, self._max_reasks + 1)

    async def close(self) -> None:
        """Close the connections; the ledger stays open."""
        for target in self._targets.values():
            await target.client.close()
        self._targets.clear()

    def _target(self, request: CallRequest) -> _Target:
        settings = self._endpoints.get(request.role)
        if settings is None:
            raise EndpointError(
                f"no endpoint for the {request.role}; add [endpoints.{request.role}] to build.toml"
            )
        name = endpoint_id(settings)
        if request.media and not settings.images:
            raise EndpointError(
                f"{name}: its settings say images = false, but the {request.role} is shown "
                "pictures; give it a model that sees, and images = true, in build.toml"
            )
        if request.role not in self._targets:
            self._targets[request.role] = _Target(
                settings=settings, id=name, price=price_of(settings), client=Client(settings)
            )
        return self._targets[request.role]

    async def _ask_once(self, purchase: _Purchase, validate: Validate | None) -> CallResult:
        # Two units may ask the same (two black clips): the second waits, and reads.
        lock = self._locks.setdefault(purchase.key, asyncio.Lock())
        async with lock:
            stored = self._find(purchase)
            is_paid_now = stored is None
            if stored is None:
                async with self._ladder.asking(purchase.target.id):
                    stored = await self._buy(purchase)
        return _read(stored, purchase, validate, is_paid_now=is_paid_now)

    def _find(self, purchase: _Purchase) -> StoredCall | None:
        stored = self._ledger.lookup(purchase.key)
        if stored is None or _other_model(stored.body, purchase.target.settings.model):
            return None  # paid for, but of no use now that the endpoint may be repaired
        return stored

    async def _buy(self, purchase: _Purchase) -> StoredCall:
        """Reserve what it may cost, ask, keep the answer, count what it did cost."""
        target = purchase.target
        num_prompt = round(
            _ESTIMATE_MARGIN * count_messages(purchase.request.messages, purchase.request.media)
        )
        tokens = purchase.sampling.max_tokens + num_prompt
        usd = target.price and target.price.usd(
            prompt_tokens=num_prompt, completion_tokens=purchase.sampling.max_tokens
        )
        ticket = await self._budget.reserve(usd, tokens)
        stored: StoredCall | None = None
        try:
            stored = await self._try_all(purchase)
            return stored
        finally:
            if stored is None:
                await self._budget.refund(ticket)
            else:
                paid = stored.prompt_tokens + stored.completion_tokens
                await self._budget.settle(ticket, stored.usd, paid)

    async def _try_all(self, purchase: _Purchase) -> StoredCall:
        target, tries = purchase.target, 0
        step: Step | None = None
        while True:
            step = step or self._first_step(purchase)
            tries += 1
            try:
                return await self._try(purchase, step, tries)
            except TryError as failure:
                if failure.kind in ("pressed", "failed"):
                    if tries >= self._retry.tries:
                        raise _unit_error(
                            purchase, f"no answer in {tries} tries", failure
                        ) from None
                    await asyncio.sleep(self._wait_seconds(tries))
                    continue
                if await self._can_step_down(purchase, failure, step):
                    tries -= 1  # a refused form is no failed try
                    step = None if step == self._ladder.step(target.id) else next_step(step)
                    continue
                self._explain(purchase, failure)

    def _first_step(self, purchase: _Purchase) -> Step:
        step = self._ladder.step(purchase.target.id)
        # Blanks without end come from the server's grammar: ask this one without it.
        is_grammar = purchase.last_fault == "whitespace" and step == "json_schema"
        return next_step(step) if is_grammar else step

    async def _can_step_down(self, purchase: _Purchase, failure: TryError, step: Step) -> bool:
        is_form = failure.kind == "format"
        is_strange = failure.kind == "bad" and not self._ladder.is_known(purchase.target.id)
        return (is_form or is_strange) and await self._ladder.step_down(purchase.target.id, step)

    async def _try(self, purchase: _Purchase, step: Step, tries: int) -> StoredCall:
        """Make one HTTP request under a permit and keep what comes."""
        request, target = purchase.request, purchase.target
        body = _body(purchase, step)
        headers = {
            "X-Hour-Llava-Stage": request.stage,
            "X-Hour-Llava-Unit": request.unit,
            "X-Hour-Llava-Attempt": str(request.attempt),
        }
        permit = await self._limits.acquire(target.id)
        outcome: Outcome = "cancelled"
        message, retry_after = "", None
        try:
            started = time.monotonic()
            text = await target.client.send(body, headers)
            stored = _stored(purchase, step, text, tries, time.monotonic() - started)
            await self._ledger.put(stored)
            outcome = "answered"
            if (other := _other_model(text, target.settings.model)) is not None:
                outcome, message = "fatal", _wrong_model(target, other)
                raise EndpointError(message)
        except TryError as failure:
            outcome, message, retry_after = _outcome(failure, target, request)
            raise
        finally:
            await self._limits.release(target.id, permit, outcome, retry_after, message)
        await self._ladder.confirm(target.id, step)
        return stored

    def _wait_seconds(self, tries: int) -> float:
        longest = min(self._retry.max_seconds, self._retry.base_seconds * 2 ** (tries - 1))
        return random.uniform(0, longest)

    def _explain(self, purchase: _Purchase, failure: TryError) -> NoReturn:
        """Raise what a failure that no retry mends means for the user."""
        target, request = purchase.target, purchase.request
        if failure.kind == "fatal":
            raise EndpointError(explain_fatal(failure, target.settings, target.id)) from None
        if failure.kind == "images":
            raise EndpointError(_no_images(target, request, failure)) from None
        if failure.kind == "bad" and not self._ladder.is_known(target.id):
            raise EndpointError(
                f"{target.id}: refuses every request ({failure}); compare its settings in "
                "build.toml with the server's documentation, then run again"
            ) from None
        if failure.kind == "refusal":
            raise ContentError("refusal", str(failure)) from None
        raise UnitError(_unit_line(purchase, "refused", failure), failure="content") from None


def _sampling(settings: EndpointSettings, attempt: int, reask: int, factor: int) -> Sampling:
    is_again = attempt + reask > 0
    return Sampling(
        max_tokens=settings.max_tokens * factor,
        temperature=max(settings.temperature, _REASK_TEMPERATURE)
        if is_again
        else settings.temperature,
        seed=None if settings.seed is None else settings.seed + 1000 * attempt + reask,
        extra_body=dict(settings.extra_body),
    )


def _body(purchase: _Purchase, step: Step) -> dict[str, Any]:
    request, sampling = purchase.request, purchase.sampling
    body: dict[str, Any] = {
        "model": purchase.target.settings.model,
        **dress(request.messages, request.schema, request.schema_name, step),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
    }
    body["messages"] = wire_messages(body["messages"], request.media)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    return body | dict(sampling.extra_body)


def _stored(purchase: _Purchase, step: Step, text: str, tries: int, seconds: float) -> StoredCall:
    request, target = purchase.request, purchase.target
    prompt, completion = _usage(text, request)
    usd = target.price and target.price.usd(prompt_tokens=prompt, completion_tokens=completion)
    return StoredCall(
        key=purchase.key,
        endpoint=target.id,
        model=target.settings.model,
        stage=request.stage,
        unit=request.unit,
        attempt=request.attempt,
        reask=purchase.reask,
        step=step,
        request={
            "messages": list(request.messages),
            "schema": request.schema,
            **asdict(purchase.sampling),
        },
        body=text,
        prompt_tokens=prompt,
        completion_tokens=completion,
        usd=usd,
        seconds=seconds,
        tries=tries,
    )


def _usage(text: str, request: CallRequest) -> tuple[int, int]:
    """Return the paid tokens; estimated where the server does not say."""
    try:
        answer = read_answer(text)
    except ContentError:
        return count_messages(request.messages, request.media), count_text(text)
    prompt, completion = answer.prompt_tokens, answer.completion_tokens
    if prompt is None:
        prompt = count_messages(request.messages, request.media)
    return prompt, count_text(answer.text) if completion is None else completion


def _read(
    stored: StoredCall, purchase: _Purchase, validate: Validate | None, *, is_paid_now: bool
) -> CallResult:
    answer: Answer = read_answer(stored.body)
    parsed = read_object(answer)
    if validate is not None:
        try:
            validate(parsed)
        except ValueError as error:
            detail = " ".join(str(error).split())[:200]
            raise ContentError("schema", f"does not fit the schema: {detail}") from error
    return CallResult(
        key=stored.key,
        model=answer.model or purchase.target.settings.model,
        text=answer.text,
        parsed=parsed,
        is_mock=answer.is_mock,
        is_paid_now=is_paid_now,
        prompt_tokens=stored.prompt_tokens,
        completion_tokens=stored.completion_tokens,
    )


def _other_model(body: str, asked: str) -> str | None:
    """Return the model that answered, where it is not the one that was asked."""
    try:
        said = read_answer(body).model
    except ContentError:
        return None
    given, wanted = (name.casefold().rstrip("/").rpartition("/")[2] for name in (said, asked))
    # A dated name (model-2026-08-13) is the same model.
    is_same = not given or given.startswith(wanted) or wanted.startswith(given)
    return None if is_same else said


def _wrong_model(target: _Target, other: str) -> str:
    return (
        f"{target.id}: {other!r} answered instead; its rows would name the wrong model: set "
        f"model = {other!r} in build.toml if that is meant, or mend the server, then run again"
    )


def _no_images(target: _Target, request: CallRequest, failure: TryError) -> str:
    return (
        f"{target.id}: takes no images ({failure}); the {request.role} needs a model that sees "
        "(Qwen2.5-VL, for one): change it in build.toml, then run again"
    )


def _outcome(
    failure: TryError, target: _Target, request: CallRequest
) -> tuple[Outcome, str, float | None]:
    """Say to the limits how a failed request went."""
    if failure.kind == "fatal":
        return "fatal", explain_fatal(failure, target.settings, target.id), None
    if failure.kind == "images":
        return "fatal", _no_images(target, request, failure), None
    if failure.kind in ("pressed", "failed"):
        outcome: Outcome = "pressed" if failure.kind == "pressed" else "failed"
        return outcome, str(failure), failure.retry_after
    return "refused", "", None


def _unit_line(purchase: _Purchase, what: str, failure: TryError) -> str:
    request = purchase.request
    return f"{request.stage} {request.unit}: {purchase.target.id}: {what} ({failure})"


def _unit_error(purchase: _Purchase, what: str, failure: TryError) -> UnitError:
    return UnitError(_unit_line(purchase, what, failure), failure="transient")


def _no_answer(
    request: CallRequest, target: _Target, fault: ContentError | None, num_asked: int
) -> UnitError:
    kind = fault.fault if fault else "empty"
    return UnitError(
        f"{request.stage} {request.unit}: {target.id} gave no usable answer when asked {num_asked} "
        f"times; the last: {kind}, {fault}",
        failure="content",
    )
