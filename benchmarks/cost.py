"""What a run would have cost on AWS: what was counted, by the prices in `prices.json`."""

import json
from collections import Counter
from pathlib import Path
from typing import Final

_PRICES: Final[dict[str, float]] = {
    name: price
    for name, price in json.loads((Path(__file__).parent / "prices.json").read_text(encoding="utf-8")).items()
    if isinstance(price, float)
}
_READS: Final = ("DynamoDB GetItem", "DynamoDB BatchGetItem", "DynamoDB Query")
_POLLS_PER_CALL: Final = 2
"""Lambda receives and deletes the messages of the events queue by itself: two requests that nobody sees here."""
_CALL_GB_SECONDS: Final = 0.512 * 0.030
"""A call of a function, assumed: 512 MB for 30 ms. This machine's own times would say more about it than about AWS."""


def dollars(requests: Counter[str], charges: Counter[str]) -> dict[str, float]:
    """By service. Compute time of agents, storage, the workflow (per session) and traffic are not among it."""
    calls = charges["calls of functions"]
    return {
        "DynamoDB": charges["write units"] * _PRICES["dynamodb write unit"]
        + sum(requests[name] for name in _READS) * _PRICES["dynamodb read unit"],
        "SQS": (_count(requests, "AmazonSQS") + _POLLS_PER_CALL * calls) * _PRICES["sqs request"],
        "Lambda": calls * (_PRICES["lambda request"] + _CALL_GB_SECONDS * _PRICES["lambda GB-second"]),
        "API Gateway": _count(requests, "execute-api") * _PRICES["api request"],
        "S3": requests["s3 PUT"] * _PRICES["s3 put"] + requests["s3 GET"] * _PRICES["s3 get"],
    }


def _count(requests: Counter[str], service: str) -> int:
    return sum(count for name, count in requests.items() if name.startswith(f"{service} "))
