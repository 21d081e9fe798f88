"""Strategic merge patches and server-side apply, as functions of values."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.apiserver.patches.apply import apply
from testbed.apiserver.patches.fields import fields_of, from_wire, to_wire
from testbed.apiserver.patches.managers import Managed, Manager, note_update
from testbed.apiserver.patches.strategic import strategic_merge
from testbed.cluster.kinds import DEPLOYMENT, POD, SERVICE
from testbed.cluster.schemas import kind_schema
from testbed.cluster.status import BadRequest, Conflict

POD_SCHEMA, SERVICE_SCHEMA = kind_schema(POD), kind_schema(SERVICE)


def pod(*containers, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [*containers], **spec}}


def spec_after(before, patch):
    unchanged = copy.deepcopy(before)
    result = strategic_merge(before, {"spec": patch}, POD_SCHEMA)["spec"]
    assert before == unchanged
    return result


# Strategic merge patch


def test_entries_of_lists_are_merged_by_their_key():
    before = pod({"name": "a", "image": "x", "ports": [{"containerPort": 80}]}, {"name": "b", "image": "y"})
    after = spec_after(before, {"containers": [{"name": "b", "image": "z"}, {"name": "c", "image": "w"}]})
    assert [(c["name"], c["image"]) for c in after["containers"]] == [("a", "x"), ("b", "z"), ("c", "w")]
    after = spec_after(before, {"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "web"}]}]})
    assert after["containers"][0]["ports"] == [{"containerPort": 80, "name": "web"}]


def test_directives_delete_and_replace():
    before = pod({"name": "a", "image": "x"}, {"name": "b", "image": "y"}, nodeSelector={"a": "1"})
    gone = spec_after(before, {"containers": [{"name": "a", "$patch": "delete"}]})
    assert [c["name"] for c in gone["containers"]] == ["b"]
    replaced = spec_after(before, {"containers": [{"$patch": "replace"}, {"name": "n", "image": "z"}]})
    assert replaced["containers"] == [{"name": "n", "image": "z"}]
    assert spec_after(before, {"nodeSelector": {"$patch": "replace", "b": "2"}})["nodeSelector"] == {"b": "2"}
    assert "nodeSelector" not in spec_after(before, {"nodeSelector": None})


def test_plain_values_are_added_and_deleted_and_ordered():
    before = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}
    assert strategic_merge(before, patch, POD_SCHEMA)["metadata"]["finalizers"] == ["b", "c"]
    before = pod(*({"name": name, "image": "x"} for name in "abcd"))
    order = [{"name": "d"}, {"name": "b"}]
    patch = {"$setElementOrder/containers": order, "containers": [{"name": "b", "image": "y"}]}
    after = spec_after(before, patch)["containers"]
    assert [c["name"] for c in after].index("d") < [c["name"] for c in after].index("b")
    assert {c["name"]: c["image"] for c in after} == {"a": "x", "b": "y", "c": "x", "d": "x"}


def test_retained_keys_are_the_only_ones():
    before = pod(volumes=[{"name": "v", "emptyDir": {}}])
    patch = {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}
    assert spec_after(before, patch)["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}]


def test_lists_without_a_key_are_replaced():
    assert spec_after(pod({"name": "a", "args": ["1"]}), {"containers": [{"name": "a", "args": ["2"]}]}) == {
        "containers": [{"name": "a", "args": ["2"]}]
    }


def test_ports_of_services_are_told_apart_by_their_number():
    before = {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 90, "name": "b"}]}}
    after = strategic_merge(before, {"spec": {"ports": [{"port": 90, "nodePort": 30000}]}}, SERVICE_SCHEMA)
    assert after["spec"]["ports"] == [{"port": 80, "name": "a"}, {"port": 90, "name": "b", "nodePort": 30000}]


@pytest.mark.parametrize(
    "patch",
    [
        {"containers": [{"image": "x"}]},
        {"containers": ["x"]},
        {"nodeSelector": {"$patch": "scramble"}},
        {"$setElementOrder/containers": 5, "containers": []},
        {"$retainKeys": "name"},
    ],
)
def test_malformed_patches_are_refused(patch):
    with pytest.raises(BadRequest):
        spec_after(pod({"name": "a", "image": "x"}, nodeSelector={}), patch)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b", "replace", "delete"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "containers", "spec", "$patch", "$retainKeys", "$setElementOrder/containers", "ports"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(VALUES, VALUES)
def test_any_patch_makes_an_object_or_is_refused(before, patch):
    try:
        result = strategic_merge({"spec": before}, {"spec": patch}, POD_SCHEMA)
    except BadRequest:
        return
    assert isinstance(result, dict)


# Server-side apply

SCHEMA = kind_schema(DEPLOYMENT)
ME, OTHER = Manager("me", "Apply", "apps/v1"), Manager("other", "Apply", "apps/v1")
EDITOR = Manager("editor", "Update", "apps/v1")


def deployment(replicas=None, *containers, labels=None):
    spec = {"template": {"spec": {"containers": [*containers]}}} if containers else {}
    if replicas is not None:
        spec["replicas"] = replicas
    metadata = {"name": "web", **({"labels": labels} if labels else {})}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def owned(wire):
    return {manager.name: fields for manager, fields in Managed(wire).fields.items()}


def test_what_a_manager_no_longer_names_goes():
    live = apply(None, deployment(2, {"name": "a", "image": "x"}, labels={"a": "1", "b": "2"}), ME, SCHEMA, False)
    live = apply(live, deployment(None, {"name": "b", "image": "y"}, labels={"a": "1"}), ME, SCHEMA, False)
    assert live["metadata"]["labels"] == {"a": "1"} and "replicas" not in live["spec"]
    assert live["spec"]["template"]["spec"]["containers"] == [{"name": "b", "image": "y"}]


def test_what_another_manager_has_too_stays():
    live = apply(None, deployment(2, {"name": "a", "image": "x"}), ME, SCHEMA, False)
    live = apply(live, deployment(2, {"name": "a", "image": "x", "args": ["1"]}), OTHER, SCHEMA, False)
    live = apply(live, deployment(None, {"name": "b", "image": "y"}), ME, SCHEMA, False)
    assert live["spec"]["replicas"] == 2
    assert {c["name"] for c in live["spec"]["template"]["spec"]["containers"]} == {"a", "b"}


def test_a_field_that_another_manager_has_set_is_a_conflict_unless_forced():
    live = apply(None, deployment(2), ME, SCHEMA, False)
    with pytest.raises(Conflict) as caught:
        apply(live, deployment(3), OTHER, SCHEMA, False)
    [cause] = caught.value.details["causes"]
    assert cause == {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "me" using apps/v1',
        "field": ".spec.replicas",
    }
    taken = apply(live, deployment(3), OTHER, SCHEMA, True)
    assert taken["spec"]["replicas"] == 3
    assert owned(taken) == {"other": frozenset({("f:spec", "f:replicas")})}
    assert apply(live, deployment(2), OTHER, SCHEMA, False)["spec"]["replicas"] == 2  # the same value is no conflict


def test_whoever_edits_a_field_has_it():
    live = apply(None, deployment(2), ME, SCHEMA, False)
    edited = copy.deepcopy(live)
    edited["spec"]["replicas"] = 5
    note_update(edited, live, EDITOR, SCHEMA)
    assert owned(edited) == {"editor": frozenset({("f:spec", "f:replicas")})}
    with pytest.raises(Conflict, match="editor"):
        apply(edited, deployment(2), ME, SCHEMA, False)


def test_sets_of_fields_in_wire_form():
    wire = deployment(2, {"name": "a", "image": "x", "ports": [{"containerPort": 80}]}, labels={"a": "1"})
    fields = fields_of(wire, SCHEMA)
    tree = to_wire(fields)
    [entry] = [k for k in tree["f:spec"]["f:template"]["f:spec"]["f:containers"] if k != "."]
    assert entry == 'k:{"name":"a"}'
    ports = tree["f:spec"]["f:template"]["f:spec"]["f:containers"][entry]["f:ports"]
    assert list(ports) == ['k:{"containerPort":80,"protocol":"TCP"}']
    assert from_wire(tree) == fields


@given(st.recursive(st.none() | st.text(max_size=3), lambda x: st.dictionaries(st.text(max_size=4), x, max_size=3)))
def test_any_set_of_fields_can_be_read(tree):
    assert from_wire(to_wire(from_wire(tree))) == from_wire(tree)
