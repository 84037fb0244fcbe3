"""How records look: one line in a console, a small table in a notebook. Whatever a user wrote is escaped."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape

from htcgrid_events.escaping import visible


class Shown:
    """A record that tells in a line what one wants to know of it, and the rest in a table."""

    def _summary(self) -> str:
        """What one wants to know first, in one line."""
        raise NotImplementedError

    def _details(self) -> Mapping[str, object]:
        """The rows of its table, by their names."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return visible(f"<{type(self).__name__} {self._summary()}>")

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        return table_of(f"{type(self).__name__} {self._summary()}", self._details())


def shortened(text: str, longest: int = 100) -> str:
    """A text, or the beginning of one that is longer."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as `1 task` or `1,000 tasks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def moment(timestamp_ms: int | None) -> str:
    """A moment as a text, such as `2026-01-31 08:00:00 UTC`; a dash for none."""
    return f"{datetime.fromtimestamp(timestamp_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC" if timestamp_ms else "-"


def table_of(title: str, rows: Mapping[str, object]) -> str:
    """A table of two columns, as HTML."""
    lines = "".join(f"<tr>{_cell(name)}{_cell(value)}</tr>" for name, value in rows.items())
    return f"<b>{escape(visible(title))}</b><table>{lines}</table>"


def table_of_records(title: str, records: Iterable[Mapping[str, object]], *, longest: int = 60) -> str:
    """A table with a row for each record, as HTML; of very many the first ones."""
    shown = list(records)
    names = list(dict.fromkeys(name for record in shown for name in record))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_cell(record.get(name, '')) for name in names)}</tr>" for record in shown[:longest])
    rest = f"<i>and {len(shown) - longest:,} more</i>" if len(shown) > longest else ""
    return f"<b>{escape(visible(title))}</b><table><tr>{head}</tr>{body}</table>{rest}"


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return f"<td style='text-align:left'>{escape(visible(text))}</td>"
