"""What the configuration may say of an alias: its deployments, their order and their patience."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from gateway.call import Endpoint
from gateway.providers import BatchInputs, BatchTokens, ModelFacts, TokenField

PLAIN_ANSWER_SECONDS = 600.0  # as long as OpenAI's clients wait
SHORTEST_PLAIN_ANSWER_SECONDS = 120.0  # long answers take as long
Seconds = Annotated[float, Field(gt=0, le=86_400)]


StrategyName = Literal["priority", "weighted", "least_busy", "lowest_latency"]
Truncation = Literal["drop_oldest", "middle", "refuse", "none", "end", "mean_pool"]
ChatTruncation = Literal["drop_oldest", "middle", "refuse"]
EmbeddingTruncation = Literal["none", "end", "mean_pool"]
CHAT_TRUNCATIONS: tuple[ChatTruncation, ...] = get_args(ChatTruncation)
EMBEDDING_TRUNCATIONS: tuple[EmbeddingTruncation, ...] = get_args(EmbeddingTruncation)


class RoutingSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TimeoutSettings(RoutingSettings):
    """The patience of one attempt."""

    connect_seconds: Seconds = 5.0
    first_event_seconds: Annotated[Seconds, Field(description="Until the first event of a stream.")] = 60.0
    plain_answer_seconds: Annotated[
        Seconds | None,
        Field(
            description="Until a plain answer begins, which for most upstreams is when it is whole; "
            "default: first_event_seconds where that is given, else 600 in all for the deployments of a route."
        ),
    ] = None
    between_events_seconds: Annotated[Seconds, Field(description="The longest silence within a stream.")] = 60.0
    total_seconds: Annotated[Seconds, Field(description="From asking to the last byte of the answer.")] = 1800.0

    def begin_seconds(self, *, stream: bool) -> float:
        """Return how long an answer may take to begin."""
        if not stream and self.plain_answer_seconds is not None:
            return self.plain_answer_seconds
        if stream or "first_event_seconds" in self.model_fields_set:
            return self.first_event_seconds
        return PLAIN_ANSWER_SECONDS

    def shared_by(self, deployments: int) -> TimeoutSettings:
        """Return what each of so many deployments may take, so that the last is asked while callers still wait."""
        is_told = self.plain_answer_seconds is not None or "first_event_seconds" in self.model_fields_set
        if is_told or deployments < 2:
            return self
        share = max(SHORTEST_PLAIN_ANSWER_SECONDS, PLAIN_ANSWER_SECONDS / deployments)
        return self.model_copy(update={"plain_answer_seconds": share})

    def with_overrides(self, other: TimeoutSettings | None) -> TimeoutSettings:
        """Return these timeouts with those that `other` was explicitly given."""
        if other is None:
            return self
        return self.model_copy(update={name: getattr(other, name) for name in other.model_fields_set})


class DeploymentSettings(RoutingSettings):
    """One provider and one upstream model; `provider/model` is its short form."""

    provider: Annotated[str, Field(min_length=1, description="A name from `providers`.")]
    model: Annotated[
        str, Field(min_length=1, description="The upstream's own name of the model, or a class of the provider.")
    ]
    context_window: Annotated[
        int | None,
        Field(
            ge=1, description="Tokens of request and answer together; what is longer is fitted as `truncation` says."
        ),
    ] = None
    max_output_tokens: Annotated[
        int | None, Field(ge=1, description="The longest answer; longer wishes are cut to it.")
    ] = None
    drop_params: Annotated[
        bool, Field(description="Leave out what the model cannot take, even if the caller sent it, and say so.")
    ] = False
    allowed_extra: Annotated[
        tuple[str, ...],
        Field(description="Fields beyond OpenAI's that callers may send to a provider of the wire litellm."),
    ] = ()
    weight: Annotated[
        float,
        Field(gt=0, description="Its share under the strategy `weighted`, its capacity under `least_busy`."),
    ] = 1.0
    settings: Annotated[
        dict[str, JsonValue], Field(description="Request fields sent when the caller left them out.")
    ] = {}
    dimensions: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="The numbers of each vector; an answer with others is asked for again with this `dimensions`, "
            "then taken from the next deployment.",
        ),
    ] = None
    max_batch_inputs: BatchInputs = None
    max_batch_tokens: BatchTokens = None
    revision: Annotated[
        str,
        Field(description="Change it when the model behind the name changes: remembered embeddings are then not used."),
    ] = ""
    timeouts: Annotated[
        TimeoutSettings | None, Field(description="What differs from the route's timeouts for this deployment.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _expand_short_form(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        provider, slash, model = value.partition("/")
        if not (provider and slash and model):
            raise ValueError("expected provider/model or a mapping with the keys provider and model")
        return {"provider": provider, "model": model}


class SpillSettings(RoutingSettings):
    """When a call goes past a local model that could answer it, to the next deployment."""

    queue: Annotated[int, Field(ge=0, le=10_000, description="As many or more calls wait for the model already.")]


class RouteSettings(RoutingSettings):
    """An alias's ordered deployments."""

    strategy: Annotated[
        StrategyName,
        Field(
            description="priority: in the order they stand here; weighted: at random by weight; least_busy: fewest "
            "running calls first; lowest_latency: whose answers began soonest lately."
        ),
    ] = "priority"
    deployments: Annotated[
        tuple[DeploymentSettings, ...], Field(min_length=1, description="Tried in turn until one answers.")
    ]
    context_fallbacks: Annotated[
        tuple[DeploymentSettings, ...],
        Field(description="Asked instead when the request is too long for the model that was asked."),
    ] = ()
    content_filter_fallbacks: Annotated[
        tuple[DeploymentSettings, ...],
        Field(description="Asked instead when a content filter refuses the request."),
    ] = ()
    spill: Annotated[
        SpillSettings | None,
        Field(
            description="When local models are passed over for the next deployment: their queue is this long, or they are "
            "not loaded. Default: calls wait for them."
        ),
    ] = None
    truncation: Annotated[
        Truncation | None,
        Field(
            description="What becomes of requests over the model's window. Where the alias embeds: none, they are refused; "
            "end, their end is cut off; mean_pool, their parts are embedded and the mean is taken (default: none). "
            "Of a chat: drop_oldest, its oldest exchanges are left out; middle, the middle of its longest texts; refuse "
            "(default: drop_oldest, after `context_fallbacks` where there are any)."
        ),
    ] = None
    timeouts: TimeoutSettings = TimeoutSettings()


class FailoverSettings(RoutingSettings):
    """When a deployment that fails is left alone, and for how long."""

    open_after_failures: Annotated[
        int, Field(ge=1, le=20, description="Failures in a row; half of the last 20 open the breaker too.")
    ] = 5
    first_rest_seconds: Annotated[
        Seconds, Field(description="The first rest; each that ends in another failure doubles the next.")
    ] = 1.0
    longest_rest_seconds: Annotated[Seconds, Field(description="No rest of an open breaker is longer.")] = 300.0
    retry_budget: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Attempts at deployments that just failed, for each call; 3 more are always there.",
        ),
    ] = 0.1


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """A deployment with every default filled in; `model` is the upstream's own name.

    `settings` fill in what a request leaves out, by endpoint. `refuses` are fields its model is known to refuse. Each
    vector has `dimensions` numbers, if that is known; one request has no more than `max_batch_inputs` inputs with
    `max_batch_tokens` tokens together. `revision` changes when the model behind the name does.
    """

    provider: str
    model: str
    settings: Mapping[Endpoint, Mapping[str, Any]]
    timeouts: TimeoutSettings
    facts: ModelFacts | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    token_field: TokenField | None = None
    refuses: frozenset[str] = frozenset()
    drop_params: bool = False
    allowed_extra: frozenset[str] = frozenset()
    weight: float = 1.0
    dimensions: int | None = None
    max_batch_inputs: int | None = None
    max_batch_tokens: int | None = None
    revision: str = ""


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """An alias with its deployments resolved; at a queue of `spill_queue` all but the last are passed over."""

    alias: str
    strategy: StrategyName
    deployments: tuple[DeploymentPlan, ...]
    context_fallbacks: tuple[DeploymentPlan, ...] = ()
    content_filter_fallbacks: tuple[DeploymentPlan, ...] = ()
    spill_queue: int | None = None
    truncation: Truncation | None = None

    @property
    def every_deployment(self) -> tuple[DeploymentPlan, ...]:
        """Return the deployments and those that are asked instead."""
        return (*self.deployments, *self.context_fallbacks, *self.content_filter_fallbacks)


@dataclass(frozen=True, slots=True)
class RoutingPlan:
    """Every route of the configuration; `direct` resolves names like `provider/model` or gives None.

    `missing` says of each class that nobody serves what would enable it. With `chooses`, `auto` stands for a class.
    """

    routes: Mapping[str, RoutePlan]
    direct: Callable[[str], RoutePlan | None]
    missing: Mapping[str, str] = field(default_factory=dict)
    chooses: bool = False
