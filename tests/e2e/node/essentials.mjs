// What every program with an OpenAI client does, done by the npm package openai; prints one JSON object, a result for
// each case. The cases and their words are those of tests/e2e/sdk3/essentials.py; what the results must be is said once,
// in tests/e2e/test_sdk_others.py.

import OpenAI from "openai";
import { VERSION } from "openai/version";

const MODEL = "small";
const HELLO = [{ role: "user", content: "Say hello." }];
const TOKENS = [7592, 2088];

const SCHEMA = {
  type: "object",
  properties: { yes: { type: "boolean" }, reason: { type: "string" } },
  required: ["yes", "reason"],
  additionalProperties: false,
};

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return { chunks };
}

async function failure(ask) {
  try {
    await ask();
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    return {
      class: error.constructor.name,
      status: error.status,
      type: error.type,
      code: error.code,
      param: error.param,
      message: error.message,
      request_id: error.requestID,
    };
  }
  return null;
}

const CASES = {
  async chat(client) {
    const { data, response } = await client.chat.completions
      .create({ model: MODEL, messages: HELLO, max_tokens: 12 })
      .withResponse();
    const choice = data.choices[0];
    return {
      object: data.object,
      role: choice.message.role,
      content: choice.message.content,
      finish_reason: choice.finish_reason,
      prompt_tokens: data.usage.prompt_tokens,
      completion_tokens: data.usage.completion_tokens,
      header: response.headers.get("x-request-id"),
      request_id: data._request_id,
      deployment: response.headers.get("x-gateway-deployment"),
    };
  },

  async stream(client) {
    return collect(
      await client.chat.completions.create({ model: MODEL, messages: HELLO, max_tokens: 12, stream: true }),
    );
  },

  async stream_usage(client) {
    return collect(
      await client.chat.completions.create({
        model: MODEL,
        messages: HELLO,
        max_tokens: 12,
        stream: true,
        stream_options: { include_usage: true },
      }),
    );
  },

  async stream_helper(client) {
    const deltas = [];
    const stream = client.chat.completions
      .stream({ model: MODEL, messages: HELLO, temperature: 0, stop: ["."] })
      .on("content", (delta) => deltas.push(delta));
    const final = await stream.finalChatCompletion();
    const message = final.choices[0].message;
    return {
      deltas: deltas.join(""),
      role: message.role,
      content: message.content,
      finish_reason: final.choices[0].finish_reason,
    };
  },

  async json_schema(client) {
    const completion = await client.chat.completions.parse({
      model: MODEL,
      messages: [{ role: "user", content: "Is water wet? Give a reason of three words." }],
      response_format: { type: "json_schema", json_schema: { name: "answer", strict: true, schema: SCHEMA } },
      max_tokens: 200,
      temperature: 0,
    });
    return JSON.parse(completion.choices[0].message.content);
  },

  async logprobs(client) {
    const completion = await client.chat.completions.create({
      model: MODEL,
      messages: HELLO,
      max_tokens: 4,
      logprobs: true,
      top_logprobs: 2,
    });
    return completion.choices[0].logprobs.content;
  },

  async several_choices(client) {
    const completion = await client.chat.completions.create({ model: MODEL, messages: HELLO, max_tokens: 6, n: 2 });
    return completion.choices.map((choice) => ({ index: choice.index, content: choice.message.content }));
  },

  async legacy_completion(client) {
    const completion = await client.completions.create({ model: MODEL, prompt: "Once upon a time", max_tokens: 6 });
    return { object: completion.object, text: completion.choices[0].text };
  },

  async embeddings(client) {
    const input = ["a red apple", "the sea at night"];
    const packed = await client.embeddings.create({ model: "embedding", input });
    const plain = await client.embeddings.create({ model: "embedding", input, encoding_format: "float" });
    return {
      packed: packed.data.map((item) => Array.from(item.embedding)),
      plain: plain.data.map((item) => item.embedding),
      indices: packed.data.map((item) => item.index),
      prompt_tokens: packed.usage.prompt_tokens,
    };
  },

  async embeddings_of_tokens(client) {
    const one = await client.embeddings.create({ model: "embedding", input: TOKENS });
    const several = await client.embeddings.create({ model: "embedding", input: [TOKENS, TOKENS.slice(0, 1)] });
    return {
      one: one.data.map((item) => Array.from(item.embedding)),
      several: several.data.map((item) => Array.from(item.embedding)),
    };
  },

  async models(client) {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    return { names, one: (await client.models.retrieve("small")).id };
  },

  async unknown_model(client) {
    return failure(() => client.chat.completions.create({ model: "nowhere", messages: HELLO }));
  },

  async unknown_model_in_list(client) {
    return failure(() => client.models.retrieve("no/where at all"));
  },

  async bad_role(client) {
    const messages = [{ role: "boss", content: "Say hello." }];
    return failure(() => client.chat.completions.create({ model: MODEL, messages }));
  },

  async over_the_window(client) {
    const messages = [{ role: "user", content: "word ".repeat(20_000) }];
    const headers = { "x-gateway-truncation": "refuse" };
    return failure(() => client.chat.completions.create({ model: MODEL, messages }, { headers }));
  },

  async left_early(client) {
    const stream = await client.chat.completions.create({
      model: MODEL,
      messages: HELLO,
      max_tokens: 4000,
      stream: true,
      ignore_eos: true,
    });
    let seen = null;
    for await (const chunk of stream) {
      seen = chunk.object;
      break;
    }
    return { seen, next: await CASES.chat(client) };
  },

  async together(client) {
    const asked = Array.from({ length: 4 }, () =>
      client.chat.completions.create({ model: MODEL, messages: HELLO, max_tokens: 8 }),
    );
    return (await Promise.all(asked)).map((completion) => completion.choices[0].message.content);
  },
};

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0, timeout: 60_000 });
const results = { version: { value: VERSION } };
for (const [name, run] of Object.entries(CASES)) {
  try {
    results[name] = { value: await run(client) };
  } catch (error) {
    results[name] = { error: `${error.constructor.name}: ${error.message}` };
  }
}
process.stdout.write(JSON.stringify(results));
