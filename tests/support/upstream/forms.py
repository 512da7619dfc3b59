"""The forms that one and the same server-sent event may have on the wire; all mean the same to a right reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class SseForm:
    """How events are written.

    `fields` are lines put before the data (`event: message`, `id: 7`, `retry: 10`). `comments` puts a comment block
    before each event and a comment line inside it. `multi_line` breaks the JSON over two data lines.
    """

    line_end: Literal["\n", "\r\n", "\r"] = "\n"
    space: bool = True
    byte_order_mark: bool = False
    comments: bool = False
    fields: tuple[str, ...] = ()
    multi_line: bool = False

    def write(self, payload: bytes, *, first: bool) -> bytes:
        """Return the event with this payload of one line; `first` says that it opens the stream."""
        lines = [b": a comment", b""] if self.comments else []
        lines += [field.encode() for field in self.fields]
        lines += [b"data:" + (b" " if self.space else b"") + piece for piece in self._pieces(payload)]
        lines += [b": another"] if self.comments else []
        mark = BYTE_ORDER_MARK if first and self.byte_order_mark else b""
        end = self.line_end.encode()
        return mark + end.join(lines) + end + end

    def _pieces(self, payload: bytes) -> tuple[bytes, ...]:
        # After its opening brace JSON may hold a line break, which is what two data lines are joined by.
        return (payload[:1], payload[1:]) if self.multi_line and payload.startswith(b"{") else (payload,)


FORMS: dict[str, SseForm] = {
    "lf": SseForm(),
    "crlf": SseForm(line_end="\r\n"),
    "cr": SseForm(line_end="\r"),
    "byte order mark": SseForm(byte_order_mark=True),
    "comments": SseForm(comments=True),
    "event, id and retry fields": SseForm(fields=("event: message", "id: 7", "retry: 10")),
    "a field without a colon": SseForm(fields=("event",)),
    "data on two lines": SseForm(multi_line=True),
    "no space after the colon": SseForm(space=False),
    "everything at once": SseForm(
        line_end="\r\n",
        space=False,
        byte_order_mark=True,
        comments=True,
        fields=("event: message", "id"),
        multi_line=True,
    ),
}
