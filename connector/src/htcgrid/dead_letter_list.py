"""The dead letters of a session as a list that a notebook shows as a table."""

from htcgrid_events import DeadLetter


class DeadLetters(list[DeadLetter]):
    """A list of `DeadLetter`. Made by `Session.dead_letters`."""

    def __repr__(self) -> str:
        from htcgrid_events.views import counted

        tasks = sum(len(letter.tasks) for letter in self)
        return f"<DeadLetters of {counted(tasks, 'task')}, {counted(len(self), 'letter')}>"

    def _repr_html_(self) -> str:
        from htcgrid_events.views import table_of_records

        return table_of_records(repr(self)[1:-1], [letter._details() for letter in self])
