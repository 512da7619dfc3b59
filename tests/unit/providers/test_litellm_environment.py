"""Nothing of the process's environment gets into a call through litellm: no key goes to a foreign host, none elsewhere."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from gateway.call import Endpoint
from gateway.errors import GatewayError
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from gateway.providers.litellm_engine import load
from gateway.providers.litellm_environment import account_variables, install, unseen
from gateway.providers.litellm_line import Line, Transport
from gateway.providers.litellm_prefixes import PROVEN
from tests.support.exchanges import MESSAGES, make_exchange, make_patience
from tests.support.reached import reached_hosts

ENV_KEY = "env-canary-secret"
_TELLING = re.compile(
    rb"""["']([A-Z][A-Z0-9_]*(?:API|APIKEY|KEY|KEY_ID|TOKEN|SECRET|CREDENTIALS|PASSWORD|ID|BASE|URL|URI|HOST|ENDPOINT|HEADERS"""
    rb"""|ORG|ORGANIZATION|PROJECT|ACCOUNT|REGION|REGION_NAME|LOCATION|GROUP|VERSION))["']"""
)
_ADDRESS = re.compile("(?:API|BASE|URL|URI|HOST|ENDPOINT)$")
OUR_KEY = "sk-configured-0123456789"
FALLBACK = "https://api.openai.com"
CALLS: dict[str, tuple[Endpoint, dict[str, Any], bool]] = {
    "chat": ("chat/completions", {"model": "m", "messages": MESSAGES}, False),
    "stream": ("chat/completions", {"model": "m", "messages": MESSAGES}, True),
    "embeddings": ("embeddings", {"model": "m", "input": "a"}, False),
    "images": ("images/generations", {"model": "m", "prompt": "Cat"}, False),
}


class Seen:
    """Answers 400 to everything and keeps what was asked, the upstream's and the canary's apart."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.canary_asked: list[str] = []
        self.server = TestServer(web.Application())
        self.canary = TestServer(web.Application())
        self.server.app.router.add_route("*", "/{any:.*}", self._answer)
        self.canary.app.router.add_route("*", "/{any:.*}", self._be_led)

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.rel_url} {dict(request.headers)} {await request.text()}")
        return web.json_response({"error": {"message": "No"}}, status=400)

    async def _be_led(self, request: web.Request) -> web.Response:
        self.canary_asked.append(str(request.rel_url))
        return web.json_response({})


@pytest.fixture
async def seen() -> AsyncIterator[Seen]:
    seen = Seen()
    async with seen.server, seen.canary:
        yield seen


@cache
def variables() -> tuple[str, ...]:
    """Return every name in litellm and what it calls that may be a variable for a key or an address."""
    import litellm
    import openai

    names: set[str] = set()
    for package in (litellm, openai):
        folder = Path(str(package.__file__)).parent
        for file in folder.rglob("*.py"):
            if "proxy" not in file.parts:
                names.update(name.decode() for name in _TELLING.findall(file.read_bytes()))
    names.update(f"{prefix.upper()}_{end}" for prefix in PROVEN for end in ("API_KEY", "API_BASE", "BASE_URL"))
    names.update(("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_BEARER_TOKEN_BEDROCK"))
    return tuple(sorted(names))


@pytest.fixture
def laid_out(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Set all those variables, addresses to the canary's."""
    load("openai")
    names = variables()
    for name in names:
        address = str(seen.canary.make_url("/v1"))
        monkeypatch.setenv(name, address if _ADDRESS.search(name) else ENV_KEY)
    return names


async def ask(lane: LiteLLM, call: str, model: str = "m") -> str:
    """Return the code of the error that a call ends in."""
    endpoint, body, stream = CALLS[call]
    exchange = make_exchange(endpoint=endpoint, model=model, body=body, stream=stream, patience=make_patience(total=10))
    with pytest.raises(GatewayError) as caught:
        await lane.send(exchange)
    assert ENV_KEY not in str(caught.value)
    return caught.value.code or ""


async def test_no_key_of_the_environment_reaches_an_upstream(seen: Seen, laid_out: tuple[str, ...]) -> None:
    url = str(seen.server.make_url("/")).rstrip("/")

    for prefix in sorted(PROVEN):
        lane = LiteLLM("lab", LiteLLMSettings(kind="litellm", prefix=prefix, base_url=url))
        for call in CALLS:
            await ask(lane, call)
        await lane.close()

    assert len(laid_out) > 300
    assert [asked for asked in seen.asked if ENV_KEY in asked] == []
    assert seen.canary_asked == []


class Unplugged(Transport):
    """Notes whom litellm would ask, and with what, and asks nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.hosts: set[str] = set()

    async def _ask(self, request: httpx.Request, line: Line) -> aiohttp.ClientResponse:
        self.hosts.add(request.url.host)
        self.asked.append(f"{request.url} {dict(request.headers)} {request.content!r}")
        raise OSError("unplugged")


async def outcomes(settings: LiteLLMSettings, model: str = "m") -> tuple[Unplugged, set[str]]:
    """Return whom a lane that is not plugged in would ask, and the codes it answers with."""
    lane = LiteLLM("lab", settings)
    lane._transport = unplugged = Unplugged()
    codes = {await ask(lane, call, model) for call in CALLS}
    await lane.close()
    return unplugged, codes


async def test_no_address_of_the_environment_is_asked_with_a_configured_key(
    seen: Seen, laid_out: tuple[str, ...]
) -> None:
    """Neither OpenAI, which litellm takes for the upstream where it knows of no other."""
    wrong: list[str] = []

    with reached_hosts() as reached:
        for prefix in sorted(PROVEN - {"openai"}):
            settings = LiteLLMSettings(kind="litellm", prefix=prefix, api_key=SecretStr(OUR_KEY))
            unplugged, _ = await outcomes(settings)
            canary = f":{seen.canary.port}/"
            wrong += [asked for asked in unplugged.asked if canary in asked or ENV_KEY in asked or FALLBACK in asked]

    assert wrong == []
    assert laid_out
    assert seen.canary_asked == []
    assert reached == set()


@pytest.mark.parametrize("prefix", ["ai21", "cometapi", "custom_openai", "hosted_vllm", "lm_studio"])
async def test_a_provider_without_a_known_address_needs_one(prefix: str) -> None:
    load(prefix)
    began = asyncio.get_running_loop().time()
    unplugged, codes = await outcomes(LiteLLMSettings(kind="litellm", prefix=prefix, api_key=SecretStr(OUR_KEY)))

    assert "api.openai.com" not in unplugged.hosts
    assert asyncio.get_running_loop().time() - began < 0.4  # OpenAI's client would wait before it tries again
    assert "provider_misconfigured" in codes


@pytest.mark.parametrize("prefix", ["anthropic", "gemini", "groq", "openai", "mistral"])
async def test_a_hosted_provider_without_a_key_is_not_asked(prefix: str, laid_out: tuple[str, ...]) -> None:
    unplugged, codes = await outcomes(LiteLLMSettings(kind="litellm", prefix=prefix))

    assert laid_out
    assert unplugged.asked == []
    assert codes == {"provider_misconfigured"}


@pytest.mark.parametrize("prefix", ["anthropic", "azure", "gemini", "groq", "mistral", "openai"])
async def test_a_server_of_ones_own_may_ask_for_no_key(prefix: str, seen: Seen) -> None:
    lane = LiteLLM("lab", LiteLLMSettings(kind="litellm", prefix=prefix, base_url=str(seen.server.make_url("/v1"))))

    await ask(lane, "chat")
    await ask(lane, "stream")
    await lane.close()

    assert len(seen.asked) == 2


@pytest.mark.parametrize("prefix", ["bedrock", "vertex_ai"])
@pytest.mark.parametrize("more", [{"base_url": "http://127.0.0.1:9/v1"}, {"api_key": SecretStr(OUR_KEY)}])
def test_what_names_an_address_or_a_key_uses_no_account_of_the_machine(prefix: str, more: dict[str, Any]) -> None:
    settings = LiteLLMSettings(kind="litellm", prefix=prefix, **more)

    assert account_variables(settings) == frozenset()


async def test_bedrock_without_keys_uses_the_account_of_the_machine_and_asks_no_metadata_service(
    laid_out: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    region = {"aws_region_name": SecretStr("eu-west-1")}
    settings = LiteLLMSettings(kind="litellm", prefix="bedrock", options=region)

    with reached_hosts() as reached:
        unplugged, _ = await outcomes(settings, "us.amazon.nova-2-lite-v1:0")

    assert laid_out
    assert unplugged.hosts == {"bedrock-runtime.eu-west-1.amazonaws.com"}
    assert f"Credential={ENV_KEY}/" in unplugged.asked[0]
    assert reached == set()


@pytest.mark.parametrize("prefix", ["bedrock", "vertex_ai"])
async def test_where_there_is_no_account_no_metadata_service_is_asked(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in account_variables(LiteLLMSettings(kind="litellm", prefix=prefix)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    options = {"aws_region_name": SecretStr("eu-west-1"), "vertex_project": SecretStr("p")}
    model = {"bedrock": "us.amazon.nova-2-lite-v1:0"}.get(prefix, "gemini-2.5-flash")

    with reached_hosts() as reached:
        unplugged, codes = await outcomes(LiteLLMSettings(kind="litellm", prefix=prefix, options=options), model)

    assert unplugged.asked == []
    assert codes & {"provider_misconfigured", "provider_not_installed", "upstream_auth_failed"}
    assert reached == set()


def test_only_the_task_that_hides_the_environment_does_not_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    monkeypatch.setenv("GROQ_API_KEY", ENV_KEY)
    monkeypatch.setenv("AWS_PROFILE", "lab")

    with unseen(frozenset({"AWS_PROFILE", "AWS_CONFIG_FILE"})):
        hidden = dict(os.environ)

    assert "GROQ_API_KEY" not in hidden
    assert hidden["AWS_PROFILE"] == "lab"
    assert "AWS_CONFIG_FILE" not in hidden  # where boto3 looks by itself
    assert hidden["AWS_EC2_METADATA_DISABLED"] == "true"
    assert os.environ["GROQ_API_KEY"] == ENV_KEY
    assert "AWS_EC2_METADATA_DISABLED" not in os.environ
