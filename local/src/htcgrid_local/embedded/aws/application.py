"""The ASGI application: MiniStack's own, in front of it what concerns single requests."""

import asyncio
import importlib
import json
import threading
from typing import Any

from ministack.app import app as ministack

from . import (
    counting,
    function_errors,
    functions,
    invocation_logs,
    layers,
    permissions,
    queues,
    refusals,
    statements,
    workflows,
)

functions.fit_to_machine()
function_errors.name_errors()
invocation_logs.end_with_invocations()
counting.watch_charges()
statements.read_once()
refusals.refuse_as_dynamodb_does()
queues.answer_at_once()
layers.unpack_once()
permissions.authorise_batches_as_aws_does()
workflows.evaluate_timeouts()
# What a deployment needs, imported while the deployer itself still starts.
threading.Thread(target=importlib.import_module, args=["samtranslator.translator.transform"], daemon=True).start()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer one request."""
    if scope["type"] == "http" and scope["path"] == "/_htcgrid/warm":
        await _answer(send, await asyncio.to_thread(functions.warm))
        return
    if scope["type"] == "http" and scope["path"] == "/_htcgrid/requests":
        await _answer(send, counting.counted())
        return
    if scope["type"] == "http" and scope["path"] == "/_htcgrid/charges":
        await _answer(send, counting.charged())
        return
    if scope["type"] == "http":
        counting.count(scope)
        # The template's resource policies refuse requests without TLS. Here all speak plain HTTP, on the loopback
        # alone, which is as private: so it counts as secure transport, and the template needs no exception.
        scope = scope | {"headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}
    await ministack(scope, receive, send)


async def _answer(send: Any, content: dict[str, str] | dict[str, int]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})
