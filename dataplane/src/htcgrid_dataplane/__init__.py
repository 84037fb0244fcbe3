"""The data plane of HTC-Grid: payloads too large for a row or a message, in stores behind one interface.

`htcgrid_dataplane.s3` holds the S3 store; it is imported by name, since it needs boto3.
"""

from htcgrid_dataplane.encoding import (
    MAX_ENCODED_BYTES,
    MAX_EXPANDED_BYTES,
    decode_lines,
    decoded_size,
    encode_lines,
    iterate_lines,
    lines_memory,
    pick_lines,
)
from htcgrid_dataplane.errors import (
    DataPlaneError,
    PayloadCorrupt,
    PayloadMissing,
    PayloadTooLarge,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
)
from htcgrid_dataplane.store import (
    DEFAULT_STORE,
    RELAY_PART_BYTES,
    NotedStores,
    PayloadLinks,
    PayloadRelay,
    PayloadStore,
    TendedStore,
    data_key,
    input_key,
    result_key,
)

__all__ = [
    "DEFAULT_STORE",
    "MAX_ENCODED_BYTES",
    "MAX_EXPANDED_BYTES",
    "RELAY_PART_BYTES",
    "DataPlaneError",
    "NotedStores",
    "PayloadCorrupt",
    "PayloadLinks",
    "PayloadMissing",
    "PayloadRelay",
    "PayloadStore",
    "PayloadTooLarge",
    "StoreFull",
    "StoreMisconfigured",
    "StoreUnavailable",
    "TendedStore",
    "data_key",
    "decode_lines",
    "decoded_size",
    "encode_lines",
    "input_key",
    "iterate_lines",
    "lines_memory",
    "pick_lines",
    "result_key",
]
