"""The configurations and command lines of what is measured, as text. Nothing here is started."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.canned import API_KEY, TRICKLE
from bench.canned_wires import ANTHROPIC_MODEL, GEMINI_MODEL, GEMINI_ROOT

GATEWAY_COMMAND = "{bin}/gateway serve --config {config} --port {port}"
RAW_COMMAND = "{python} -m bench.raw --upstream {upstream} --port {port}"
UPSTREAM_COMMAND = "{python} -m bench.upstream --port {port}"
WIRES_COMMAND = "{python} -m bench.canned_wires --port {port}"
BARE_COMMAND = "{python} -m bench.lanes --upstream {upstream} --port {port}"
NGINX_COMMAND = "nginx -p {directory} -c {nginx} -e {directory}/nginx-error.log"

# Limits so wide that none is ever reached: they are on, so that their cost is in the figures.
_KEY = (
    f'{{name: bench, key: "{API_KEY}", role: user, models: ["*"], requests_per_minute: 1000000000, '
    "tokens_per_minute: 1000000000000, concurrent_requests: 1000000, usd_per_day: 1000000}"
)
# As a preset has them: values that fill in, a limit, a field to rename and one that the model is known to refuse.
_SETTINGS = (
    "settings: {temperature: 0.6, frequency_penalty: 0.0, presence_penalty: 0.0, top_k: 5}, "
    "token_field: max_completion_tokens, models: {canned: {max_output_tokens: 8192, refuses: [top_k]}}"
)


def gateway_config(
    upstream: str, data_dir: Path, workers: int = 1, *, embeddings: str = "{cache: null}", redis: str = ""
) -> str:
    """Return a gateway.yaml with three deployments at `upstream` for each alias, a key, and every feature on.

    Embeddings are remembered only where `embeddings`, as YAML, says so: what is remembered is never asked for.
    """
    aliases = {"small": "canned", TRICKLE: f"canned-{TRICKLE}", "embedding": "canned"}
    names = ("bench", "second", "third")
    models = "".join(
        f"  {alias}: {{deployments: [{', '.join(f'{{provider: {name}, model: {model}}}' for name in names)}]}}\n"
        for alias, model in aliases.items()
    )
    providers = "".join(
        f'  {name}: {{kind: openai, base_url: "{upstream}", api_key: {name}, {_SETTINGS}}}\n' for name in names
    )
    return (
        f'server: {{host: 127.0.0.1, workers: {workers}, data_dir: "{data_dir}"}}\n'
        f"auth:\n  keys:\n    - {_KEY}\n"
        f'embeddings: {embeddings}\nredis: {{url: "{redis}"}}\n'
        f"providers:\n{providers}models:\n{models}"
    )


def windows_config(upstream: str, data_dir: Path, window: int | None) -> str:
    """Return a gateway.yaml with one deployment whose window is so many tokens, None for one that nobody knows."""
    limit = "" if window is None else f", context_window: {window}"
    return (
        f'server: {{host: 127.0.0.1, workers: 1, data_dir: "{data_dir}"}}\n'
        f"auth:\n  keys:\n    - {_KEY.replace('role: user', 'role: admin')}\n"
        f'providers: {{bench: {{kind: openai, base_url: "{upstream}", api_key: x}}}}\n'
        f"models: {{small: {{deployments: [{{provider: bench, model: gpt-4o{limit}}}]}}}}\n"
    )


def failing_config(dead_ports: Sequence[int], holder_port: int, data_dir: Path) -> str:
    """Return a gateway.yaml whose `outage` has dead deployments only, and whose `held` never gets an answer."""
    providers = "".join(
        f'  dead{port}: {{kind: openai, base_url: "http://127.0.0.1:{port}/v1", api_key: x}}\n' for port in dead_ports
    )
    dead = ", ".join(f"dead{port}/any" for port in dead_ports)
    return (
        f'server: {{host: 127.0.0.1, workers: 1, data_dir: "{data_dir}"}}\n'
        f"auth:\n  keys:\n    - {_KEY}\n"
        f'providers:\n{providers}  holder: {{kind: openai, base_url: "http://127.0.0.1:{holder_port}/v1", api_key: x}}\n'
        f"models:\n  outage: {{deployments: [{dead}]}}\n"
        "  held: {deployments: [holder/held]}\n  midway: {deployments: [holder/held-midway]}\n"
    )


def lanes_config(upstream: str, data_dir: Path) -> str:
    """Return the same with two providers that are reached through litellm, each an alias of its own name.

    `upstream` is a URL without a path.
    """
    lanes = {"anthropic": ("", ANTHROPIC_MODEL), "gemini": (GEMINI_ROOT, GEMINI_MODEL)}
    providers = "".join(
        f'  {name}: {{kind: litellm, prefix: {name}, base_url: "{upstream}{root}", api_key: x}}\n'
        for name, (root, _) in lanes.items()
    )
    models = "".join(
        f"  {name}: {{deployments: [{{provider: {name}, model: {model}}}]}}\n" for name, (_, model) in lanes.items()
    )
    return (
        f'server: {{host: 127.0.0.1, workers: 1, data_dir: "{data_dir}"}}\n'
        f"auth:\n  keys:\n    - {_KEY}\nproviders:\n{providers}models:\n{models}"
    )


def nginx_config(upstream_port: int, port: int) -> str:
    """Return an nginx.conf of one process that passes everything on over kept connections."""
    return f"""daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 1000000000;
  upstream canned {{ server 127.0.0.1:{upstream_port}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location = /healthz {{ return 200; }}
    location / {{
      proxy_pass http://canned;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def command(template: str, **places: object) -> list[str]:
    """Return the argument list of a command with its {places} filled in; {python} and {bin} are this interpreter's.

    Raises KeyError for a place that has no value.
    """
    known = {"python": sys.executable, "bin": Path(sys.executable).parent, **places}
    return [word.format(**known) for word in shlex.split(template)]
