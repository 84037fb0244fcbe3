"""Sessions by the beginnings of their ids, as progress bars and commands show them."""

from typing import TYPE_CHECKING

from htcgrid._follow.pages import session_pages
from htcgrid.errors import InvalidOption, SessionNotFound
from htcgrid.options import ID_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from htcgrid._transport.api import Api


async def whole_ids(api: "Api", given: "Iterable[str]") -> list[str]:
    """The ids of sessions of which the ids or their beginnings are given. Only beginnings cost a request, which lists
    the user's sessions.

    Raises:
        SessionNotFound: no session of the user begins like this.
        InvalidOption: several do; names two of them.
    """
    wanted = list(given)
    found: dict[str, list[str]] = {each: [] for each in wanted if len(each) < ID_LENGTH}
    if found:
        async for page in session_pages(api, None, None):
            for beginning, ids in found.items():
                ids += [each.session_id for each in page if each.session_id.startswith(beginning)]
    return [the_one(each, found[each]) if each in found else each for each in wanted]


def the_one(beginning: str, ids: list[str]) -> str:
    """The only one of these ids. Raises as `whole_ids` does."""
    if not ids:
        raise SessionNotFound(beginning)
    if len(ids) > 1:
        raise InvalidOption(
            f"several sessions begin with {beginning}, such as {' and '.join(ids[:2])}: give more digits"
        )
    return ids[0]
