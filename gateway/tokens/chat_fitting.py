"""What of a conversation is sent where not all of it fits, by a declared policy.

Pure, and as dear as what is counted: messages are dropped by sums. How tokens are counted is the counter's to say, what
fits is the caller's, and what the callers are told is decided in `dispatch/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.tokens.chats import count_chat, text_of
from gateway.tokens.counters import Counter
from gateway.tokens.exchanges import exchanges, is_instruction, role_of, rounds
from gateway.tokens.middles import Text, most_left_out, shorten
from gateway.tokens.outcomes import ChatPolicy, DoesNotFit, FittedChat
from gateway.tokens.prompt_fitting import fit_prompts

_RESULTS = frozenset({"tool", "function"})


def fit_chat(body: Mapping[str, Any], limit: int, policy: ChatPolicy, counter: Counter) -> FittedChat:
    """Return a body with at most `limit` tokens by the counter's own count: the given one, itself, where it fits.

    `drop_oldest` leaves out the oldest exchanges, whole; then it cuts texts of the last one, and where that would not be
    enough leaves out its oldest calls of tools with their results. `middle` leaves out no message and cuts the longest texts. Images, tools and schemas are never cut. The given body is never changed, and shares with the
    new one what was not cut. To fit with another limit, begin with the given body again: marks of earlier cuts are texts.
    Raises DoesNotFit.
    """
    counted = count_chat(body, counter)
    before = counted.total
    if before <= limit:
        return FittedChat(body, before, before)
    if policy == "refuse":
        raise DoesNotFit(before, before, limit)
    if counted.apart:
        return fit_prompts(body, counted, limit, policy, counter)
    messages: Sequence[Any] = body["messages"]
    if policy == "drop_oldest":
        dropped, cuttable = _oldest(messages, counted.messages, before - limit, counter)
    else:
        every = range(len(messages))
        dropped, cuttable = frozenset(), _kinds(messages, every, (_is_no_instruction, is_instruction), counter)
    total = before - sum(counted.messages[place] for place in dropped)
    cut = _shorten(cuttable, total - limit, counter)
    total -= sum(given.tokens - shorter.tokens for given, shorter in cut)
    if total > limit:
        raise DoesNotFit(before, total, limit)
    return FittedChat({**body, "messages": _without(messages, dropped, cut)}, before, total)


def _oldest(
    messages: Sequence[Any], counts: Sequence[int], over: int, counter: Counter
) -> tuple[frozenset[int], list[list[Text]]]:
    """Return the places of the messages that are left out, as few as suffice, and the texts that may be cut then."""
    found = exchanges(messages)
    dropped: list[int] = []
    for exchange in found[:-1]:
        if over <= 0:
            break
        dropped.extend(exchange)
        over -= sum(counts[place] for place in exchange)
    if over <= 0 or not found:
        return frozenset(dropped), []
    last, meant = found[-1], (_is_result, _is_user, _is_other)
    cuttable = _kinds(messages, last, meant, counter)
    if sum(map(most_left_out, cuttable)) >= over:
        return frozenset(dropped), cuttable
    for old in rounds(messages, last):
        if over <= 0:
            break
        dropped.extend(old)
        over -= sum(counts[place] for place in old)
    left = frozenset(dropped)
    return left, _kinds(messages, [place for place in last if place not in left], meant, counter)


def _kinds(
    messages: Sequence[Any], places: Sequence[int], kinds: Iterable[Callable[[Any], bool]], counter: Counter
) -> list[list[Text]]:
    """Return the texts of messages in the order in which they are cut, those of the first kind first."""
    return [list(_texts(messages, places, is_meant, counter)) for is_meant in kinds]


def _texts(
    messages: Sequence[Any], places: Iterable[int], is_meant: Callable[[Any], bool], counter: Counter
) -> Iterator[Text]:
    """Yield the texts of the messages that are meant."""
    for place in places:
        message = messages[place]
        if not isinstance(message, dict) or not is_meant(message):
            continue
        content = message.get("content")
        if isinstance(content, str):
            yield Text(place, None, content, counter.count(content))
        for index, part in enumerate(content if isinstance(content, list) else ()):
            text = text_of(part)
            if text is not None:
                yield Text(place, index, text, counter.count(text))


def _shorten(kinds: Sequence[Sequence[Text]], over: int, counter: Counter) -> list[tuple[Text, Text]]:
    """Return the texts that are cut and what is left of them; those of the first kind first, then those of the next.

    Nothing is cut where all of it would not be enough; the second of each pair then has as few tokens as it could have.
    """
    if over <= 0:
        return []
    if sum(map(most_left_out, kinds)) < over:
        return [(each, each.at_its_shortest()) for texts in kinds for each in texts]
    cut: list[tuple[Text, Text]] = []
    for texts in kinds:
        shortened = shorten(texts, over, counter)
        over -= sum(given.tokens - shorter.tokens for given, shorter in shortened)
        cut.extend(shortened)
    return cut


def _without(messages: Sequence[Any], dropped: frozenset[int], cut: Sequence[tuple[Text, Text]]) -> list[Any]:
    """Return the messages that are left; those that were cut are new, and so are their parts."""
    left = {place: message for place, message in enumerate(messages) if place not in dropped}
    for _, shorter in cut:
        message = left[shorter.message]
        if shorter.part is None:
            content: Any = shorter.text
        else:
            content = list(message["content"])
            content[shorter.part] = {**content[shorter.part], "text": shorter.text}
        left[shorter.message] = {**message, "content": content}
    return list(left.values())


def _is_result(message: Any) -> bool:
    return role_of(message) in _RESULTS


def _is_user(message: Any) -> bool:
    return role_of(message) == "user"


def _is_other(message: Any) -> bool:
    return not (_is_result(message) or _is_user(message))


def _is_no_instruction(message: Any) -> bool:
    return not is_instruction(message)
