"""A streamed reply of images: where it departs from streams of text."""

from __future__ import annotations

from types import TracebackType

from gateway.providers.stream import StreamReply


class ImageStream(StreamReply):
    """An open stream of images; without partial ones its first event is its last."""

    __slots__ = ()

    def _raise_failure_before_content(self) -> None:
        if not self._first:
            self._raise_failure()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            if not self._content.is_eof():  # a caller that has its image may leave while the end is awaited
                self._response.close()
