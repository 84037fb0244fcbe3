"""The chart of what runs beside agents, rendered and applied, and clients with its rights."""

from pathlib import Path
from typing import Any, Final

import helm_python
import yaml
from kubernetes import client

from tests.kubernetes.control_plane import Cluster
from tests.kubernetes.places import ROOT

CHART: Final = ROOT / "eks/chart/htcgrid-controllers"
RELEASE: Final = "controllers"
ACCOUNT: Final = f"{RELEASE}-deletion-cost"
"""The service account of the deletion-cost controller."""
DRAINERS: Final = "htcgrid:node-drainer"
"""The group of the node drainer's access entry."""


def render(namespace: str, **values: Any) -> list[dict[str, Any]]:
    """All objects of a release.

    Raises:
        HelmError: the values are refused.
    """
    with helm_python.Chart.load(Path(CHART)) as chart:
        texts = chart.render(values, name=RELEASE, namespace=namespace)
    return [each for text in texts.values() for each in yaml.safe_load_all(text) if each]


def as_group(cluster: Cluster, group: str) -> client.ApiClient:
    """A client of somebody who is in this group and has no other rights."""
    api = client.ApiClient(cluster.api.configuration)
    api.default_headers["Impersonate-User"] = "arn:aws:sts::123456789012:assumed-role/somebody/session"
    api.default_headers["Impersonate-Group"] = group
    return api


def may(api: client.ApiClient, verb: str, resource: str, namespace: str = "kube-system") -> bool:
    """Is whoever has this client allowed to do that?"""
    name, _, subresource = resource.partition("/")
    attributes = client.V1ResourceAttributes(
        verb=verb, resource=name, subresource=subresource or None, namespace=namespace
    )
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
    status = client.AuthorizationV1Api(api).create_self_subject_access_review(review).status
    return bool(status and status.allowed)
