"""The pods' parent and whoever asks it: one request, or one answer, that goes wrong ends neither."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from testbed.network.pods.frames import Incoming, send
from testbed.network.pods.parent import Parent
from testbed.network.pods.spawner import Spawner


@pytest.mark.parametrize("error", [ValueError("embedded null byte"), UnicodeError("surrogate"), OSError(2, "gone")])
def test_a_request_that_cannot_be_met_is_answered(error: Exception) -> None:
    def run(_message: dict[str, Any]) -> int:
        raise error

    ours, its = socket.socketpair()
    with ours, its:
        parent = object.__new__(Parent)  # whose constructor leaves this process's namespaces
        parent._connection, parent._do = its, {"run": run}
        parent._answer({"do": "run", "id": 7})
        (answer,) = Incoming().take(ours.recv(4096))
    assert answer == {"id": 7, "error": str(error)}


def test_an_answer_that_nobody_can_deal_with_is_not_the_parents_death() -> None:
    ours, its = socket.socketpair()
    lost, second = threading.Event(), threading.Event()
    spawner = Spawner(lambda ended: None, lost.set)
    spawner._connection = ours
    reader = threading.Thread(target=spawner._read, args=(ours,), daemon=True)
    reader.start()

    def fail(_pid: int | None, _error: str) -> None:
        raise OSError("no space left on device")

    spawner.run({}, fail)
    spawner.run({}, lambda pid, error: second.set())
    for _ in range(2):
        pending = Incoming()
        while not (messages := pending.take(its.recv(1))):
            pass
        send(its, {"id": messages[0]["id"], "pid": 1})
    assert second.wait(5) and not lost.is_set()
    its.close()
    assert lost.wait(5)
    reader.join()
    ours.close()


def test_many_requests_at_once_do_not_wait_for_their_own_answers() -> None:
    """The parent reads no more while its answers fill the socket, so these must be taken meanwhile."""
    ours, its = socket.socketpair()
    spawner = Spawner(lambda ended: None, lambda: None)
    spawner._connection = ours
    count, answers, all_answered = 3000, [0], threading.Event()

    def answer() -> None:
        incoming = Incoming()
        while received := its.recv(1 << 20):
            for message in incoming.take(received):
                send(its, {"id": message["id"], "pid": 1})

    def take(_pid: int | None, _error: str) -> None:
        answers[0] += 1
        if answers[0] == count:
            all_answered.set()

    def ask() -> None:
        for _ in range(count):
            spawner.run({"environment": {"A": "x" * 300}}, take)

    threads = [threading.Thread(target=act, daemon=True) for act in (lambda: spawner._read(ours), answer, ask)]
    for thread in threads:
        thread.start()
    assert all_answered.wait(20), f"{answers[0]} of {count} answered"
    its.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    ours.close()
    its.close()
