"""The ASGI application: MiniStack's own, behind the gate and what concerns single requests."""

import asyncio
import importlib
import json
import threading
from typing import Any

from ministack.app import app as ministack

from . import (
    authorisations,
    counting,
    function_credentials,
    function_errors,
    functions,
    gate,
    invocation_logs,
    layers,
    long_requests,
    metrics,
    permissions,
    queues,
    refusals,
    stacks,
    statements,
    user_pools,
    workflows,
)

functions.fit_to_machine()
function_credentials.make_random()
function_errors.name_errors()
invocation_logs.end_with_invocations()
counting.watch_charges()
statements.read_once()
refusals.refuse_as_dynamodb_does()
queues.answer_at_once()
layers.unpack_once()
permissions.authorise_as_aws_does()
metrics.give_newest_first()
stacks.keep_what_is_needed()
authorisations.note_permissions()
user_pools.obey_template()
long_requests.refuse()
workflows.evaluate_timeouts()
# What a deployment needs, imported while the deployer itself still starts.
threading.Thread(target=importlib.import_module, args=["samtranslator.translator.transform"], daemon=True).start()


async def _behind_gate(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer one request that may be answered."""
    if scope["type"] != "http":
        await ministack(scope, receive, send)
        return
    match scope["path"]:
        case "/_htcgrid/ready":
            await ministack(scope | {"path": "/_ministack/ready"}, receive, send)
        case "/_htcgrid/warm":
            await _answer(send, await asyncio.to_thread(functions.warm))
        case "/_htcgrid/requests":
            await _answer(send, counting.counted())
        case "/_htcgrid/charges":
            await _answer(send, counting.charged())
        case "/_htcgrid/permissions":
            await _answer(send, authorisations.permissions())
        case _:
            counting.count(scope)
            # The template's resource policies refuse requests without TLS. Here all speak plain HTTP, on the loopback
            # alone, which is as private: so it counts as secure transport, and the template needs no exception.
            secure = {"headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}
            await ministack(scope | secure, receive, send)


app = gate.guarded(_behind_gate)


async def _answer(send: Any, content: dict[str, str] | dict[str, int] | list[dict[str, str]]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})
