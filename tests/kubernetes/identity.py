"""What EKS runs on each node for Pod Identity: it gives AWS credentials for the token of a pod, and to nobody else."""

import json
import subprocess
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from kubernetes import client

ADDRESS: Final = "169.254.170.23"
AUDIENCE: Final = "pods.eks.amazonaws.com"


class PodIdentity:
    """Serves the credentials of one service account at the address that EKS gives it. `start` it once."""

    def __init__(self, api: client.ApiClient, account: str, credentials: Mapping[str, str]) -> None:
        """`account` is NAMESPACE:NAME; `credentials` are the variables of a session."""
        self.given = 0
        """How often credentials were given."""
        self._reviews = client.AuthenticationV1Api(api)
        self._user = f"system:serviceaccount:{account}"
        self._answer = json.dumps(
            {
                "AccessKeyId": credentials["AWS_ACCESS_KEY_ID"],
                "SecretAccessKey": credentials["AWS_SECRET_ACCESS_KEY"],
                "Token": credentials["AWS_SESSION_TOKEN"],
                "Expiration": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            }
        ).encode()

    def start(self) -> None:
        """Take the address and answer there."""
        subprocess.run(["ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo"], check=True)
        identity = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                allowed = self.path == "/v1/credentials" and identity._knows(self.headers.get("Authorization", ""))
                self.send_response(HTTPStatus.OK if allowed else HTTPStatus.UNAUTHORIZED)
                self.end_headers()
                if allowed:
                    identity.given += 1
                    self.wfile.write(identity._answer)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer((ADDRESS, 80), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def _knows(self, token: str) -> bool:
        """Whether the API server says that the token is one for Pod Identity, of a pod of the service account."""
        if not token:
            return False
        review = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token, audiences=[AUDIENCE]))
        status = self._reviews.create_token_review(review).status
        if status is None or status.user is None or not status.authenticated:
            return False
        return AUDIENCE in (status.audiences or []) and status.user.username == self._user
