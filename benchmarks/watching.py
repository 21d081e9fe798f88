"""Many watchers of one API in one process, as informers do it: list, watch, and watch again from where it ended.

A program of its own outside the box: ``python -m benchmarks.watching``. It is told on standard input, a line each,
whom to watch and then to compare; it answers on standard output, a line each.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

WATCHERS = {
    "/api/v1/pods": 40,
    "/api/v1/events": 10,
    "/api/v1/endpoints": 10,
    "/api/v1/services": 10,
    "/api/v1/nodes": 10,
    "/apis/discovery.k8s.io/v1/endpointslices": 10,
    "/apis/apps/v1/deployments": 10,
}
# A server ends a watch after some minutes; here sooner, so that there are hundreds of new ones.
_SHORTEST_S, _LONGEST_S = 30, 90
_LONGEST_LINE_BYTES = 1 << 24
_AGREE_S, _ASK_EVERY_S = 30.0, 0.2


@dataclass
class _Api:
    url: str
    token: str
    trust: ssl.SSLContext

    @asynccontextmanager
    async def get(self, path: str, **query: object) -> AsyncIterator[asyncio.StreamReader]:
        """The body of an answer, or what of it there is already. Raises OSError unless it is 200."""
        at = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(at.hostname, at.port, ssl=self.trust, limit=_LONGEST_LINE_BYTES)
        try:
            target = f"{path}?{urlencode(query)}"
            head = f"Host: {at.netloc}\r\nAuthorization: Bearer {self.token}\r\nConnection: close\r\n\r\n"
            writer.write(f"GET {target} HTTP/1.1\r\n{head}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in answer.partition(b"\r\n")[0]:
                raise OSError(f"{target}: {answer.decode()}")
            yield reader
        finally:
            writer.close()

    async def list(self, path: str) -> tuple[str, dict[str, str]]:
        """A collection's version, and its objects' versions by their uids."""
        async with self.get(path) as reader:
            answer = json.loads(await reader.read())
        versions = {wire["metadata"]["uid"]: wire["metadata"]["resourceVersion"] for wire in answer["items"]}
        return answer["metadata"]["resourceVersion"], versions


class _Watcher:
    """What one watcher knows."""

    def __init__(self, api: _Api, path: str) -> None:
        self._api, self.path = api, path
        self.known: dict[str, str] = {}
        self.events = self.watches = self.lists = 0
        self.watching = asyncio.Event()

    async def run(self) -> None:
        """For ever."""
        while True:
            version, self.known = await self._api.list(self.path)
            self.lists += 1
            while version:
                version = await self._watch(version)

    async def _watch(self, version: str) -> str:
        """Follow until the server ends it; the version that was reached, or nothing when it is too old by now."""
        timeout_s = random.randint(_SHORTEST_S, _LONGEST_S)
        query = {"watch": "1", "allowWatchBookmarks": "1", "resourceVersion": version, "timeoutSeconds": timeout_s}
        async with self._api.get(self.path, **query) as reader:
            self.watches += 1
            self.watching.set()
            while line := await reader.readline():
                if not line.startswith(b"{"):
                    continue  # the size of a chunk
                event: dict[str, Any] = json.loads(line)
                if event["type"] == "ERROR":
                    return ""
                metadata = event["object"]["metadata"]
                version = metadata["resourceVersion"]
                if event["type"] == "DELETED":
                    del self.known[metadata["uid"]]
                elif event["type"] != "BOOKMARK":
                    self.known[metadata["uid"]] = version
                self.events += event["type"] != "BOOKMARK"
        return version


async def _differing(api: _Api, watchers: list[_Watcher]) -> int:
    """How many watchers do not know what is there, when they have had time to hear of it."""
    for _ in range(int(_AGREE_S / _ASK_EVERY_S)):
        there = {path: (await api.list(path))[1] for path in WATCHERS}
        if not (differing := sum(watcher.known != there[watcher.path] for watcher in watchers)):
            break
        await asyncio.sleep(_ASK_EVERY_S)
    return differing


async def _main() -> None:
    told = json.loads(sys.stdin.readline())
    api = _Api(told["url"], told["token"], ssl.create_default_context(cadata=told["certificate"]))
    watchers = [_Watcher(api, path) for path, number in WATCHERS.items() for _ in range(number)]
    tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
    all_watch = asyncio.gather(*(watcher.watching.wait() for watcher in watchers))
    await asyncio.wait([asyncio.ensure_future(all_watch), *tasks], return_when=asyncio.FIRST_COMPLETED)
    _say({"watchers": sum(watcher.watching.is_set() for watcher in watchers)})
    asked = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()  # raises what ended it
    report = {"differing": await _differing(api, watchers)}
    report |= {name: sum(getattr(watcher, name) for watcher in watchers) for name in ("events", "watches", "lists")}
    _say(report)
    for task in tasks:
        task.cancel()


def _say(what: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main())
