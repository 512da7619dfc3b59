"""How much of one event of a stream has arrived: litellm would hold whatever comes until it ends.

Pure: counts bytes. What an event says is not looked at.
"""

from __future__ import annotations

from gateway.errors import UpstreamTooLarge

MAX_EVENT_BYTES = 16 * 1024 * 1024
_BLANK_LINES = (b"\n\n", b"\n\r\n", b"\r\r")
# Of AWS: their frames say their size, and botocore takes none of more than 24 MiB. Told by what was asked, for any
# upstream may call its answer what it likes.
_FRAMED = ("/converse-stream", "/invoke-with-response-stream")


class EventMeter:
    """Counts what arrived since the latest event ended, in the answer to a request for `path`.

    Lines that are events of their own are counted together: no stream of such is nearly as long.
    """

    __slots__ = ("_is_framed", "_pending", "_tail")

    def __init__(self, path: str = "") -> None:
        self._is_framed = path.endswith(_FRAMED)
        self._pending = 0
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        """Take in the next bytes; raises UpstreamTooLarge for an event of more than MAX_EVENT_BYTES."""
        if self._is_framed:
            return
        seen = self._tail + piece
        end = max(place + len(blank) if (place := seen.rfind(blank)) >= 0 else 0 for blank in _BLANK_LINES)
        self._pending = len(seen) - end if end > len(self._tail) else self._pending + len(piece)
        self._tail = seen[-2:]
        if self._pending > MAX_EVENT_BYTES:
            raise UpstreamTooLarge("The upstream sent an event that is too large.", code="event_too_large")
