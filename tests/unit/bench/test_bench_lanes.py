from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import canned_wires, options
from bench.configs import BARE_COMMAND, WIRES_COMMAND, command, lanes_config
from bench.load import Crew, content
from bench.measures import Comparison, Series
from bench.report import LANE_AIM, cpu_row
from bench.session import judged_by_raw
from bench.systems import Program, free_port
from bench.systems import running as started
from gateway.config import parse, resolve
from tests.support.app import running

EACH_LANE = pytest.mark.parametrize("title", canned_wires.lanes())


@pytest.fixture
def wires(tmp_path: Path) -> Iterator[str]:
    """Serve the canned wires and give their URL."""
    port = free_port()
    program = Program("wires", command(WIRES_COMMAND, port=port), port, "/v1/models")
    with started(program, tmp_path):
        yield f"http://127.0.0.1:{port}"


def comparison(waiting: dict[str, list[float]]) -> Comparison:
    costs = {"raw": 1e-4, "bare": 4e-3, "gateway": 1e-3}
    series = {name: Series([costs[name]] * len(found), [0.0] * len(found), found) for name, found in waiting.items()}
    return Comparison(series, wanted=2)


def answer(head: bytes, body: bytes = b"{}") -> Any:
    found = canned_wires.WireAnswers().choose(head + b" HTTP/1.1", body)
    assert isinstance(found, bytes)
    return content(found)


def test_both_wires_say_what_openais_completion_says() -> None:
    openai = json.loads(answer(b"POST /v1/chat/completions"))
    anthropic = json.loads(answer(b"POST /v1/messages"))
    gemini = json.loads(answer(b"POST /v1beta/models/gemini-2.5-flash:generateContent"))

    text = openai["choices"][0]["message"]["content"]
    assert anthropic["content"] == [{"type": "text", "text": text}]
    assert gemini["candidates"][0]["content"]["parts"] == [{"text": text}]


def test_anthropics_stream_has_as_many_pieces_as_openais() -> None:
    openai = answer(b"POST /v1/chat/completions", b'{"stream":true}')
    anthropic = answer(b"POST /v1/messages", b'{"stream":true}')

    assert anthropic.count(b"text_delta") == openai.count(b'"content":"word')


def test_the_generated_configuration_has_every_lane(tmp_path: Path) -> None:
    text = lanes_config("http://127.0.0.1:9000", tmp_path)

    routes = resolve(parse(text, str(tmp_path / "gateway.yaml"), environ={})).plan.routes

    for request in canned_wires.lanes().values():
        assert json.loads(request.body)["model"] in routes


@EACH_LANE
async def test_the_gateway_answers_each_lane_rightly(wires: str, title: str, tmp_path: Path) -> None:
    async with (
        running(lanes_config(wires, tmp_path)) as gateway,
        Crew(gateway.port, canned_wires.lanes()[title], connections=2) as crew,
    ):
        tally = await crew.send(4)

    assert (tally.answered, tally.faults) == (4, [])


async def test_the_bare_handler_answers_each_lane_rightly(wires: str, tmp_path: Path) -> None:
    port = free_port()
    with started(Program("bare", command(BARE_COMMAND, upstream=wires, port=port), port), tmp_path):
        for request in canned_wires.lanes().values():
            async with Crew(port, request, connections=2) as crew:
                tally = await crew.send(4)

            assert (tally.answered, tally.faults) == (4, [])


def test_only_raw_tells_whether_a_turn_of_the_lanes_was_calm() -> None:
    busy_threads = comparison({"raw": [0.0, 0.4], "bare": [0.3, 0.3], "gateway": [0.2, 0.2]})

    assert busy_threads.calm == [False, False]
    assert judged_by_raw(busy_threads).calm == [True, False]


def test_a_lane_is_held_against_the_bare_handler() -> None:
    calm = comparison({"raw": [0.0, 0.0], "bare": [0.0, 0.0], "gateway": [0.0, 0.0]})

    found = cpu_row("litellm lane, anthropic", calm, bound=LANE_AIM, base="bare")

    assert found.raw == pytest.approx(4000)
    assert found.is_within
    assert found.ratio is not None
    assert found.ratio.median == pytest.approx(0.25)
    assert found.note.startswith("bare in place of raw; ")


def test_the_lanes_can_be_measured_alone() -> None:
    assert options.parse(["--only", "lanes"]).only == ["lanes"]
