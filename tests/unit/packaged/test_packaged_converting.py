"""A sentence BERT becomes a GGUF file that llama.cpp reads as the same model."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy
import pytest
from gguf import GGUFReader, dequantize

from gateway.packaged import PackagedModelError
from gateway.packaged.convert import convert_sentence_bert, read_safetensors, tensor_name
from tests.unit.packaged.tiny_packages import HIDDEN, VOCABULARY, bert_files, tiny_bert


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    written = {}
    for name, raw in bert_files().items():
        written[name] = tmp_path / name
        written[name].write_bytes(raw)
    return written


def converted(files: dict[str, Path], **options: str) -> GGUFReader:
    target = files["config.json"].with_name("out.gguf")
    convert_sentence_bert(files, target, title="Tiny", licence="Apache-2.0", **options)  # type: ignore[arg-type]
    return GGUFReader(target)


def test_the_tensors_are_those_of_bert_and_no_others(files: dict[str, Path]) -> None:
    reader = converted(files)

    names = {tensor.name for tensor in reader.tensors}
    parts = ("attn_q", "attn_k", "attn_v", "attn_output", "attn_output_norm", "ffn_up", "ffn_down", "layer_output_norm")
    layer = {f"blk.0.{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    norms = {"token_embd_norm.weight", "token_embd_norm.bias"}
    assert names == layer | norms | {"token_embd.weight", "position_embd.weight", "token_types.weight"}


@pytest.mark.parametrize(("weights", "error"), [("q8_0", 0.02), ("f16", 0.002)])
def test_the_weights_keep_their_values(files: dict[str, Path], weights: str, error: float) -> None:
    reader = converted(files, weights=weights)

    found = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    for name, values in tiny_bert().items():
        known = tensor_name(name)
        if known is not None:
            assert numpy.abs(found[known].reshape(values.shape) - values).max() < error


@pytest.mark.parametrize("name", ["position_embd.weight", "token_types.weight", "blk.0.attn_q.bias"])
def test_what_is_added_stays_exact(files: dict[str, Path], name: str) -> None:
    tensors = {tensor.name: tensor for tensor in converted(files).tensors}

    assert tensors[name].tensor_type.name == "F32"


def test_the_shape_and_the_pooling_are_told(files: dict[str, Path]) -> None:
    fields = converted(files).fields

    assert fields["general.architecture"].contents() == "bert"
    assert fields["bert.embedding_length"].contents() == HIDDEN
    assert fields["bert.context_length"].contents() == 16
    assert fields["bert.pooling_type"].contents() == 1
    assert fields["bert.attention.causal"].contents() is False
    assert fields["general.license"].contents() == "apache-2.0"


def test_words_are_marked_as_llama_cpp_expects_them(files: dict[str, Path]) -> None:
    fields = converted(files).fields

    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    assert tokens == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "\u2581bus",
        "es",
        "\u2581\u2028",
        "[unused0]",
        "\u2581a",
    ]
    assert [kind == 3 for kind in kinds] == [word.startswith("[") for word in VOCABULARY]
    assert fields["tokenizer.ggml.bos_token_id"].contents() == 2


def test_the_same_model_gives_the_same_bytes(files: dict[str, Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        convert_sentence_bert(files, tmp_path / name, title="Tiny", licence="MIT")

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_only_float_tensors_are_read(files: dict[str, Path]) -> None:
    read = dict(read_safetensors(files["model.safetensors"]))

    assert read.keys() == tiny_bert().keys()
    assert all(numpy.array_equal(read[name], values) for name, values in tiny_bert().items())


def test_a_header_that_is_too_long_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")

    with pytest.raises(PackagedModelError, match=r"model\.safetensors: its header"):
        list(read_safetensors(file))


@pytest.mark.parametrize(
    "name", ["pooler.dense.weight", "embeddings.position_ids", "encoder.layer.0.new.weight", "cls"]
)
def test_an_unknown_tensor_has_no_name(name: str) -> None:
    assert tensor_name(name) is None
