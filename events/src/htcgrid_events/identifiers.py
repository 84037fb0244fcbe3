"""How sessions, tasks and buckets are named."""

import uuid

BUCKET_SIZE = 128
"""Chunks per bucket. A bucket is one partition key of the chunks table and one row of the account, so this bounds
both the writes on a key and the size of the row that counts them (under 3 KB, see docs/adr/0003)."""


def new_id() -> str:
    """A random id of 32 hexadecimal digits, for a session or a subscriber."""
    return uuid.uuid4().hex


def task_id(session_id: str, index: int) -> str:
    """The id of the task with this index (0..N-1) in its session."""
    return f"{session_id}_{index}"


def bucket_of(chunk: int) -> int:
    """The number of the bucket in which a chunk lies."""
    return chunk // BUCKET_SIZE
