"""GetMetricData gives the newest value first, as AWS does unless it is asked otherwise.

MiniStack 1.5 gives the oldest first, whatever is asked. KEDA takes the first value for the newest.
"""

import json
from typing import Any

from ministack.services import cloudwatch

_oldest_first = cloudwatch._get_metric_data


def give_newest_first() -> None:
    """Make MiniStack obey the order that is asked for."""
    cloudwatch._get_metric_data = _in_order


def _in_order(params: Any, request: dict[str, Any], is_cbor: bool, is_json: bool = False) -> Any:
    if not (is_cbor or is_json) or request.get("ScanBy") == "TimestampAscending":
        return _oldest_first(params, request, is_cbor, is_json)
    _, _, body = _oldest_first(params, request, False, True)
    results = json.loads(body)["MetricDataResults"]
    for each in results:
        each["Timestamps"].reverse()
        each["Values"].reverse()
    if is_cbor:
        return cloudwatch._cbor_ok(
            {"MetricDataResults": [cloudwatch._cbor_metric_data_result(each) for each in results]}
        )
    return cloudwatch._json_ok({"MetricDataResults": results})
