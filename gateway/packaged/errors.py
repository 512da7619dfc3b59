"""The one failure of this room."""


class PackagedModelError(Exception):
    """A packaged model cannot be had; the text is one line for the person who asked for it."""
