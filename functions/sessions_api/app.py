"""The HTTP API: sessions, their chunks and outcomes, and push tickets. Rules live in `htcgrid_controlplane`."""

import base64
import math
import os
from http import HTTPStatus
from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from aws_lambda_powertools.utilities.typing import LambdaContext

from htcgrid_chunks.errors import ChunkStoreError
from htcgrid_controlplane.errors import (
    ControlPlaneError,
    DataConflict,
    DataInUse,
    DataMissing,
    DataNotFound,
    NotAllowed,
    PartitionDraining,
    PartRefused,
    PayloadExists,
    QuotaExceeded,
    SessionClosed,
    SessionConflict,
    SessionNotFound,
    TaskNotFound,
    UnknownPartition,
    UnknownStore,
)
from htcgrid_controlplane.observability import control_plane, count, logger, observed
from htcgrid_controlplane.rules.payload_paths import payload_key
from htcgrid_controlplane.rules.request_faults import (
    PAYLOAD_TYPE,
    RequestUnreadable,
    check_body,
    check_part,
    check_query,
    check_token,
    parse_json,
    sentence_of,
)
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.services.relay import Upload
from htcgrid_dataplane import DataPlaneError, PayloadCorrupt, PayloadMissing
from htcgrid_events import (
    VERSION,
    AddChunks,
    After,
    BucketNumber,
    CancelledSessions,
    CancelSessions,
    ChunkNumber,
    ChunkPage,
    CreateSession,
    DataDeleted,
    DataPage,
    DataPlace,
    DataRecord,
    DeadLetterPage,
    DeadLettersDone,
    Digest,
    ErrorBody,
    GridInfo,
    OutcomePage,
    PartOffset,
    PayloadName,
    PayloadSize,
    PurgeTasks,
    PushTicket,
    PutData,
    RedriveTasks,
    SessionAccepted,
    SessionId,
    SessionPage,
    SessionState,
    SessionStatus,
    StoreName,
    SubscriberId,
    TaskIndex,
    TaskInput,
    TaskRecord,
    UploadName,
    UploadPlaces,
    UploadRequest,
    Written,
)

app = APIGatewayHttpResolver(enable_validation=True, json_body_deserializer=parse_json)
grid = control_plane()

_STATUS_OF: dict[type[Exception], HTTPStatus] = {
    SessionNotFound: HTTPStatus.NOT_FOUND,
    TaskNotFound: HTTPStatus.NOT_FOUND,
    SessionConflict: HTTPStatus.CONFLICT,
    SessionClosed: HTTPStatus.CONFLICT,
    UnknownPartition: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnknownStore: HTTPStatus.UNPROCESSABLE_ENTITY,
    PartRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    PayloadExists: HTTPStatus.PRECONDITION_FAILED,
    PayloadMissing: HTTPStatus.NOT_FOUND,
    PayloadCorrupt: HTTPStatus.UNPROCESSABLE_ENTITY,
    PartitionDraining: HTTPStatus.CONFLICT,
    NotAllowed: HTTPStatus.FORBIDDEN,
    DataNotFound: HTTPStatus.NOT_FOUND,
    DataMissing: HTTPStatus.CONFLICT,
    DataConflict: HTTPStatus.CONFLICT,
    DataInUse: HTTPStatus.CONFLICT,
}


def _known_query(resolver: APIGatewayHttpResolver, next_middleware: NextMiddleware) -> Response[Any]:
    """Refuse parameters that the route does not know: their sender expects an effect that they would not have."""
    known = {parameter.alias for parameter in resolver.context["_route"].dependant.query_params}
    check_query(resolver.current_event.query_string_parameters, known)
    return next_middleware(resolver)


app.use([_known_query])


@app.put("/sessions/<session_id>")
def create_session(session_id: Annotated[SessionId, Path()], request: CreateSession) -> SessionAccepted:
    """Create a session with its first chunks."""
    session = grid.submissions.create(_tenant(), session_id, request)
    _count_submitted(request)
    return session.accepted()


@app.post("/sessions/<session_id>/chunks")
def add_chunks(session_id: Annotated[SessionId, Path()], request: AddChunks) -> SessionAccepted:
    """Add chunks to a session; with totals, close it."""
    session = grid.submissions.add(_tenant(), session_id, request)
    _count_submitted(request)
    return session.accepted()


@app.get("/sessions/<session_id>")
def get_session(session_id: Annotated[SessionId, Path()]) -> SessionStatus:
    """A session and its account."""
    return grid.queries.status(grid.queries.session(_tenant(), session_id))


@app.get("/sessions")
def list_sessions(
    state: Annotated[SessionState | None, Query()] = None, before: Annotated[str | None, Query(max_length=64)] = None
) -> SessionPage:
    """The tenant's sessions, newest first."""
    return grid.queries.sessions_of(_tenant(), state, before)


@app.post("/sessions/cancel")
def cancel_sessions(request: CancelSessions) -> Response[CancelledSessions]:
    """Cancel the open tasks of several sessions."""
    answer = grid.lifecycle.cancel_many(_tenant(), request.session_ids)
    return Response(status_code=HTTPStatus.ACCEPTED, content_type="application/json", body=answer)


@app.post("/sessions/<session_id>/pause")
def pause_session(session_id: Annotated[SessionId, Path()]) -> Response[SessionStatus]:
    """Hold the chunks of a session that wait."""
    return _accepted(grid.pausing.pause(_tenant(), session_id))


@app.post("/sessions/<session_id>/resume")
def resume_session(session_id: Annotated[SessionId, Path()]) -> Response[SessionStatus]:
    """Resume a session."""
    return _accepted(grid.pausing.resume(_tenant(), session_id))


@app.post("/sessions/<session_id>/cancel")
def cancel_session(session_id: Annotated[SessionId, Path()]) -> Response[SessionStatus]:
    """Cancel the open tasks of a session."""
    return _accepted(grid.lifecycle.cancel(_tenant(), session_id))


@app.get("/sessions/<session_id>/buckets/<bucket>/chunks")
def get_chunks(
    session_id: Annotated[SessionId, Path()],
    bucket: Annotated[BucketNumber, Written, Path()],
    after: Annotated[After, Written, Query()] = -1,
) -> ChunkPage:
    """Chunks of one bucket as they are now."""
    return grid.queries.chunk_page(_tenant(), session_id, bucket, after)


@app.get("/sessions/<session_id>/buckets/<bucket>/outcomes")
def get_outcomes(
    session_id: Annotated[SessionId, Path()],
    bucket: Annotated[BucketNumber, Written, Path()],
    after: Annotated[After, Written, Query()] = -1,
) -> OutcomePage:
    """Finished chunks of one bucket."""
    return grid.queries.outcomes(_tenant(), session_id, bucket, after)


@app.get("/sessions/<session_id>/tasks/<index>")
def get_task(session_id: Annotated[SessionId, Path()], index: Annotated[TaskIndex, Written, Path()]) -> TaskRecord:
    """The record of one task."""
    return grid.queries.task(_tenant(), session_id, index)


@app.get("/sessions/<session_id>/tasks/<index>/event")
def get_task_event(session_id: Annotated[SessionId, Path()], index: Annotated[TaskIndex, Written, Path()]) -> TaskInput:
    """What one task was given."""
    return grid.queries.task_input(_tenant(), session_id, index)


@app.get("/sessions/<session_id>/dead-letters")
def get_dead_letters(
    session_id: Annotated[SessionId, Path()],
    bucket: Annotated[BucketNumber, Written, Query()] = 0,
    after: Annotated[After, Written, Query()] = -1,
) -> DeadLetterPage:
    """Tasks that failed for good."""
    return grid.dead_letters.page(_tenant(), session_id, bucket, after)


@app.post("/sessions/<session_id>/dead-letters/redrive")
def redrive(session_id: Annotated[SessionId, Path()], request: RedriveTasks) -> DeadLettersDone:
    """Run dead letters again."""
    done = grid.redrives.redrive(_tenant(), session_id, request)
    count("TasksRedriven", done.tasks)
    return done


@app.post("/sessions/<session_id>/dead-letters/purge")
def purge(session_id: Annotated[SessionId, Path()], request: PurgeTasks) -> DeadLettersDone:
    """Forget dead letters."""
    return grid.dead_letters.purge(_tenant(), session_id, request)


@app.post("/sessions/<session_id>/uploads")
def create_uploads(session_id: Annotated[SessionId, Path()], request: UploadRequest) -> UploadPlaces:
    """Places for inputs too large for a request."""
    return grid.relay.places(_tenant(), session_id, request.sizes)


@app.get("/payloads/<session_id>/<kind>/<name>")
def get_payload(
    session_id: Annotated[SessionId, Path()],
    kind: Annotated[Literal["inputs", "results"], Path()],
    name: Annotated[PayloadName, Path()],
    store: Annotated[StoreName, Query()],
    size: Annotated[PayloadSize, Written, Query()],
    offset: Annotated[PartOffset, Written, Query()] = 0,
) -> Response[Any]:
    """A part of a payload, from an offset on."""
    part = grid.relay.read(payload_key(_tenant(), session_id, kind, name), store, size, offset)
    # The framework takes bytes for text when it looks over an answer.
    answer = Response[Any](status_code=HTTPStatus.OK, content_type=PAYLOAD_TYPE, body=base64.b64encode(part).decode())
    answer.base64_encoded = True
    return answer


@app.put("/payloads/<session_id>/inputs/<chunk>")
def put_payload(
    session_id: Annotated[SessionId, Path()],
    chunk: Annotated[ChunkNumber, Written, Path()],
    store: Annotated[StoreName, Query()],
    size: Annotated[PayloadSize, Written, Query()],
    offset: Annotated[PartOffset, Written, Query()],
    upload: Annotated[UploadName, Query()],
) -> Response[Any]:
    """Put a part of the inputs of a chunk; the last one completes them."""
    event = app.current_event
    part = check_part(event.headers, event.body, is_base64=bool(event.is_base64_encoded))
    grid.relay.write(_tenant(), Upload(session_id, chunk, store, size, upload), offset, part)
    return Response(status_code=HTTPStatus.NO_CONTENT, body="")


@app.put("/data/<sha256>")
def put_data(sha256: Annotated[Digest, Path()], request: PutData) -> DataPlace:
    """A place for data that tasks share."""
    return grid.shared_data.put(_tenant(), sha256, request)


@app.post("/data/<sha256>/complete")
def complete_data(sha256: Annotated[Digest, Path()]) -> DataRecord:
    """Let shared data be there that was uploaded."""
    return grid.shared_data.complete(_tenant(), sha256)


@app.get("/data")
def list_data(after: Annotated[Digest | None, Query()] = None) -> DataPage:
    """The tenant's shared data."""
    return grid.shared_data.page(_tenant(), after)


@app.get("/data/<sha256>")
def get_data(sha256: Annotated[Digest, Path()]) -> DataRecord:
    """Shared data, with a link to it."""
    return grid.shared_data.get(_tenant(), sha256)


@app.delete("/data/<sha256>")
def delete_data(
    sha256: Annotated[Digest, Path()], force: Annotated[Literal["true", "false"], Query()] = "false"
) -> DataDeleted:
    """Delete shared data."""
    return grid.shared_data.delete(_tenant(), sha256, force=force == "true")


@app.put("/sessions/<session_id>/subscribers/<subscriber_id>")
def follow_session(
    session_id: Annotated[SessionId, Path()], subscriber_id: Annotated[SubscriberId, Path()]
) -> SessionStatus:
    """Let a push connection follow a session."""
    return grid.queries.status(grid.queries.follow(_tenant(), session_id, subscriber_id))


@app.put("/subscribers/<subscriber_id>")
def create_ticket(subscriber_id: Annotated[SubscriberId, Path()]) -> PushTicket:
    """A ticket for one push connection."""
    return grid.subscribers.issue_ticket(subscriber_id, _tenant(), grid.clock())


@app.get("/grid")
def get_grid() -> GridInfo:
    """What a client may know of this grid."""
    return GridInfo(
        version=VERSION,
        region=os.environ["AWS_REGION"],
        partitions=tuple(sorted(grid.known_partitions.names)),
        notification_topic=grid.settings.notification_topic,
        tenant=_tenant(),
        now=grid.clock(),
        store=grid.stores.noted,
    )


@app.exception_handler(RequestValidationError)  # type: ignore[untyped-decorator]
def refuse_invalid(error: RequestValidationError) -> Response[ErrorBody]:
    """Say which field is wrong, and what is legal, in one sentence."""
    faults = error.errors()
    return _error(HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidRequest", sentence_of(faults))


@app.exception_handler(RequestUnreadable)  # type: ignore[untyped-decorator]
def refuse_unreadable(error: RequestUnreadable) -> Response[ErrorBody]:
    """Say what the request should have been."""
    return _error(error.status, error.name, str(error))


@app.exception_handler(RecursionError)  # type: ignore[untyped-decorator]
def refuse_nested(_: RecursionError) -> Response[ErrorBody]:
    """JSON can be nested deeper than a parser goes."""
    return _error(HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidRequest", "The request is nested too deeply.")


@app.exception_handler(QuotaExceeded)  # type: ignore[untyped-decorator]
def refuse_for_now(error: QuotaExceeded) -> Response[ErrorBody]:
    """Say when to ask again."""
    count("RequestsAboveQuota", 1)
    answer = _error(HTTPStatus.TOO_MANY_REQUESTS, type(error).__name__, str(error))
    answer.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after.total_seconds())))
    return answer


@app.exception_handler([ControlPlaneError, ChunkStoreError, DataPlaneError])  # type: ignore[untyped-decorator]
def refuse(error: ControlPlaneError | ChunkStoreError | DataPlaneError) -> Response[ErrorBody]:
    """Give an error of the control plane its status; those that may pass are the server's fault."""
    status = _STATUS_OF.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("request failed", exc_info=error)
    return _error(status, type(error).__name__, str(error))


@app.not_found
def refuse_unknown(_: Exception) -> Response[ErrorBody]:
    """Answer requests for paths that do not exist."""
    return _error(HTTPStatus.NOT_FOUND, "NoSuchPath", f"There is no {app.current_event.path} in this API.")


def _accepted(session: Session) -> Response[SessionStatus]:
    status = grid.queries.status(session)
    return Response(status_code=HTTPStatus.ACCEPTED, content_type="application/json", body=status)


def _error(status: HTTPStatus, name: str, message: str) -> Response[ErrorBody]:
    return Response(
        status_code=status,
        content_type="application/json",
        body=ErrorBody(error=name, message=message).model_dump_json(),  # type: ignore[arg-type]
    )


def _tenant() -> str:
    """The tenant is the signed-in user, as the authorizer verified it: nothing that the client can choose."""
    return str(_claims(app.current_event.raw_event)["sub"])


def _claims(event: dict[str, Any]) -> dict[str, str]:
    claims: dict[str, str] = event["requestContext"]["authorizer"]["jwt"]["claims"]
    return claims


def _count_submitted(request: AddChunks) -> None:
    count("ChunksSubmitted", len(request.chunks))
    count("TasksSubmitted", sum(chunk.size for chunk in request.chunks))


def _brings_part(event: dict[str, Any]) -> bool:
    """Whether the body of a request is no JSON but bytes of a payload: its route looks at them."""
    method = event["requestContext"]["http"]["method"]
    return method == "PUT" and str(event["rawPath"]).startswith("/payloads/")


@observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request."""
    headers = event.get("headers", {})
    try:
        check_token(_claims(event))
        if _brings_part(event):
            return app.resolve(event, context)
        check_body(headers, event.get("body"), is_base64=event.get("isBase64Encoded", False))
    except RequestUnreadable as error:
        return {
            "statusCode": error.status,
            "headers": {"Content-Type": "application/json"},
            "body": ErrorBody(error=error.name, message=str(error)).model_dump_json(),
        }
    # What is left is JSON. The framework compares the text.
    return app.resolve({**event, "headers": {**headers, "content-type": "application/json"}}, context)
