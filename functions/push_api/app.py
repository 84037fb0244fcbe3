"""The WebSocket API: opens push connections with tickets, and answers pings."""

from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, Field, ValidationError

from htcgrid_controlplane.errors import TicketRefused
from htcgrid_controlplane.observability import control_plane, count, logger, observed
from htcgrid_events import PingFrame, PongFrame

grid = control_plane()


class _RequestContext(BaseModel):
    route: str = Field(alias="routeKey")
    connection_id: str = Field(alias="connectionId")


class _WebSocketEvent(BaseModel):
    context: _RequestContext = Field(alias="requestContext")
    query: dict[str, str] | None = Field(default=None, alias="queryStringParameters")
    body: str | None = None


@observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Deal with one connection request or message."""
    request = _WebSocketEvent.model_validate(event)
    if request.context.route == "$connect":
        return {"statusCode": _connect(request)}
    return {"statusCode": _answer(request)}


def _connect(request: _WebSocketEvent) -> HTTPStatus:
    try:
        grid.subscribers.connect((request.query or {}).get("ticket", ""), request.context.connection_id, grid.clock())
    except TicketRefused:
        # The metric says enough: strangers are not to fill the log.
        count("ConnectionsRefused", 1)
        return HTTPStatus.UNAUTHORIZED
    count("ConnectionsOpened", 1)
    return HTTPStatus.OK


def _answer(request: _WebSocketEvent) -> HTTPStatus:
    try:
        PingFrame.model_validate_json(request.body or "")
    except ValidationError:
        logger.warning("message refused", connection_id=request.context.connection_id)
        return HTTPStatus.BAD_REQUEST
    grid.push.post(request.context.connection_id, PongFrame().model_dump_json().encode())
    return HTTPStatus.OK
