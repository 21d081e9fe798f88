"""Pods by their labels, so that finding those of one selector does not look at every one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from testbed.cluster.objects import JsonObject, object_name, object_namespace

_Key = tuple[str, str]  # namespace and name
_Label = tuple[str, str, str]  # namespace, label, value


class PodIndex:
    """Pods that can be found by labels within a namespace."""

    def __init__(self) -> None:
        self._pods: dict[_Key, JsonObject] = {}
        self._by_label: dict[_Label, set[_Key]] = defaultdict(set)

    def put(self, pod: JsonObject) -> None:
        self.remove(pod)
        key = object_namespace(pod), object_name(pod)
        self._pods[key] = pod
        for label in _labels(pod):
            self._by_label[label].add(key)

    def remove(self, pod: JsonObject) -> None:
        """Forget a pod, by its namespace and name; one that is not there is passed over."""
        key = object_namespace(pod), object_name(pod)
        known = self._pods.pop(key, None)
        if known is None:
            return
        for label in _labels(known):
            self._by_label[label].discard(key)
            if not self._by_label[label]:
                del self._by_label[label]

    def get(self, key: _Key) -> JsonObject:
        """A pod that is there, by namespace and name."""
        return self._pods[key]

    def candidates(self, namespace: str, selector: Mapping[str, str]) -> Iterator[JsonObject]:
        """Pods of a namespace that carry one label of a selector, the one that the fewest carry: all that it selects
        are among them. The selector has at least one label."""
        found: list[set[_Key]] = [self._by_label.get((namespace, *term), set()) for term in selector.items()]
        fewest = min(found, key=len)
        return map(self._pods.__getitem__, fewest)


def _labels(pod: JsonObject) -> list[_Label]:
    namespace = object_namespace(pod)
    return [(namespace, name, value) for name, value in (pod["metadata"].get("labels") or {}).items()]
