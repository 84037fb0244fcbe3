"""The sizes that bound a request, a row and a message, with the quota behind each."""

MAX_TASK_BYTES = 6 * 1024 * 1024
"""Largest event or result of one task, as JSON: the synchronous payload of AWS Lambda ("Lambda quotas"), 6 MB."""

INLINE_BYTES = 8 * 1024
"""Largest encoded input or result of a chunk that lies in its row. A row is written three times (insert, claim,
finish) at a write unit per KB, so above a few KB an object in the data plane is cheaper; see docs/adr/0004."""

MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""Largest body of a request to the API: below Lambda's 6 MB payload with room for its envelope."""

MAX_CHUNKS_PER_REQUEST = 512
"""Most chunks in one request: their rows are inserted within the API's 29 s with a wide margin."""

MAX_TASKS_PER_CHUNK = 1_000
"""Most tasks in one chunk."""

MAX_CHUNKS = 2_000_000
"""Most chunks in one session: what ends it walks through its buckets, so their number must have an end."""

MAX_CHUNKS_AHEAD = 4_096
"""How far the number of a chunk may lie beyond the chunks that its session holds: eight full requests on their way at
once, in any order. Whoever reads a session walks over all numbers below its highest, so holes have to be few."""

MAX_TASKS = MAX_CHUNKS * MAX_TASKS_PER_CHUNK
"""Most tasks in one session."""

MAX_STORED_BYTES = 257 * 1024 * 1024
"""Largest encoded input or result of a chunk in the data plane: a chunk's text has 256 MiB at most, and encoding adds
little to what does not compress. Whoever reads a payload reads no more, so that none fills its reader's memory."""

RELAY_PART_BYTES = 4 * 1024 * 1024
"""Largest part of a payload in one request or answer of the API: in base64, as API Gateway and Lambda pass it on, below
the 6 MB of a Lambda function's request and answer ("Lambda quotas")."""

MAX_PUSH_BYTES = 120 * 1024
"""Largest push frame: "Amazon API Gateway quotas" allow 128 KB a WebSocket message."""

MAX_DATA_BYTES = 5 * 1024**3
"""Largest shared data, 5 GiB: S3 copies no more at once ("Amazon S3 API Reference", CopyObject)."""

MAX_DATA_NAME_BYTES = 255
"""Longest name of shared data in UTF-8: the longest of a file on Linux (NAME_MAX)."""

MAX_DATA_PER_REQUEST = 100
"""Most shared data to which one request refers: DynamoDB reads as many rows at once (BatchGetItem)."""
