"""PartiQL statements read once: the grid says the same few over and over, with other parameters."""

import functools

from ministack.services import _dynamodb_keywords as keywords


def read_once() -> None:
    """Remember the words of a statement's text, which MiniStack would take apart twice for each of a batch."""
    keywords._tokenize = functools.lru_cache(maxsize=256)(keywords._tokenize)
