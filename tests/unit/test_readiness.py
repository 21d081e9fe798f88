"""When a pod counts as ready: real sockets and programs on this machine's loopback, without namespaces."""

import queue
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from testbed.network import readiness
from testbed.network.place import Place
from testbed.network.readiness import Readiness, has_probe

WAIT_S = 20


@pytest.fixture
def told(monkeypatch):
    """Readiness whose questions are asked from here, and the queue of what it tells."""

    class Here:
        def __init__(self, _namespace):
            pass

        def __enter__(self):
            pass

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(readiness.netns, "entered", Here)
    heard = queue.Queue()
    asking = Readiness(lambda key, ready: heard.put((key, ready)))
    asking.start()
    yield asking, heard
    asking.stop()


class HerePlace(Place):
    """A place without namespaces of its own."""

    def command(self, argv):
        return list(argv)


def pod(probe, ports=()):
    container = {
        "name": "main",
        "image": "pause",
        "readinessProbe": {"periodSeconds": 1, **probe},
        "ports": list(ports),
    }
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [container]},
        "status": {"podIP": "127.0.0.1"},
    }


def watch(asking, wanted):
    asking.watch("default/web", wanted, "n1", HerePlace("n1", "n1"))


def test_a_port_that_opens_later_makes_the_pod_ready_and_its_end_unready(told):
    asking, heard = told
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        watch(asking, pod({"tcpSocket": {"port": listener.getsockname()[1]}, "failureThreshold": 1}))
        with pytest.raises(queue.Empty):
            heard.get(timeout=0.3)
        listener.listen()
        assert heard.get(timeout=WAIT_S) == ("default/web", True)
    assert heard.get(timeout=WAIT_S) == ("default/web", False)


def test_a_page_by_the_name_of_its_port_must_answer_with_success(told):
    asking, heard = told

    class Page(BaseHTTPRequestHandler):
        status = 503

        def do_GET(self):
            self.send_response(Page.status if self.path == "/ready" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        number = server.server_address[1]
        watch(asking, pod({"httpGet": {"path": "/ready", "port": "web"}}, [{"name": "web", "containerPort": number}]))
        with pytest.raises(queue.Empty):
            heard.get(timeout=0.3)
        Page.status = 200
        assert heard.get(timeout=WAIT_S) == ("default/web", True)
        server.shutdown()
        thread.join()


def test_a_program_says_by_its_status_and_must_do_so_often_enough(told, tmp_path):
    asking, heard = told
    flag = tmp_path / "ready"
    watch(asking, pod({"exec": {"command": ["test", "-e", str(flag)]}, "successThreshold": 3}))
    with pytest.raises(queue.Empty):
        heard.get(timeout=0.3)
    flag.touch()
    assert heard.get(timeout=WAIT_S) == ("default/web", True)


def test_a_pod_that_is_forgotten_is_asked_no_more(told, tmp_path):
    asking, heard = told
    log = tmp_path / "asked"
    watch(asking, pod({"exec": {"command": ["sh", "-c", f"echo asked >> {log}; exit 1"]}}))
    deadline = threading.Event()
    while not log.exists():
        assert not deadline.wait(0.02)
    asking.forget("default/web")
    asking.forget("default/web")  # a second time changes nothing
    with pytest.raises(queue.Empty):
        heard.get(timeout=0.3)
    before = log.read_text()
    with pytest.raises(queue.Empty):
        heard.get(timeout=0.5)
    assert log.read_text() == before


def test_only_pods_that_ask_for_it_are_probed():
    assert has_probe(pod({"tcpSocket": {"port": 80}}))
    plain = pod({})
    del plain["spec"]["containers"][0]["readinessProbe"]
    assert not has_probe(plain)
