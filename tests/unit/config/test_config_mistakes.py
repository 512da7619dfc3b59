"""Every mistake is one line: file, line, path, what was expected, the nearest known word."""

from __future__ import annotations

from textwrap import dedent

import pytest

PROVIDERS = "providers: {ollama: {}, local: {kind: llamacpp}, lab: {kind: openai, base_url: 'http://127.0.0.1:1/v1'}}\n"

CASES = {
    "an unknown key of the file": (
        "sever: {}\n",
        "gateway.yaml:2: sever: unknown key; did you mean 'server'?",
    ),
    "an unknown key with nothing near": (
        "auth: {xyz: 1}\n",
        "gateway.yaml:2: auth.xyz: unknown key; expected one of: keys",
    ),
    "a misspelt key that is required": (
        "models:\n  small:\n    deployments:\n      - {provder: lab, model: x}\n",
        "gateway.yaml:5: models.small.deployments[0].provder: unknown key; did you mean 'provider'?",
    ),
    "a required key": (
        "models:\n  small:\n    deployments:\n      - {provider: lab}\n",
        "gateway.yaml:5: models.small.deployments[0].model: is missing; expected a string",
    ),
    "text for a number": (
        "server:\n  port: abc\n",
        "gateway.yaml:3: server.port: expected an integer from 0 to 65535, got 'abc'",
    ),
    "a number out of range": (
        "server: {port: 65536}\n",
        "gateway.yaml:2: server.port: expected an integer from 0 to 65535, got 65536",
    ),
    "a number with only a lower bound": (
        "providers: {local: {kind: llamacpp, models: {smollm2: {context_window: 3}}}}\n",
        "gateway.yaml:1: providers.local.models.smollm2.context_window: expected an integer from 16, got 3",
    ),
    "a fraction for an integer": (
        "server: {workers: 1.5}\n",
        "gateway.yaml:2: server.workers: expected an integer from 1 to 256, got 1.5",
    ),
    "zero seconds": (
        "models: {small: {deployments: [lab/x], timeouts: {connect_seconds: 0}}}\n",
        "gateway.yaml:2: models.small.timeouts.connect_seconds: expected a number above 0 up to 86400, got 0",
    ),
    "a number for text": (
        "models: {small: {deployments: [{provider: lab, model: 4}]}}\n",
        "gateway.yaml:2: models.small.deployments[0].model: expected a string, got 4 (write it in quotes)",
    ),
    "a list for a mapping": (
        "server: []\n",
        "gateway.yaml:2: server: expected a mapping, got a list",
    ),
    "text for a list": (
        "server: {allowed_hosts: example.com}\n",
        "gateway.yaml:2: server.allowed_hosts: expected a list, got a string",
    ),
    "nothing for a list": (
        "auth: {keys: }\n",
        "gateway.yaml:2: auth.keys: expected a list, got nothing",
    ),
    "an unknown strategy": (
        "models: {small: {strategy: priorty, deployments: [lab/x]}}\n",
        "gateway.yaml:2: models.small.strategy: expected one of: priority, weighted, least_busy, lowest_latency, got "
        "'priorty'; did you mean 'priority'?",
    ),
    "an unknown role": (
        "auth: {keys: [{name: a, key: b, role: amdin}]}\n",
        "gateway.yaml:2: auth.keys[0].role: expected one of: admin, user, viewer, got 'amdin'; did you mean 'admin'?",
    ),
    "an unknown class": (
        "providers: {ollama: {classes: {smal: x}}}\n",
        "gateway.yaml:1: providers.ollama.classes.smal: unknown key; did you mean 'small'?",
    ),
    "a way of shortening chats where the alias embeds": (
        "models: {embedding: {deployments: [lab/x], truncation: middle}}\n",
        "gateway.yaml:2: models.embedding.truncation: is for chats, and this alias embeds; expected one of: none, end, "
        "mean_pool",
    ),
    "a way of shortening inputs where the alias chats": (
        "models: {small: {deployments: [lab/x], truncation: mean_pool}}\n",
        "gateway.yaml:2: models.small.truncation: is for embeddings, and this alias does not embed; expected one of: "
        "drop_oldest, middle, refuse",
    ),
    "an unknown way of shortening": (
        "models: {vectors: {deployments: [lab/x], truncation: mean_pol}}\n",
        "gateway.yaml:2: models.vectors.truncation: expected one of: drop_oldest, middle, refuse, none, end, mean_pool, "
        "got 'mean_pol'; did you mean 'mean_pool'?",
    ),
    "no deployment": (
        "models: {small: {deployments: []}}\n",
        "gateway.yaml:2: models.small.deployments: must not be empty",
    ),
    "a deployment without a slash": (
        "models: {small: {deployments: [lab]}}\n",
        "gateway.yaml:2: models.small.deployments[0]: "
        "expected provider/model or a mapping with the keys provider and model",
    ),
    "an unknown provider": (
        "models: {small: {deployments: [{provider: loca, model: x}]}}\n",
        "gateway.yaml:2: models.small.deployments[0].provider: unknown provider 'loca'; did you mean 'local'?",
    ),
    "an unknown provider in the short form": (
        "models:\n  small:\n    deployments:\n    - lab/x\n    - olama/x\n",
        "gateway.yaml:6: models.small.deployments[1]: unknown provider 'olama/x'; did you mean 'ollama'?",
    ),
    "a class that the provider does not serve": (
        "models: {small: {deployments: [local/small, lab/small]}}\n",
        "gateway.yaml:2: models.small.deployments[1]: "
        "the provider 'lab' does not serve the class 'small'; it serves no class; name an upstream model",
    ),
    "a class that a local provider does not serve": (
        "providers: {local: {kind: llamacpp, models: {minilm: }}}\nmodels: {a: {deployments: [local/small]}}\n",
        "gateway.yaml:2: models.a.deployments[0]: "
        "the provider 'local' does not serve the class 'small'; it serves: embedding",
    ),
    "an unknown local model": (
        "models: {small: {deployments: [local/smolm2]}}\n",
        "gateway.yaml:2: models.small.deployments[0]: "
        "the provider 'local' has no model 'local/smolm2'; did you mean 'smollm2'?",
    ),
    "embedding models that do not mix": (
        "models: {embedding: {deployments: [local/embedding, lab/other]}}\n",
        "gateway.yaml:2: models.embedding.deployments: vectors of different embedding models cannot be mixed; "
        "expected one model, got 'local/embedding', 'lab/other'",
    ),
    "embedding models that do not mix behind another name": (
        "models: {vectors: {deployments: [lab/other, local/minilm]}}\n",
        "gateway.yaml:2: models.vectors.deployments: vectors of different embedding models cannot be mixed; "
        "expected one model, got 'lab/other', 'local/minilm'",
    ),
    "a larger model of an unknown provider": (
        "models: {a: {deployments: [lab/x], context_fallbacks: [lap/y]}}\n",
        "gateway.yaml:2: models.a.context_fallbacks[0]: unknown provider 'lap/y'; did you mean 'lab'?",
    ),
    "a setting that steers, where a filter refuses": (
        "models: {a: {deployments: [lab/x], content_filter_fallbacks: [{provider: lab, model: y, settings: {api_key: x}}]}}\n",
        "gateway.yaml:2: models.a.content_filter_fallbacks[0].settings.api_key: steers calls and cannot be sent; "
        "credentials and addresses belong to the provider",
    ),
    "a larger model of another space": (
        "models: {embedding: {deployments: [local/embedding], context_fallbacks: [lab/other]}}\n",
        "gateway.yaml:2: models.embedding.deployments: vectors of different embedding models cannot be mixed; "
        "expected one model, got 'local/embedding', 'lab/other'",
    ),
    "an alias that hides a provider's models": (
        "models: {lab/x: {deployments: [lab/x]}}\n",
        "gateway.yaml:2: models['lab/x']: collides with the models of the provider 'lab', which are called lab/…",
    ),
    "an alias with a space": (
        "models: {a b: {deployments: [lab/x]}}\n",
        "gateway.yaml:2: models['a b']: "
        "expected a name that begins with a letter or digit and has no spaces or other signs than ._-:/@+",
    ),
    "a provider's name with a slash": (
        "providers: {a/b: {kind: openai, base_url: 'http://a'}}\n",
        "gateway.yaml:1: providers['a/b']: "
        "expected a name that begins with a letter or digit and has no spaces or other signs than ._-",
    ),
    "a local model called like a class": (
        "providers: {local: {kind: llamacpp, models: {small: {path: a.gguf}}}}\n",
        "gateway.yaml:1: providers.local.models.small: a model cannot have the name of a class",
    ),
    "a local model without a file": (
        "providers: {local: {kind: llamacpp, models: {smolm: {}}}}\n",
        "gateway.yaml:1: providers.local.models.smolm.path: "
        "is missing, and no packaged or added model has this name; did you mean 'smollm2'?",
    ),
    "a class that two local models serve": (
        "providers: {local: {kind: llamacpp, models: {smollm2: , b: {path: b.gguf, classes: [large]}}}}\n",
        "gateway.yaml:1: providers.local.models.b.classes: the class large is served by the model 'smollm2' already",
    ),
    "a text model for embeddings": (
        "providers: {local: {kind: llamacpp, models: {b: {path: b.gguf, classes: [embedding]}}}}\n",
        "gateway.yaml:1: providers.local.models.b.classes: "
        "a model with embedding: false cannot serve the class embedding",
    ),
    "a setting that is the caller's": (
        "models: {small: {deployments: [{provider: lab, model: x, settings: {stream: true}}]}}\n",
        "gateway.yaml:2: models.small.deployments[0].settings.stream: is the caller's to send and cannot be a setting",
    ),
    "two keys of one name": (
        "auth: {keys: [{name: a, key: x}, {name: a, key: y}]}\n",
        "gateway.yaml:2: auth.keys[1].name: the same name as auth.keys[0]",
    ),
    "a key that is blank at its end": (
        "auth: {keys: [{name: a, key: 'x '}]}\n",
        "gateway.yaml:2: auth.keys[0].key: expected a key without spaces and control characters",
    ),
    "a permission for an unknown model": (
        "models: {chat: {deployments: [lab/x]}}\nauth: {keys: [{name: a, key: x, models: [chta]}]}\n",
        "gateway.yaml:3: auth.keys[0].models[0]: unknown model 'chta'; did you mean 'chat'?",
    ),
    "a permission with a pattern": (
        "auth: {keys: [{name: a, key: x, models: ['lab/*']}]}\n",
        "gateway.yaml:2: auth.keys[0].models[0]: only '*' alone stands for every model; name each model otherwise",
    ),
    "a permission for an unknown local model": (
        "auth: {keys: [{name: a, key: x, models: [local/gpt]}]}\n",
        "gateway.yaml:2: auth.keys[0].models[0]: "
        "unknown model 'local/gpt'; expected one of: *, small, medium, large, embedding, image",
    ),
    "an open gateway on the network": (
        "server: {host: 0.0.0.0}\nauth: {keys: []}\n",
        "gateway.yaml:3: auth.keys: at least one key is needed to listen on '0.0.0.0'; "
        "without keys the gateway stays on 127.0.0.1",
    ),
    "an unusable URL": (
        "providers: {lab: {kind: openai, base_url: 'ftp://host'}}\n",
        "gateway.yaml:1: providers.lab.base_url: expected a URL such as https://host/v1",
    ),
    "a URL with a query": (
        "providers: {lab: {kind: openai, base_url: 'http://host/?api-version=1'}}\n",
        "gateway.yaml:1: providers.lab.base_url: "
        "expected a URL without ? and #; paths such as /chat/completions are appended to it",
    ),
    "an unknown kind": (
        "providers: {lab: {kind: opnai, base_url: 'http://host'}}\n",
        "gateway.yaml:1: providers.lab.kind: unknown kind; did you mean 'openai'?",
    ),
    "a name that is no preset": (
        "providers:\n  opnai: {api_key: x}\n",
        "gateway.yaml:2: providers.opnai: this name is no preset, so the entry needs a kind; did you mean 'openai'?",
    ),
    "the library's wire without the provider's name in it": (
        "providers: {a: {kind: litellm}}\n",
        "gateway.yaml:1: providers.a.prefix: is missing; expected a string",
    ),
    "embedding models of two wires on one alias": (
        "providers: {openai: {api_key: x}, google: {api_key: x}}\n"
        "models:\n  vectors: {deployments: [openai/embedding, google/embedding]}\n",
        "gateway.yaml:3: models.vectors.deployments: vectors of different embedding models cannot be mixed; expected one "
        "model, got 'openai/embedding', 'google/embedding'",
    ),
    "two embedding models in their long form": (
        "providers: {openai: {api_key: x}, together: {api_key: x}}\nmodels:\n  embedding:\n"
        "    deployments: [{provider: openai, model: embedding}, {provider: together, model: embedding}]\n",
        "gateway.yaml:4: models.embedding.deployments: vectors of different embedding models cannot be mixed; expected one "
        "model, got 'embedding', 'embedding'",
    ),
    "a setting that no request may have": (
        "providers:\n  openai:\n    api_key: x\n    settings: {temperature: hot}\n",
        "gateway.yaml:4: providers.openai.settings.temperature: no request may have this: Invalid type for 'temperature': "
        "expected a decimal, but got a string instead.",
    ),
    "a setting that steers": (
        "providers: {ollama: }\nmodels:\n  a:\n    deployments: [{provider: ollama, model: b, settings: {api_key: x}}]\n",
        "gateway.yaml:4: models.a.deployments[0].settings.api_key: steers calls and cannot be sent; credentials and addresses "
        "belong to the provider",
    ),
    "a field that can never be let through": (
        "providers: {ollama: }\nmodels:\n  a:\n    deployments: [{provider: ollama, model: b, allowed_extra: [api_base]}]\n",
        "gateway.yaml:4: models.a.deployments[0].allowed_extra[0]: can never be let through",
    ),
    "an option that is no text": (
        "providers:\n  anthropic:\n    api_key: x\n    options: {a: [1]}\n",
        "gateway.yaml:4: providers.anthropic.options.a: expected a string, got a list",
    ),
    "a fact that is no number": (
        "providers:\n  openai:\n    api_key: x\n    models: {gpt-9: {context_window: big}}\n",
        "gateway.yaml:4: providers.openai.models.gpt-9.context_window: expected an integer from 1, got 'big'",
    ),
    "the wire of OpenAI without an endpoint": (
        "providers: {lab: {kind: openai, api_key: x}}\n",
        "gateway.yaml:1: providers.lab.base_url: is missing; expected a URL such as https://host/v1",
    ),
    "a local model that looks like an option": (
        "providers: {local: {kind: llamacpp, models: {-x: {path: a.gguf}}}}\n",
        "gateway.yaml:1: providers.local.models.-x: "
        "expected a name that begins with a letter or digit and has no spaces or other signs than ._-",
    ),
    "a local model with a line break at its end": (
        'providers: {local: {kind: llamacpp, models: {"x\\n": {path: a.gguf}}}}\n',
        "gateway.yaml:1: providers.local.models['x\\n']: "
        "expected a name that begins with a letter or digit and has no spaces or other signs than ._-",
    ),
    "true for a number": (
        "server: {port: true}\n",
        "gateway.yaml:2: server.port: expected an integer from 0 to 65535, got true",
    ),
    "true for a number of a local model": (
        "providers: {local: {kind: llamacpp, models: {smollm2: {parallel: yes}}}}\n",
        "gateway.yaml:1: providers.local.models.smollm2.parallel: expected an integer from 1 to 256, got true",
    ),
    "true for seconds": (
        "models: {small: {deployments: [{provider: lab, model: x, timeouts: {connect_seconds: true}}]}}\n",
        "gateway.yaml:2: models.small.deployments[0].timeouts.connect_seconds: "
        "expected a number above 0 up to 86400, got true",
    ),
    "a data directory with a NUL": (
        'server: {data_dir: "a\\0b"}\n',
        "gateway.yaml:2: server.data_dir: expected a path without NUL and half characters",
    ),
    "a path with a NUL": (
        'providers: {local: {kind: llamacpp, models: {x: {path: "a\\0b"}}}}\n',
        "gateway.yaml:1: providers.local.models.x.path: expected a path without NUL and half characters",
    ),
    "an unknown key that looks like a secret": (
        "providers: {openai: {sk-hush1: x}}\n",
        "gateway.yaml:1: providers.openai.…: unknown key; "
        "expected one of: settings, max_input_tokens, max_output_tokens, api_key, headers, classes, "
        "image_settings, refuses, price_map, models, max_batch_inputs, max_batch_tokens, kind, base_url, streams_usage, embeds_base64, token_field",
    ),
    "a long unknown key": (
        "providers: {openai: {abcdefghijklmnopqrstu: x}}\n",
        "gateway.yaml:1: providers.openai.…: unknown key; "
        "expected one of: settings, max_input_tokens, max_output_tokens, api_key, headers, classes, "
        "image_settings, refuses, price_map, models, max_batch_inputs, max_batch_tokens, kind, base_url, streams_usage, embeds_base64, token_field",
    ),
    "no provider": (
        "providers: {}\n",
        "gateway.yaml:1: providers: must not be empty",
    ),
    "a number that is none": (
        "server: {grace_seconds: .nan}\n",
        "gateway.yaml:2: server.grace_seconds: expected a finite number",
    ),
}


@pytest.mark.parametrize(("text", "line"), CASES.values(), ids=CASES.keys())
def test_a_mistake_is_told_in_one_line(complain, text: str, line: str) -> None:
    whole = text if text.startswith("providers") else PROVIDERS + text

    lines = complain(whole)

    assert lines == [line]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(complain) -> None:
    text = dedent("""\
        server: {port: abc}
        auth:
          keys:
            - {name: app, key: "${APP_KEY}", models: [chatt]}
        providers:
          opnai: {}
          local: {kind: llamacpp}
        models:
          chat: {deployments: [opnai/x, loca/smollm2], strategy: fastest}
    """)

    lines = complain(text)

    assert lines == [
        "gateway.yaml:1: server.port: expected an integer from 0 to 65535, got 'abc'",
        "gateway.yaml:4: auth.keys[0].key: the environment variable APP_KEY is not set; "
        "${APP_KEY:-…} would give it a default",
        "gateway.yaml:4: auth.keys[0].models[0]: unknown model 'chatt'; did you mean 'chat'?",
        "gateway.yaml:6: providers.opnai: this name is no preset, so the entry needs a kind; did you mean 'openai'?",
        "gateway.yaml:9: models.chat.strategy: expected one of: priority, weighted, least_busy, lowest_latency, got 'fastest'",
        "gateway.yaml:9: models.chat.deployments[1]: unknown provider 'loca/smollm2'; did you mean 'local'?",
    ]


def test_true_for_a_number_is_told_beside_other_mistakes(complain) -> None:
    lines = complain("server: {workers: true, prot: 1}\nproviders: {ollama: }")

    assert lines == [
        "gateway.yaml:1: server.prot: unknown key; did you mean 'port'?",
        "gateway.yaml:1: server.workers: expected an integer from 1 to 256, got true",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "providers: {openai: {api_key: [hush-1]}}",
        "providers: {openai: {api_key: hush-1, headers: {X: [hush-2]}}}",
        "providers: {openai: {api_kye: hush-1}}",
        "providers: {openai: {api_key: 'hush 1'}}",
        'providers: {openai: {api_key: x, headers: {X: "hush-1\\n"}}}',
        "providers: {openai: hush-1}",
        "providers: {openai: {hush-1: x}}",
        "providers: {openai: {hush-hush-hush-hush-hush: }}",
        "providers: {openai: {classes: {hush-1: x}}}",
        "providers: {local: {kind: llamacpp, models: {smollm2: {hush-1: x}}}}",
        "{auth: {keys: [{name: a, hush-1: x}]}, providers: {ollama: }}",
        "providers: {lab: {kind: openai, base_url: 'http://u:hush-1@h/v1'}}",
        "{auth: {keys: [{name: a, key: hush-1}, {name: b, key: hush-1}]}, providers: {ollama: }}",
        "{auth: {keys: [{name: a, key: 'hush 1'}]}, providers: {ollama: }}",
        "{auth: {keys: [hush-1]}, providers: {ollama: }}",
        "{auth: {keys: hush-1}, providers: {ollama: }}",
        "{redis: {url: [hush-1]}, providers: {ollama: }}",
        "{redis: hush-1, providers: {ollama: }}",
        "{store: {url: 5, key: hush-1}, providers: {ollama: }}",
        "auth: {keys: [{name: a, key: *hush-1}]}",
    ],
)
def test_a_secret_is_never_told(complain, text: str) -> None:
    lines = complain(text)

    assert "hush" not in "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "{server: {port: '${HUSH}'}, providers: {ollama: }}",
        "{server: {workers: 'x${HUSH}'}, providers: {ollama: }}",
        "providers: {a: {kind: '${HUSH}'}}",
        "{models: {a: {deployments: ['${HUSH}/x']}}, providers: {ollama: }}",
        "{models: {a: {deployments: [{provider: '${HUSH}', model: x}]}}, providers: {ollama: }}",
        "{models: {a: {deployments: [local/x], strategy: '${HUSH}'}}, providers: {local: {kind: llamacpp}}}",
        "{models: {embedding: {deployments: ['local/minilm', 'ollama/${HUSH}']}}, "
        "providers: {ollama: , local: {kind: llamacpp}}}",
        "{auth: {keys: [{name: a, key: b, models: ['${HUSH}']}]}, providers: {ollama: }}",
        "{server: {host: '${HUSH}'}, providers: {ollama: }}",
    ],
)
def test_the_value_of_a_variable_is_never_told(complain, text: str) -> None:
    lines = complain(text, {"HUSH": "sk-hush-value"})

    assert "sk-hush" not in "\n".join(lines)
