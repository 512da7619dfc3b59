"""Fetching a GGUF file from the Hugging Face hub, with its own library, cache and progress bar.

huggingface_hub is an extra and imported here only, when something is fetched. The hub is HF_ENDPOINT; the token is
HF_TOKEN and goes to that host alone. What must not live here: what becomes of the file (`adding.py`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.packaged.errors import PackagedModelError

SCHEME = "hf:"
DEFAULT_ENDPOINT = "https://huggingface.co"
ANSWER_SECONDS = 30.0
EXPECTED = "expected hf:owner/repo/file.gguf"

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = re.compile(r"-00001-of-(\d{5})\.gguf$")
MOST_PARTS = 1000


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file on the hub: `repo` is owner/repo, `path` is inside of it."""

    repo: str
    path: str

    @property
    def source(self) -> str:
        return f"{SCHEME}{self.repo}/{self.path}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the paths of all files of the model: more than one where the name says that this is the first part."""
        found = _PART.search(self.path)
        count = int(found[1]) if found else 1
        if count > MOST_PARTS:
            raise PackagedModelError(f"{self.source}: a model in {count} parts is not fetched")
        return tuple(self.path.replace("-00001-of-", f"-{number:05d}-of-") for number in range(1, count + 1))


@dataclass(frozen=True, slots=True)
class Fetched:
    """`sha256` has what the hub says of each file, "" where it does not."""

    revision: str
    files: tuple[Path, ...]
    sha256: tuple[str, ...]


def parse_hub(source: str) -> HubFile:
    """Return what `source`, hf:owner/repo/file.gguf, names; raises PackagedModelError."""
    words = source.removeprefix(SCHEME).split("/")
    are_good = len(words) >= 3 and all(_WORD.fullmatch(word) and ".." not in word for word in words)
    if not are_good or not words[-1].endswith(".gguf"):
        raise PackagedModelError(f"{source}: {EXPECTED}")
    return HubFile("/".join(words[:2]), "/".join(words[2:]))


def fetch_from_hub(file: HubFile, revision: str, environ: Mapping[str, str]) -> Fetched:
    """Fetch all parts of `file` as of `revision`, a branch, tag or commit, into the hub's cache.

    Raises PackagedModelError; what was fetched in half is gone then.
    """
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    except ImportError as error:
        raise PackagedModelError(f"{file.source}: needs huggingface_hub (pip install 'one-gateway[hub]')") from error
    logging.getLogger("huggingface_hub").setLevel(
        logging.ERROR
    )  # what it warns of before it raises is told once, below
    endpoint = (environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    token = _token(file, endpoint, environ)
    files, digests = [], []
    with _explained(file, endpoint, has_token=bool(token)):
        for path in file.parts:
            url = hf_hub_url(file.repo, path, revision=revision, endpoint=endpoint)
            # Asked here first, as the download itself asks a hub that fails again and again for half a minute.
            known = get_hf_file_metadata(url, token=token, timeout=ANSWER_SECONDS, endpoint=endpoint)
            if not known.commit_hash or not _COMMIT.fullmatch(known.commit_hash):
                raise PackagedModelError(f"{file.source}: {endpoint} does not say which revision it has")
            revision = known.commit_hash  # so that all parts are of one
            files.append(
                Path(hf_hub_download(file.repo, path, revision=revision, token=token, endpoint=endpoint)).absolute()
            )
            digests.append(known.etag if known.etag and _SHA256.fullmatch(known.etag) else "")
    return Fetched(revision, tuple(files), tuple(digests))


def forget(file: Path) -> None:
    """Take a file out of the hub's cache that is not what the hub says, so that it is fetched anew; raises OSError."""
    blob = file.parent / file.readlink() if file.is_symlink() else file
    file.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


def _token(file: HubFile, endpoint: str, environ: Mapping[str, str]) -> str | bool:
    """Return what to send, False for nothing: the library would otherwise look for tokens of its own."""
    token = environ.get("HF_TOKEN", "").strip()
    if not token:
        return False
    where = urlsplit(endpoint)
    if where.scheme != "https" and where.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise PackagedModelError(f"{file.source}: HF_TOKEN is not sent to {endpoint}, which is not https; unset one")
    return token


@contextmanager
def _explained(file: HubFile, endpoint: str, *, has_token: bool) -> Iterator[None]:
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    host = urlsplit(endpoint).netloc or endpoint
    try:
        yield
    except HFValidationError as error:
        raise PackagedModelError(f"{file.source}: {EXPECTED} ({_line(error)})") from error
    except HfHubHTTPError as error:
        raise PackagedModelError(f"{file.source}: {_refusal(error, host, has_token)}") from error
    except (httpx.HTTPError, httpx.InvalidURL, LocalEntryNotFoundError, ConnectionError) as error:
        raise PackagedModelError(f"{file.source}: {host} cannot be reached ({_line(error)})") from error
    except (ValueError, RuntimeError) as error:  # its words for what is not as long as announced
        raise PackagedModelError(f"{file.source}: {_line(error)}") from error


def _refusal(error: Any, host: str, has_token: bool) -> str:
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else 0
    if status in (401, 403):
        remedy = "HF_TOKEN may not read it" if has_token else "a token in HF_TOKEN may help"
        return f"{host} does not give it ({status}): it does not exist, or needs an account's leave; {remedy}"
    if status == 404:
        return f"{host} has no such repository, revision or file"
    return f"{host} failed ({status or _line(error)}); try again later"


def _line(error: BaseException) -> str:
    """Return what an error says, in one line of bearable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
