"""Questions to a running cluster from other processes of its user: what it is, how a program enters one of its pods.

A Unix socket in the user's runtime directory, opened by the supervisor before the box is sealed. Each connection
carries one question and one answer, a line of JSON each.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from testbed.errors import RunError

LOG = logging.getLogger(__name__)

_TIMEOUT_S = 10.0

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Refused(Exception):
    """The cluster cannot give what was asked for; the text says why."""


def listen(path: Path) -> socket.socket:
    """The socket of a cluster that is about to be built. Raises RunError when its path is too long for one."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise RunError(f"{path}: {error}") from error
    listener.listen()
    return listener


def ask(path: Path, question: str, **details: Any) -> dict[str, Any]:
    """A cluster's answer. Raises Refused with its reason, and OSError when nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(json.dumps({"question": question, **details}).encode() + b"\n")
        with connection.makefile() as answers:
            line = answers.readline()
    if not line:
        raise ConnectionResetError("the cluster has ended")
    answer: dict[str, Any] = json.loads(line)
    if "refused" in answer:
        raise Refused(answer["refused"])
    return answer


class Control:
    """Answers at a listening socket, one asker after the other; ``answers`` is keyed by question. A context manager.

    A function that answers may raise Refused.
    """

    def __init__(self, listener: socket.socket, answers: Mapping[str, Answer]) -> None:
        self._listener, self._answers = listener, answers
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._stopping = False

    def __enter__(self) -> Control:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._listener.shutdown(socket.SHUT_RDWR)  # unlike close, this wakes the thread
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping:
                    LOG.error("the cluster answers no more questions: %s", error)
                return
            # An asker that leaves, or says nothing, or sends what is no question, must not end it for the others.
            with connection, suppress(OSError, ValueError):
                connection.settimeout(_TIMEOUT_S)
                with connection.makefile() as questions:
                    question = json.loads(questions.readline())
                connection.sendall(json.dumps(self._answer(question)).encode() + b"\n")

    def _answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return self._answers[question["question"]](question)
        except Refused as error:
            return {"refused": str(error)}
        except Exception as error:
            LOG.exception("the question %s", question)
            return {"refused": f"{type(error).__name__}: {error}"}
