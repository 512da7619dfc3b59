"""Chats with a model that draws: its pictures are in the answer beside the text, plain and streamed."""

from __future__ import annotations

import json

import pytest

from tests.support.app import running
from tests.support.contract import read_chunks
from tests.support.upstream import Answer, SeenRequest, encode_event
from tests.support.wires import PICTURE, UPSTREAM_KEY, Gemini, WireUpstream
from tests.support.wires.base import event_answer, json_answer

DRAWN = {
    "candidates": [
        {
            "index": 0,
            "content": {
                "role": "model",
                "parts": [{"text": "Here: "}, {"inlineData": {"mimeType": "image/png", "data": PICTURE}}],
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8},
    "modelVersion": "gemini-3.1-flash-image",
    "responseId": "r1",
}
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}, "index": 0}


def draw(request: SeenRequest) -> Answer:
    if "alt=sse" in request.query:
        return event_answer([encode_event(DRAWN)])
    return json_answer(DRAWN)


@pytest.mark.parametrize("stream", [False, True])
async def test_pictures_of_a_chat_are_in_its_answer(stream: bool) -> None:
    async with WireUpstream(Gemini()) as upstream:
        upstream.script(draw)
        providers = {"google": {"base_url": upstream.base_url, "api_key": UPSTREAM_KEY}}
        async with running(json.dumps({"providers": providers})) as gateway:
            answer = await gateway.chat(model="google/gemini-3.1-flash-image", stream=stream)

    assert answer.status == 200
    if stream:
        told = [choice["delta"] for chunk in read_chunks(answer.events) for choice in chunk["choices"]]
    else:
        told = [answer.json["choices"][0]["message"]]
    assert "".join(one.get("content") or "" for one in told) == "Here: "
    assert [image for one in told for image in one.get("images", ())] == [IMAGE]
