"""Ingresses as servers and locations, the configuration as text, and what people hear of mistakes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cluster.ingress.controllers import ingress_addresses, is_controller
from testbed.cluster.ingress.default_class import default_class_admission
from testbed.cluster.ingress.endpoints import endpoints_text
from testbed.cluster.ingress.nginx import Files, configuration
from testbed.cluster.ingress.values import Backend, Match
from testbed.cluster.kinds import INGRESS_CLASS
from testbed.cluster.store import Store
from testbed.spec.manifests import pod_template, read_manifests
from tests.unit.cluster_objects import endpoint_slice
from tests.unit.ingress_objects import CLASS, findings, ingress, path, rule, translated

ADDONS = Path(__file__).parents[2] / "testbed" / "addons"
FILES = Files(
    "/run/ingress-nginx/x",
    "/lua",
    lambda key: f"/run/ingress-nginx/certificates/{'own' if key is None else key[1]}.pem",
)


def _hosts(*ingresses: dict[str, Any], **options: Any) -> dict[str, list[str]]:
    """By host, the owners of its locations."""
    servers = translated(*ingresses, **options).servers
    return {server.host: [location.owner for location in server.locations] for server in servers if server.locations}


def test_one_of_everything(golden: Callable[[str, str], None]) -> None:
    translation = translated(
        ingress(
            "shop",
            rule("shop.example", path("Prefix", "/", "web", "http"), path("Exact", "/admin/", "web", 8080)),
            rule("*.shop.example", path("Prefix", "/api", "api")),
            tls=[{"hosts": ["shop.example"], "secretName": "tls"}],
            age=3,
        ),
        ingress(
            "rewriting",
            rule("old.example", path("ImplementationSpecific", r"/v\d+(/|$)(.*)", "api")),
            annotations={"nginx.rewrite-target": "/$2"},
        ),
        ingress("beside", rule("old.example", path("Prefix", "/plain.", "web"), path("Prefix", "/gone", "missing"))),
        ingress("rest", defaultBackend={"service": {"name": "other", "port": {"number": 80}}}),
    )
    golden("ingress/nginx.conf", configuration(translation.servers, FILES)[0])
    assert findings(translation) == [("default/beside", "ServiceNotFound", "Service default/missing does not exist")]


def test_classes() -> None:
    one = rule("a.example", path("Prefix", "/", "web"))
    default = {
        **CLASS,
        "metadata": {"name": "mine", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
    }
    foreign = {**CLASS, "metadata": {"name": "haproxy"}, "spec": {"controller": "haproxy.org/ingress"}}
    bare = ingress("bare", one)
    del bare["spec"]["ingressClassName"]
    assert _hosts(ingress("named", one)) == {"a.example": ["default/named"]}
    assert _hosts(ingress("named", one, ingressClassName="haproxy"), classes=(CLASS, foreign)) == {}
    assert _hosts(bare, classes=(CLASS, default)) == {"a.example": ["default/bare"]}
    assert findings(translated(bare)) == [
        (
            "default/bare",
            "NotServed",
            "No Ingress controller takes this Ingress: "
            "it names no ingressClassName, and no IngressClass is the default",
        )
    ]
    assert "there is no IngressClass other" in findings(translated(ingress("x", one, ingressClassName="other")))[0][2]
    annotated = {**bare, "metadata": {**bare["metadata"], "annotations": {"kubernetes.io/ingress.class": "nginx"}}}
    assert _hosts(annotated, classes=()) == {"a.example": ["default/bare"]}


def test_an_ingress_without_class_is_given_the_default_one() -> None:
    store = Store(admission=default_class_admission())
    one = rule("a.example", path("Prefix", "/", "web"))
    bare = ingress("bare", one)
    del bare["spec"]["ingressClassName"]
    default = {"ingressclass.kubernetes.io/is-default-class": "true"}

    def class_of(name: str, **metadata: Any) -> str | None:
        wire = {**bare, "metadata": {"name": name, **metadata}}
        given: str | None = store.create(wire)["spec"].get("ingressClassName")
        return given

    store.create(CLASS)
    assert class_of("before") is None
    store.patch(INGRESS_CLASS, "nginx", {"metadata": {"annotations": default}})
    assert class_of("after") == "nginx"
    assert class_of("annotated", annotations={"kubernetes.io/ingress.class": "haproxy"}) is None
    assert store.create(ingress("named", one, ingressClassName="other"))["spec"]["ingressClassName"] == "other"
    store.delete(INGRESS_CLASS, "nginx")
    assert class_of("later") is None


def test_the_older_of_two_ingresses_has_a_path() -> None:
    young = ingress("young", rule("a.example", path("Prefix", "/x/", "api"), path("Prefix", "/y", "api")))
    old = ingress("old", rule("a.example", path("Prefix", "/x", "web"), path("Exact", "/y", "web")), age=5)
    translation = translated(young, old)
    (server,) = (one for one in translation.servers if one.host == "a.example")
    assert {location.match: location.owner for location in server.locations} == {
        Match("exact", "/x"): "default/old",
        Match("prefix", "/x/"): "default/old",
        Match("exact", "/y"): "default/old",
        Match("prefix", "/y/"): "default/young",
    }
    message = 'host "a.example" and path "/x/" is already defined in ingress default/old'
    assert findings(translation) == [("default/young", "HostPathConflict", message)]


def test_mistakes_are_told_and_the_rest_works() -> None:
    bad = ingress(
        "bad",
        rule("fine.example", path("Prefix", "/", "web")),
        rule("not a host", path("Prefix", "/", "web")),
        rule("a.example", path("Prefix", "/p", "web", 81), path("Prefix", "/q", "web", "nothing")),
        rule("b.example", path("Exact", "no-slash", "web"), {"pathType": "Prefix", "path": "/r", "backend": {}}),
        tls=[{"hosts": ["fine.example"], "secretName": "missing"}],
        annotations={"nginx.proxy-body-size": "8m", "nginx.rewrite-target": "/; return 200", "nginx.use-regex": "yes"},
    )
    unreadable = ingress("unreadable", {"host": "c.example", "http": {"paths": ["text"]}})
    translation = translated(bad, unreadable, ingress("good", rule("d.example", path("Prefix", "/", "web"))))
    assert sorted(reason for _, reason, _ in findings(translation)) == [
        "AnnotationIgnored",
        "AnnotationIgnored",
        "AnnotationIgnored",
        "CertificateUnusable",
        "InvalidBackend",
        "InvalidHost",
        "InvalidIngress",
        "InvalidPath",
        "ServicePortNotFound",
        "ServicePortNotFound",
    ]
    told = [message for _, _, message in findings(translation)]
    assert "Service default/web has no TCP port 81" in told
    assert "Service default/web has no TCP port nothing" in told
    assert "Secret default/missing does not exist; the controller's own certificate is used" in told
    backends = {server.host: [one.backend for one in server.locations] for server in translation.servers}
    assert backends["fine.example"] == backends["d.example"] == [Backend("default", "web", 80, "http")]
    assert set(backends["a.example"]) == {None}


def test_a_certificate_without_hosts_is_for_all_of_the_ingress() -> None:
    rules = [rule(host, path("Prefix", "/", "web")) for host in ("a.example", "b.example")]
    translation = translated(ingress("one", *rules, tls=[{"secretName": "tls"}]))
    assert {server.host: server.certificate for server in translation.servers if server.host} == {
        "a.example": ("default", "tls"),
        "b.example": ("default", "tls"),
    }
    assert all(location.to_https for server in translation.servers for location in server.locations)


def test_ready_endpoints_of_the_named_port() -> None:
    web = endpoint_slice("web", "10.0.0.2", "10.0.0.1", "10.0.0.3")
    web["ports"] = [{"name": "http", "port": 8000}, {"name": "admin", "port": 9000}]
    web["endpoints"][2]["conditions"]["ready"] = False
    other = endpoint_slice("web", "10.0.0.9")
    slices = {("default", "web"): [web, other]}
    text = endpoints_text(
        {Backend("default", "web", 80, "http"), Backend("default", "gone", 80, "")},
        lambda key: slices.get(key, []),
    )
    assert text == "default/gone/80\ndefault/web/80 10.0.0.1:8000 10.0.0.2:8000\n"


@pytest.mark.parametrize(
    ("image", "is_one"),
    [
        ("registry.k8s.io/ingress-nginx/controller:v1.11.2@sha256:0", True),
        ("ingress-nginx/controller", True),
        ("quay.io/kubernetes-ingress-controller/nginx-ingress-controller:0.33.0", True),
        ("quay.io/metallb/controller:v0.14", False),
        ("nginx", False),
    ],
)
def test_controllers_are_known_by_their_image(image: str, is_one: bool) -> None:
    assert is_controller({"spec": {"containers": [{"name": "controller", "image": image}]}}) is is_one


def test_addresses_are_those_of_nodes_or_of_the_load_balancer() -> None:
    metadata = {"namespace": "ingress-nginx", "labels": {"app": "controller"}}
    pods = [{"metadata": metadata, "status": {"hostIP": address}} for address in ("192.168.0.12", "192.168.0.9")]
    assert ingress_addresses(pods, []) == ["192.168.0.9", "192.168.0.12"]
    balancer = {
        "metadata": {"namespace": "ingress-nginx"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "controller"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
    }
    assert ingress_addresses(pods, [balancer]) == ["203.0.113.1"]
    assert ingress_addresses(pods, [{**balancer, "spec": {**balancer["spec"], "type": "NodePort"}}])[0] == "192.168.0.9"
    assert ingress_addresses([], [balancer]) == []


_FIELDS = ("rules", "host", "http", "paths", "path", "pathType", "backend", "service", "name", "port", "tls", "hosts")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "/", "web", "a.example", "Prefix", "http"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_FIELDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(spec=st.dictionaries(st.sampled_from(["rules", "tls", "defaultBackend", "ingressClassName"]), _JSON))
def test_whatever_an_ingress_holds_harms_no_other(spec: dict[str, Any]) -> None:
    good = ingress("good", rule("good.example", path("Prefix", "/", "web")), age=9)
    translation = translated(good, {**ingress("odd"), "spec": {"ingressClassName": "nginx", **spec}})
    assert "server_name good.example;" in configuration(translation.servers, FILES)[0]


_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(max_examples=25, deadline=None)
@given(paths=st.lists(st.tuples(st.sampled_from(["Exact", "Prefix", "ImplementationSpecific"]), _TEXT), max_size=6))
def test_nginx_can_read_whatever_paths_are_written(
    paths: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("nginx")
    translation = translated(
        ingress("any", rule("a.example", *(path(kind, f"/{text}", "web") for kind, text in paths)))
    )
    text = configuration(translation.servers, FILES)[0].replace("/run/ingress-nginx/x", str(directory))
    lines = [line for line in text.splitlines() if "listen" not in line and "ssl" not in line and "lua_" not in line]
    (directory / "nginx.conf").write_text("\n".join(lines).replace("rewrite_by_lua_block", "#"))
    done = subprocess.run(
        ["/usr/sbin/nginx", "-e", "stderr", "-t", "-c", str(directory / "nginx.conf")], capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stderr, text)


@pytest.mark.parametrize("name", ["ingress-nginx", "ingress-nginx-nodeport"])
def test_the_ready_made_manifests_have_nothing_without_effect(name: str) -> None:
    manifests, problems, warnings = read_manifests(ADDONS / f"{name}.yaml")
    assert (problems, warnings) == ([], [])
    (template,) = (template for one in manifests if (template := pod_template(one)))
    assert is_controller(template[1])


@pytest.mark.parametrize("group", ["extensions", "networking.k8s.io"])
def test_an_old_ingress_in_a_manifest_is_converted_with_a_warning(group: str, tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(f"""\
apiVersion: {group}/v1beta1
kind: Ingress
metadata: {{name: tomcat}}
spec:
  backend: {{serviceName: spare, servicePort: http}}
  rules:
  - host: tomcat.demo.com
    http:
      paths:
      - backend: {{serviceName: tomcat, servicePort: 8080}}
""")
    manifests, problems, warnings = read_manifests(file)
    assert problems == []
    assert warnings == [
        f"{file}:1: apiVersion: {group}/v1beta1 Ingress is deprecated, unavailable in v1.22+; "
        "use networking.k8s.io/v1 Ingress"
    ]
    assert [manifest.object for manifest in manifests] == [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "tomcat"},
            "spec": {
                "defaultBackend": {"service": {"name": "spare", "port": {"name": "http"}}},
                "rules": [rule("tomcat.demo.com", path("ImplementationSpecific", None, "tomcat", 8080))],
            },
        }
    ]


def test_a_wrong_old_ingress_is_refused_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("""\
apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: tomcat}
spec:
  rules:
  - http:
      paths:
      - path: /
        backend: {serviceName: tomcat, servicePort: 0}
""")
    _, problems, _ = read_manifests(file)
    field = "spec.rules[0].http.paths[0].backend.service.port.number"
    assert [(problem.line, problem.field) for problem in problems] == [(9, field)]
