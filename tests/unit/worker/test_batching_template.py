"""Chat templates come out of files that anyone may have made: they render, or they are refused in time."""

from __future__ import annotations

import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.worker.batching.refusals import Refusal
from gateway.worker.batching.template import LONGEST_TEMPLATE, ChatTemplate

MESSAGES = [{"role": "user", "content": "hi"}]
GROWING = "{% set ns = namespace(s='xx', t='xx') %}{% for i in range(60) %}STEP{% endfor %}"
SECONDS = 0.2

RUNAWAYS = {
    "endless loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}"
    "{% endfor %}{% endfor %}",
    "a range without end": "{% for i in range(100000000) %}{% endfor %}",
    "a macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}"
    "{{ m(60) }}",
    "a macro that never ends": "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(1) }}",
    "a doubled string": GROWING.replace("STEP", "{% set ns.s = ns.s + ns.s %}"),
    "a doubled string by ~": GROWING.replace("STEP", "{% set ns.s = ns.s ~ ns.s %}"),
    "a doubled string by join": GROWING.replace("STEP", "{% set ns.s = [ns.s, ns.s]|join(ns.s) %}"),
    "a doubled string by replace": GROWING.replace("STEP", "{% set ns.s = ns.s.replace('x', ns.s) %}"),
    "a doubled list": GROWING.replace("STEP", "{% set ns.s = [ns.s, ns.s] %}") + "{{ ns.s }}",
    "doubled lists compared": GROWING.replace("STEP", "{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}")
    + "{{ ns.s == ns.t }}",
    "a doubled tuple hashed": GROWING.replace("STEP", "{% set ns.s = (ns.s, ns.s) %}") + "{{ {ns.s: 1} }}",
    "a number squared again and again": "{% set ns = namespace(n=9) %}{% for i in range(60) %}"
    "{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "a long string at once": "{{ 'x' * 10000000000 }}",
    "a long list at once": "{{ [1] * 10000000000 }}",
    "a power": "{{ 9 ** 999999999 }}",
    "a wide number": "{{ '%1000000000d' % 1 }}",
    "a wide format": "{{ '{:>1000000000}'.format(1) }}",
    "a wide line": "{{ 'x'.center(1000000000) }}",
    "much text of its own": "{% set x %}{% for i in range(9999) %}{% for j in range(9999) %}"
    + "y" * 1000
    + "{% endfor %}{% endfor %}{% endset %}",
    "classes walked by a string": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "classes walked by attr": "{{ ''|attr('__class__') }}",
    "classes walked by a macro": "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}",
    "classes walked by a subscript": "{{ ''['__class__']['__base__'] }}",
    "a file": "{% include '/etc/passwd' %}",
    "no template": "{% for",
    "one that is too long": " " * (LONGEST_TEMPLATE + 1),
}


@pytest.mark.parametrize("source", RUNAWAYS.values(), ids=RUNAWAYS.keys())
def test_a_template_that_runs_away_or_walks_classes_is_refused(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as refusal:
            ChatTemplate(source, seconds=SECONDS).render(MESSAGES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (refusal.value.status, refusal.value.error["code"]) == (422, "bad_template")
    assert peak < 400 << 20


def test_a_template_ends_when_its_time_is_over() -> None:
    began = time.thread_time()

    with pytest.raises(Refusal, match="takes too long"):
        ChatTemplate(RUNAWAYS["endless loops"], seconds=SECONDS).render(MESSAGES)

    assert time.thread_time() - began < SECONDS + 2


def test_a_template_that_would_write_a_file_does_not(tmp_path: Path) -> None:
    target = tmp_path / "made"
    walk = f"x.__init__.__globals__['__builtins__']['open']('{target}', 'w')"

    with pytest.raises(Refusal):
        ChatTemplate(f"{{% for x in [cycler, joiner, namespace, range] %}}{{{{ {walk} }}}}{{% endfor %}}").render(
            MESSAGES
        )

    assert not target.exists()


def test_a_usual_template_renders() -> None:
    template = ChatTemplate(
        "{{ bos_token }}{%- for message in messages %}{% if loop.first and message.role != 'system' %}<s>{% endif %}"
        "{{ '<|' + message['role'] + '|>' ~ message.content | trim }}{{ eos_token }}\n{% endfor %}"
        "{%- if add_generation_prompt %}<|assistant|>{% endif %}",
        "<bos>",
        "<eos>",
    )

    text = template.render([{"role": "user", "content": " hi "}, {"role": "assistant", "content": "ho"}])

    assert text == "<bos><s><|user|>hi<eos>\n<|assistant|>ho<eos>\n<|assistant|>"


def test_tools_are_rendered_as_json_without_escapes() -> None:
    template = ChatTemplate("{% for tool in tools %}{{ tool | tojson }}{% endfor %}")

    assert template.render(MESSAGES, tools=[{"name": "ü<&"}]) == '{"name": "ü<&"}'


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "1"),
        ("{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{% break %}{% endfor %}", "0True"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ messages | map(attribute='content') | join('+') }}", "hi"),
        ("{% for k, v in messages[0] | items %}{{ k }}={{ v }};{% endfor %}", "role=user;content=hi;"),
        ("{{ messages[::-1][0].content.split('h')[-1] }}", "i"),
        ("{% if messages[0].tools is not defined and messages[0] is mapping %}yes{% endif %}", "yes"),
        ("{% macro say(x) %}<{{ x }}>{% endmacro %}{{ say('a') }}{{ say(x='b') }}", "<a><b>"),
        ("{{ 'a-b'.replace('-', '+') }}{{ 'x' | replace('x', 'y') }}{{ 7 % 4 }}", "a+by3"),
    ],
)
def test_what_templates_use_works(source: str, text: str) -> None:
    assert ChatTemplate(source).render(MESSAGES) == text


def test_a_template_may_refuse_messages_itself() -> None:
    template = ChatTemplate("{{ raise_exception('Roles must alternate') }}")

    with pytest.raises(Refusal, match="Roles must alternate") as refusal:
        template.render(MESSAGES)

    assert refusal.value.status == 400


def test_messages_that_a_template_cannot_take_are_the_callers_mistake() -> None:
    with pytest.raises(Refusal) as refusal:
        ChatTemplate("{{ 'a' + messages[0].content }}").render([{"role": "user", "content": None}])

    assert (refusal.value.status, refusal.value.error["param"]) == (400, "messages")


def test_a_long_conversation_renders() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.role + ': ' + m.content }}\n{% endfor %}")

    text = template.render([{"role": "user", "content": "word " * 100}] * 1000)

    assert len(text) == 1000 * (len("user: ") + 500 + 1)


def test_looking_at_the_number_of_messages_again_and_again_costs_nothing() -> None:
    source = """
    {%- for message in messages[::-1] %}{% set index = (messages|length - 1) - loop.index0 %}{% endfor %}
    {%- for message in messages %}{{ message.content if messages|count and messages|first }}{% endfor %}"""
    messages = [{"role": "user", "content": "w" * 300} for _ in range(1000)]

    assert ChatTemplate(source).render(messages) == "w" * 300_000


def test_a_message_of_many_megabytes_is_no_fault_of_the_template() -> None:
    made = ChatTemplate("{% for m in messages %}{{ '<' + m.role + '>' + m.content + '\n' }}{% endfor %}")

    assert len(made.render([{"role": "user", "content": "w" * 20_000_000}])) == 20_000_007


def test_several_threads_may_render() -> None:
    made = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")

    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(lambda number: made.render([{"content": str(number)}] * 100), range(50)))

    assert told == [str(number) * 100 for number in range(50)]
