"""A streamed reply of images: where it departs from streams of text."""

from __future__ import annotations

from gateway.providers.stream import StreamReply


class ImageStream(StreamReply):
    """An open stream of images; without partial ones its first event is its last."""

    __slots__ = ()

    async def wait_for_content(self) -> None:
        """Return at once: every event has a picture or is the end."""

    def _raise_failure_before_content(self) -> None:
        if not self._first:
            self._raise_failure()
