"""A sentence-embedding BERT from its safetensors file to GGUF, with numpy and gguf, 0.7 s for MiniLM.

The result equals that of llama.cpp's own converter, which needs torch and transformers. Both libraries are imported here
and only when a model is converted. What must not live here: fetching, or any other architecture.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gateway.packaged.errors import PackagedModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Weights = Literal["q8_0", "f16"]

WORD_START = "\u2581"  # how llama.cpp's WordPiece marks a token that begins a word
PIECE_PREFIX = "##"  # how the vocabulary file marks one that continues a word
LARGEST_HEADER_BYTES = 16 << 20

_EMBEDDING_NAMES = {
    "word_embeddings": "token_embd",
    "position_embeddings": "position_embd",
    "token_type_embeddings": "token_types",
    "LayerNorm": "token_embd_norm",
}
_LAYER_NAMES = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_UNQUANTISED = ("position_embd.weight", "token_types.weight")  # added to activations, never multiplied
_SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "bos": "[CLS]", "eos": "[SEP]", "sep": "[SEP]", "mask": "[MASK]"}


def convert_sentence_bert(
    files: Mapping[str, Path], target: Path, *, title: str, licence: str, weights: Weights = "q8_0"
) -> None:
    """Write the model in `files` (config.json, vocab.txt, model.safetensors) to `target`; raises PackagedModelError."""
    try:
        import gguf
    except ImportError as error:
        raise PackagedModelError(
            f"converting needs numpy and gguf (pip install 'one-gateway[local]'): {error}"
        ) from error
    config = json.loads(files["config.json"].read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(target, "bert")
    _write_shape(writer, config, title, licence, weights)
    _write_vocabulary(writer, _lines(files["vocab.txt"]), config)
    for name, values in read_safetensors(files["model.safetensors"]):
        _add_tensor(writer, name, values, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_safetensors(file: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the name and the values of each float32 tensor; raises PackagedModelError."""
    import numpy

    with file.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        if size > LARGEST_HEADER_BYTES:
            raise PackagedModelError(f"{file.name}: its header cannot be {size} bytes long")
        header = json.loads(stream.read(size))
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        values = numpy.fromfile(file, dtype="<f4", count=(end - begin) // 4, offset=8 + size + begin)
        yield name, values.reshape(entry["shape"])


def tensor_name(name: str) -> str | None:
    """Return GGUF's name for a tensor of BERT, None for one that embeddings do not need (the pooler, buffers)."""
    base, _, suffix = name.rpartition(".")
    room, _, rest = base.partition(".")
    if room == "embeddings" and rest in _EMBEDDING_NAMES:
        return f"{_EMBEDDING_NAMES[rest]}.{suffix}"
    if base.startswith("encoder.layer."):
        number, _, part = base.removeprefix("encoder.layer.").partition(".")
        if part in _LAYER_NAMES:
            return f"blk.{number}.{_LAYER_NAMES[part]}.{suffix}"
    return None


def _write_shape(writer: Any, config: Mapping[str, Any], title: str, licence: str, weights: Weights) -> None:
    import gguf

    writer.add_type("model")
    writer.add_name(title)
    writer.add_license(licence.lower())
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    kinds = {"q8_0": gguf.LlamaFileType.MOSTLY_Q8_0, "f16": gguf.LlamaFileType.MOSTLY_F16}
    writer.add_file_type(kinds[weights])


def _write_vocabulary(writer: Any, words: list[str], config: Mapping[str, Any]) -> None:
    import gguf

    special = [word.startswith("[") and word.endswith("]") for word in words]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([word if keep else _token(word) for word, keep in zip(words, special, strict=True)])
    writer.add_token_types([gguf.TokenType.CONTROL if keep else gguf.TokenType.NORMAL for keep in special])
    writer.add_token_type_count(config["type_vocab_size"])
    numbers = {word: number for number, word in enumerate(words)}
    for role, word in _SPECIAL_TOKENS.items():
        getattr(writer, f"add_{role}_token_id")(numbers[word])


def _lines(file: Path) -> list[str]:
    # Not splitlines(): tokens may be characters that it takes for the end of a line.
    return file.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _token(word: str) -> str:
    return word.removeprefix(PIECE_PREFIX) if word.startswith(PIECE_PREFIX) else WORD_START + word


def _add_tensor(writer: Any, name: str, values: NDArray[np.float32], weights: Weights) -> None:
    import gguf
    import numpy

    known = tensor_name(name)
    if known is None:
        return
    if values.ndim == 1 or known in _UNQUANTISED:
        writer.add_tensor(known, values)
    elif weights == "q8_0":
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(known, gguf.quants.quantize(values, kind), raw_dtype=kind)
    else:
        writer.add_tensor(known, values.astype(numpy.float16))
