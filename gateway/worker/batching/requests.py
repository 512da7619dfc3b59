"""From the body of a request to the sequences that the scheduler writes: everything is checked here, nothing left out.

Blocking and slow for long texts, so it runs in a thread of its own. What must not live here: the wire of answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from gateway.worker.batching.fields import (
    flag,
    limit_of,
    number,
    rated_of,
    refuse_foreign,
    sampling_of,
    stops_of,
)
from gateway.worker.batching.grammar import calls_to_grammar, form_field, grammar_of
from gateway.worker.batching.messages import (
    Abilities,
    Message,
    forced_tools,
    read_messages,
    read_tools,
    tagged_call,
)
from gateway.worker.batching.native import Vocabulary
from gateway.worker.batching.refusals import Refusal, too_long, unsupported
from gateway.worker.batching.sampling import GrammarError
from gateway.worker.batching.speech import THINK
from gateway.worker.batching.template import ChatTemplate
from gateway.worker.batching.work import Event, Sampling, Sequence
from gateway.worker.branching import MULTIPLIES, multiplies

Thinks = Literal["no", "maybe", "inside"]
MOST_PROMPTS = 64


@dataclass(frozen=True, slots=True)
class Manner:
    """How an answer is told: `choices` to each prompt, which follow one another.

    `echoes` are the prompts that completions begin with, one for each sequence or none.
    """

    is_chat: bool
    stream: bool
    with_usage: bool
    timed: bool
    choices: int
    thinks: Thinks = "no"
    calls: bool = False
    one_call: bool = False
    echoes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """A checked request: the sequences to write, whose sinks are not yet set, and how to tell them."""

    sequences: list[Sequence]
    manner: Manner


@dataclass(frozen=True, slots=True)
class Desk:
    """What it takes to read requests; `draw()` gives a seed, `check_grammar` raises GrammarError."""

    vocabulary: Vocabulary
    template: ChatTemplate | Refusal | None
    window: int
    slots: int
    draw: Callable[[], int]
    check_grammar: Callable[[str], None]

    def read_chat(self, body: Mapping[str, Any]) -> Job:
        """Return what a chat request asks for; raises Refusal."""
        refuse_foreign(body)
        template = self._chat_template()
        abilities = Abilities(template.source)
        messages = read_messages(body.get("messages"), abilities)
        tools = read_tools(body, abilities)
        self._refuse_far_too_long(sum(len(message["content"]) for message in messages))
        prompt = self._render(template, messages, tools, _template_names(body, abilities))
        grammar = self._chat_grammar(body, tools)
        sequences = self._sequences(body, [self._chat_tokens(prompt)], grammar)
        manner = Manner(
            is_chat=True,
            **_telling(body, len(sequences)),
            thinks=_thinks(body, prompt, abilities, grammar),
            calls=bool(tools),
            one_call=not flag(body, "parallel_tool_calls", default=True),
        )
        return Job(sequences, manner)

    def read_completion(self, body: Mapping[str, Any]) -> Job:
        """Return what a legacy completion asks for; raises Refusal."""
        refuse_foreign(body)
        prompts = _prompts(body.get("prompt"))
        suffix = body.get("suffix")
        if suffix and (len(prompts) > 1 or not isinstance(prompts[0], str)):
            raise Refusal("'suffix' needs one prompt that is text", param="suffix")
        for text in (*prompts, suffix):
            self._refuse_far_too_long(len(text) if isinstance(text, str) else 0)
        tokens = [self._around(prompt, suffix) if suffix else self._tokens(prompt) for prompt in prompts]
        sequences = self._sequences(body, tokens, grammar_of(body))
        choices = len(sequences) // len(prompts)
        echoes: tuple[str, ...] = ()
        if flag(body, "echo"):
            if body.get("logprobs") is not None:
                raise unsupported("echo", "'echo' together with 'logprobs' is not supported by this model.")
            echoes = tuple(self._text(prompt) for prompt in prompts for _ in range(choices))
        return Job(sequences, Manner(is_chat=False, **_telling(body, choices), echoes=echoes))

    def read_inputs(self, body: Mapping[str, Any]) -> list[list[int]]:
        """Return the token ids of each input of an embeddings request; raises Refusal."""
        given = body.get("input", body.get("content"))
        if given == []:
            raise Refusal('"input" must not be empty', param="input")
        if body.get("encoding_format") not in (None, "float", "base64"):
            raise Refusal(
                "The format to return the embeddings in. Can be either float or base64", param="encoding_format"
            )
        inputs = [self._tokens(one) for one in _prompts(given, most=1 << 16)]
        for tokens in inputs:
            if len(tokens) > self.window:
                raise too_long(len(tokens), self.window, "input")
        return inputs

    def read_text(self, body: Mapping[str, Any]) -> list[int]:
        """Return the token ids of the text in a request to take it apart; raises Refusal."""
        content = body.get("content")
        if not isinstance(content, str):
            raise Refusal("Field 'content': must be text", param="content")
        add, parse = flag(body, "add_special"), flag(body, "parse_special", default=True)
        return self.vocabulary.tokenize(content, add_special=add, parse_special=parse)

    # Prompts

    def _refuse_far_too_long(self, length: int) -> None:
        """Refuse what is too long whatever its tokens are, before any time is spent on it."""
        if length > self.window and length > self.window * self.vocabulary.longest():
            raise too_long(-(-length // self.vocabulary.longest()), self.window, is_least=True)

    def _chat_template(self) -> ChatTemplate:
        if isinstance(self.template, Refusal):
            raise self.template
        if self.template is None:
            raise unsupported("messages", "This model has no chat template; ask it by /v1/completions.")
        return self.template

    def _render(
        self, template: ChatTemplate, messages: list[Message], tools: list[Message], names: Mapping[str, Any]
    ) -> str:
        begun = messages[-1]["content"] if messages and messages[-1]["role"] == "assistant" else ""
        if begun and "tool_calls" not in messages[-1]:
            messages = messages[:-1]  # the model goes on with what the caller began
        else:
            begun = ""
        return template.render(messages, tools=tools or None, **names) + begun

    def _chat_tokens(self, prompt: str) -> list[int]:
        bos = self.vocabulary.special("bos") if self.vocabulary.adds_bos else None
        if bos is not None:
            prompt = prompt.removeprefix(self.vocabulary.piece(bos, special=True).decode("utf-8", "replace"))
        return self.vocabulary.tokenize(prompt, add_special=True, parse_special=True)

    def _tokens(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            tokens = self.vocabulary.tokenize(prompt, add_special=True, parse_special=True)
            bos = self.vocabulary.special("bos")
            return tokens or ([] if bos is None else [bos])
        if not all(0 <= token < self.vocabulary.size for token in prompt):
            raise Refusal("Prompt contains invalid tokens", param="prompt")
        return prompt

    def _text(self, prompt: str | list[int]) -> str:
        if isinstance(prompt, str):
            return prompt
        return b"".join(self.vocabulary.piece(token, special=True) for token in prompt).decode("utf-8", "replace")

    def _around(self, prefix: Any, suffix: Any) -> list[int]:
        marks = [self.vocabulary.special(name) for name in ("fim_pre", "fim_suf", "fim_mid")]
        if not isinstance(suffix, str):
            raise Refusal("Field 'suffix': must be text", param="suffix")
        if None in marks:
            raise unsupported("suffix", "'suffix' is not supported by this model: it was not trained to fill in.")
        before, after, middle = (mark for mark in marks if mark is not None)
        parts = [self.vocabulary.tokenize(text, add_special=False, parse_special=False) for text in (prefix, suffix)]
        bos = self.vocabulary.special("bos") if self.vocabulary.adds_bos else None
        return [*([] if bos is None else [bos]), before, *parts[0], after, *parts[1], middle]

    # Sequences

    def _chat_grammar(self, body: Mapping[str, Any], tools: list[Message]) -> str | None:
        grammar = grammar_of(body)
        forced = forced_tools(body.get("tool_choice"), tools)
        if tools and grammar is not None:
            raise unsupported("response_format", "'response_format' together with 'tools' is not supported.")
        return tagged_call(calls_to_grammar(forced)) if forced else grammar

    def _sequences(self, body: Mapping[str, Any], prompts: list[list[int]], grammar: str | None) -> list[Sequence]:
        choices = number(body, "n", 1, self.slots, whole=True) or 1
        limit, rated, reuse = limit_of(body), rated_of(body), flag(body, "cache_prompt", default=True)
        ends = self.vocabulary.ends() if flag(body, "ignore_eos") else ()
        sampling = sampling_of(body, self.vocabulary.size, ends, self.draw())
        if grammar is not None:
            self._check(grammar, form_field(body))
        stops = stops_of(body)
        made: list[Sequence] = []
        for tokens in prompts:
            room = self._room(tokens)
            first = len(made)
            for place in range(choices):
                sequence = Sequence(
                    tokens, min(limit or room, room), _reseeded(sampling, place), _nowhere, stops, grammar, rated, reuse
                )
                if place and reuse:
                    sequence.leader = made[first]
                made.append(sequence)
        return made

    def _room(self, tokens: list[int]) -> int:
        if not tokens:
            raise Refusal("The prompt has no tokens", param="prompt")
        if len(tokens) >= self.window:
            raise too_long(len(tokens), self.window)
        return self.window - len(tokens)

    def _check(self, grammar: str, field: str) -> None:
        if multiplies(grammar):
            raise Refusal(f"'{field}' {MULTIPLIES}", param=field, code="invalid_value")
        try:
            self.check_grammar(grammar)
        except GrammarError as error:
            raise Refusal(f"Failed to initialize samplers: {error}", param=field) from error


def _template_names(body: Mapping[str, Any], abilities: Abilities) -> dict[str, Any]:
    effort = body.get("reasoning_effort")
    if effort is None:
        return {}
    if not isinstance(effort, str):
        raise Refusal("Field 'reasoning_effort': must be text", param="reasoning_effort")
    if abilities.takes_effort:
        return {"reasoning_effort": effort}
    if abilities.can_stop_thinking:
        return {"enable_thinking": effort != "none"}
    if effort == "none" and not abilities.thinks:
        return {}
    raise unsupported("reasoning_effort")


def _thinks(body: Mapping[str, Any], prompt: str, abilities: Abilities, grammar: str | None) -> Thinks:
    how = body.get("reasoning_format", "auto")
    if how not in (None, "auto", "none", "deepseek"):
        raise unsupported("reasoning_format", f"This 'reasoning_format' is not supported: {str(how)[:20]}")
    if how == "none" or not abilities.thinks or grammar is not None:
        return "no"
    return "inside" if prompt.rstrip().endswith(THINK) else "maybe"


def _telling(body: Mapping[str, Any], choices: int) -> dict[str, Any]:
    stream = flag(body, "stream")
    options = body.get("stream_options")
    with_usage = isinstance(options, Mapping) and flag(options, "include_usage")
    return {"stream": stream, "with_usage": with_usage, "timed": flag(body, "timings_per_token"), "choices": choices}


def _prompts(given: Any, most: int = MOST_PROMPTS) -> list[str | list[int]]:
    """Return one or several texts or lists of token ids; raises Refusal."""
    if isinstance(given, str) or _is_tokens(given):
        return [given]
    if (
        isinstance(given, list)
        and 0 < len(given) <= most
        and all(isinstance(one, str) or _is_tokens(one) for one in given)
    ):
        return given
    if isinstance(given, list) and len(given) > most:
        raise Refusal(f"There are more than {most} prompts", param="prompt")
    raise Refusal('"prompt" elements must be a string, a list of tokens, or a list of strings & lists of tokens.')


def _is_tokens(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(type(token) is int for token in given)


def _reseeded(sampling: Sampling, place: int) -> Sampling:
    return replace(sampling, seed=(sampling.seed + place) & 0xFFFFFFFF)


def _nowhere(event: Event) -> None:
    """Take events of a sequence that nobody listens to yet."""
