"""Which cases there are for a configuration: alias × form of request × fault × who has it, and what may be expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.chaos.configuring import ProviderEntry
from gateway.chaos.faults import Fault
from gateway.chaos.sound import Form
from gateway.providers import HostedSettings, LlamaCppSettings
from gateway.routing import Deployment, Route

EVERYBODY = "all"
_AS_FALLBACK, _EVERY_FALLBACK = " as fallback", "all fallbacks"


@dataclass(frozen=True, slots=True)
class Case:
    """One fault of one or all deployments of an alias.

    `where` is the deployment that was meant, or `all`; `broken` are all that have the fault, by `provider/model`;
    `failing` are those that simply fail when they are asked instead, because of the fault. `survivable` says that a sound
    deployment could answer. `deployments` are all that may be asked, `first` before the others and `fallback` before
    other fallbacks; `most_attempts` is how often, as one may stand in several places.
    """

    alias: str
    form: Form
    fault: Fault
    where: str
    broken: frozenset[str]
    survivable: bool
    deployments: tuple[str, ...]
    most_attempts: int
    failing: frozenset[str] = frozenset()
    first: str = ""
    fallback: str = ""

    @property
    def turn(self) -> frozenset[str]:
        """Return those of whom one must be asked, or the case shows nothing."""
        return self.failing or self.broken


@dataclass(frozen=True, slots=True)
class Field:
    """What the cases are made from: the routes, each provider's entry in the configuration and the host it is on."""

    routes: Sequence[Route]
    providers: Mapping[str, ProviderEntry]
    hosts: Mapping[str, str]

    def form_of(self, route: Route) -> tuple[Form, ...]:
        """Return the forms of request that an alias is asked in; what a model is for is known by class or by name."""
        first = route.deployments[0]
        classes = {route.alias, *self._classes(first)}
        if "embedding" in classes or "embed" in first.model.lower():
            return ("embeddings",)
        if "image" in classes or any(word in first.model.lower() for word in ("image", "dall-e")):
            return ("images",)
        return ("chat", "stream")

    def is_local(self, deployment: Deployment) -> bool:
        return isinstance(self.providers[_provider(deployment)], LlamaCppSettings)

    def hit(self, fault: Fault, target: Deployment, among: Iterable[Deployment]) -> frozenset[str]:
        """Return the names of those that have the fault when `target` has it."""
        if fault.reach == "deployment":
            return frozenset({target.name})
        return frozenset(each.name for each in among if not self.is_local(each) and self._share(fault, target, each))

    def _share(self, fault: Fault, one: Deployment, other: Deployment) -> bool:
        if fault.reach == "account":
            return one.account == other.account
        return self.hosts[_provider(one)] == self.hosts[_provider(other)]

    def _classes(self, deployment: Deployment) -> Iterator[str]:
        entry = self.providers[_provider(deployment)]
        if isinstance(entry, HostedSettings):
            yield from (name for name, model in entry.classes.items() if model == deployment.model)
        elif (local := entry.models.get(deployment.model)) is not None:
            yield from local.classes
            yield from ("embedding",) if local.embedding else ()


def candidates(route: Route, form: Form) -> tuple[Deployment, ...]:
    """Return the different deployments that may answer: of embeddings only those whose vectors are in one space."""
    deployments = (route.in_one_space if form == "embeddings" else route).deployments
    return tuple({each.name: each for each in deployments}.values())


def cases(field: Field, faults: Sequence[Fault]) -> Iterator[Case]:
    """Yield every case: each deployment in turn, then all of them."""
    for route in field.routes:
        for form in field.form_of(route):
            for fault in faults:
                if form in fault.forms:
                    yield from _of(field, route, form, fault)


def _of(field: Field, route: Route, form: Form, fault: Fault) -> Iterator[Case]:
    among = candidates(route, form)
    names = tuple(each.name for each in among)
    instead = tuple(dict.fromkeys(each.name for each in _asked_instead(route, form, fault)))
    # A model on this machine has no key that could be refused and no host that could be away.
    targets = [each for each in among if fault.reach == "deployment" or not field.is_local(each)]
    wheres: dict[frozenset[str], str] = {}  # those that share what is broken are one case
    for target in targets:
        wheres.setdefault(field.hit(fault, target, among), target.name)
    if targets:
        wheres.setdefault(frozenset(each.name for each in targets), EVERYBODY)
    for broken, where in wheres.items():
        yield Case(
            alias=route.alias,
            form=form,
            fault=fault,
            where=where,
            broken=broken,
            survivable=broken < frozenset(names) if fault.outlook == "answer" else _is_answered(instead, broken),
            deployments=tuple(dict.fromkeys(names + instead)),
            most_attempts=_most_attempts(route, form, fault),
            first="" if where == EVERYBODY else where,
        )
    yield from _of_fallbacks(route, form, fault, names, instead)


def _asked_instead(route: Route, form: Form, fault: Fault) -> tuple[Deployment, ...]:
    """Return those that are asked instead because of what `fault` says of the request."""
    asked = route.in_one_space if form == "embeddings" else route
    other = {"larger": asked.larger, "unfiltered": asked.unfiltered}.get(fault.instead or "")
    return () if other is None else other.deployments


def _most_attempts(route: Route, form: Form, fault: Fault) -> int:
    asked = route.in_one_space if form == "embeddings" else route
    return len(asked.deployments) + len(_asked_instead(route, form, fault))


def _is_answered(instead: tuple[str, ...], broken: frozenset[str]) -> bool:
    # One that says the same of the request ends the search.
    return bool(instead) and instead[0] not in broken


def _of_fallbacks(
    route: Route, form: Form, fault: Fault, names: tuple[str, ...], instead: tuple[str, ...]
) -> Iterator[Case]:
    """Yield the cases in which those fail that are asked instead: each in turn, then all of them."""
    turns = {name + _AS_FALLBACK: frozenset({name}) for name in instead}
    if len(instead) > 1:
        turns[_EVERY_FALLBACK] = frozenset(instead)
    for where, failing in turns.items():
        first = next((name for name in names if name not in failing), None)
        if first is None:
            continue  # it cannot both say that the request is wrong and fail
        broken = frozenset({first})
        yield Case(
            alias=route.alias,
            form=form,
            fault=fault,
            where=where,
            broken=broken,
            survivable=_is_answered(tuple(name for name in instead if name not in failing), broken),
            deployments=tuple(dict.fromkeys(names + instead)),
            most_attempts=_most_attempts(route, form, fault),
            failing=failing,
            first=first,
            fallback=where.removesuffix(_AS_FALLBACK),
        )


def _provider(deployment: Deployment) -> str:
    return deployment.provider.name
