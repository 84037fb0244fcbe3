"""What the chart of the nodes renders is what Karpenter's own definitions allow, and its wrong use is not."""

from copy import deepcopy
from typing import Any

import pytest
from eks.tests.node_rendering import WITH_KARPENTER, objects
from kubernetes.dynamic.exceptions import DynamicApiError

from tests.kubernetes.control_plane import Cluster
from tests.kubernetes.places import BUILT


@pytest.fixture(scope="module")
def definitions(cluster: Cluster) -> None:
    """Karpenter's kinds, those of its provider for AWS among them."""
    cluster.apply(BUILT / "definitions/karpenter")


def rendered(case: str) -> list[dict[str, Any]]:
    return [each for kind in objects(case).values() for each in kind.values()]


@pytest.mark.usefixtures("definitions")
@pytest.mark.parametrize("case", WITH_KARPENTER)
def test_the_api_server_takes_what_is_rendered(cluster: Cluster, case: str) -> None:
    applied = cluster.apply(rendered(case))

    assert len(applied) == len(rendered(case)) >= 2
    for asked, stored in zip(rendered(case), applied, strict=True):
        assert stored.spec.to_dict().keys() >= asked["spec"].keys()

    cluster.delete(rendered(case))


@pytest.mark.usefixtures("definitions")
def test_what_karpenter_forbids_is_refused_here_too(cluster: Cluster) -> None:
    node_class = deepcopy(objects("cluster")["EC2NodeClass"]["agents"])
    node_class["spec"]["subnetSelectorTerms"] = []
    with pytest.raises(DynamicApiError, match="subnetSelectorTerms cannot be empty"):
        cluster.apply([node_class])

    node_pool = deepcopy(objects("cluster")["NodePool"]["agents"])
    node_pool["spec"]["template"]["spec"]["taint"] = []
    with pytest.raises(DynamicApiError, match="field not declared in schema"):
        cluster.apply([node_pool])
