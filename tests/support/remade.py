"""Real models with one thing more than they were trained for, so that all of an engine can be asked.

What they answer means nothing, but every part that a real one of its kind uses is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy

_BY_THE_WRITER = frozenset({"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture"})


def make_reranker(source: Path, target: Path, *, place: int = 0, factor: float = 1.0) -> Path:
    """Write the BERT at `source` with a head: the score is `factor` times the number at `place` of the first vector."""
    reader = gguf.GGUFReader(source)
    head = numpy.zeros((1, int(reader.fields["bert.embedding_length"].contents())), dtype=numpy.float32)
    head[0, place] = factor
    tensors = {"cls.output.weight": head, "cls.output.bias": numpy.zeros(1, dtype=numpy.float32)}
    return _remake(reader, target, "bert", {"bert.pooling_type": int(gguf.PoolingType.RANK)}, tensors)


def make_filler(source: Path, target: Path, *, before: int = 4, after: int = 5, middle: int = 6) -> Path:
    """Write the llama at `source` with these tokens for the marks by which the middle of a text is filled in."""
    marks = {"pre": before, "suf": after, "mid": middle}
    values = {f"tokenizer.ggml.fim_{name}_token_id": number for name, number in marks.items()}
    return _remake(gguf.GGUFReader(source), target, "llama", values, {})


def _remake(
    reader: gguf.GGUFReader, target: Path, architecture: str, values: Mapping[str, int], tensors: Mapping[str, Any]
) -> Path:
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name in _BY_THE_WRITER or name in values:
            continue
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(name, field.contents())
        else:
            writer.add_key_value(name, field.contents(), field.types[0])
    for name, value in values.items():
        writer.add_uint32(name, value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for name, numbers in tensors.items():
        writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
