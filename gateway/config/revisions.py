"""What changes when another model stands behind a deployment's name, so that no vector of the former is taken for its own.

Only what can be known without asking anybody: where the far side is, or which file a local model runs.
"""

from __future__ import annotations

from pathlib import Path

from gateway.packaged import HUB_SCHEME, PackagedModelError, Record, find_by_source, read_record
from gateway.providers import HostedSettings, LiteLLMSettings, LlamaCppSettings, LocalModelSettings, OpenAISettings


def revision_of(entry: HostedSettings | LlamaCppSettings, model: str, models_dir: Path) -> str:
    """Return the revision of a provider's model; of local ones that embed, the file is looked at."""
    if isinstance(entry, OpenAISettings):
        return entry.base_url
    if isinstance(entry, LiteLLMSettings):
        return f"{entry.prefix} {entry.base_url or ''}"
    local = entry.models.get(model) if isinstance(entry, LlamaCppSettings) else None
    if local is None or not local.embedding:
        return ""
    return f"{_print_of(local, model, models_dir)} {local.too_long} {local.context_window or ''}"


def _print_of(local: LocalModelSettings, model: str, models_dir: Path) -> str:
    """Return what tells the file of a local model from others: its digest where that is written down."""
    if local.path and not local.path.startswith(HUB_SCHEME):
        try:
            known = Path(local.path).stat()
        except OSError:  # it is said of the model when it is to run
            return local.path
        return f"{local.path} {known.st_size} {known.st_mtime_ns}"
    record = _record_of(local, model, models_dir)
    return " ".join(file.sha256 for file in record.files) if record is not None else ""


def _record_of(local: LocalModelSettings, model: str, models_dir: Path) -> Record | None:
    try:
        return find_by_source(local.path, models_dir) if local.path else read_record(model, models_dir)
    except PackagedModelError:  # likewise
        return None
