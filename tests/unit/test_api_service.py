"""The API server's own Service."""

from __future__ import annotations

from testbed.cluster.api_service import API_PORT, is_api_service
from testbed.cluster.kinds import ENDPOINT_SLICE, ENDPOINTS, SERVICE
from testbed.cluster.loop_settings import LoopSettings
from testbed.cluster.objects import object_name
from testbed.cluster.view import cluster_state
from tests.unit.cluster_objects import service
from tests.unit.living_cluster import Cluster

SETTINGS = LoopSettings(api_service=True)
KINDS = (SERVICE, ENDPOINTS, ENDPOINT_SLICE)


def there(cluster):
    return [[object_name(wire) for wire in cluster.store.list(kind).items] for kind in KINDS]


def test_it_leads_to_the_first_node_at_the_first_address():
    with Cluster(settings=SETTINGS) as cluster:
        cluster.settle()
        assert there(cluster) == [["kubernetes"]] * 3  # nobody mirrors its Endpoints
        [port] = cluster_state(cluster.objects()).service_ports
        assert (str(port.cluster_ip), port.service_port) == ("10.96.0.1", 443)
        [endpoint] = port.endpoints
        assert (str(endpoint.endpoint_ip), endpoint.target_port) == ("192.168.1.11", API_PORT)


def test_what_is_deleted_of_it_is_made_again():
    with Cluster([service("other")], settings=SETTINGS) as cluster:
        cluster.settle()
        before = cluster.store.get(SERVICE, "kubernetes")["metadata"]["uid"]
        for kind in KINDS:
            for name in map(object_name, cluster.store.list(kind).items):
                cluster.store.delete(kind, name)
        cluster.settle()
        assert there(cluster) == [["kubernetes"]] * 3
        assert cluster.store.get(SERVICE, "kubernetes")["metadata"]["uid"] != before


def test_a_persons_own_service_of_that_name_is_left_alone():
    with Cluster([service("kubernetes")], settings=SETTINGS) as cluster:
        cluster.settle()
        assert cluster.store.get(SERVICE, "kubernetes")["spec"]["selector"]
        assert "subsets" not in cluster.store.get(ENDPOINTS, "kubernetes")


def test_an_experiment_has_none():
    with Cluster() as cluster:
        cluster.settle()
        assert there(cluster) == [[]] * 3


def test_it_is_told_from_a_service_that_a_person_calls_so():
    with Cluster(settings=SETTINGS) as cluster:
        cluster.settle()
        assert is_api_service(cluster.store.get(SERVICE, "kubernetes"))
    for other in (service("kubernetes"), service("kubernetes", "shop"), service("web")):
        assert not is_api_service(other)
