"""The configuration of a controller's nginx, as text.

Endpoints are not part of it: as in ingress-nginx a few lines of Lua choose one for each request, from a table in shared
memory that is filled while nginx runs. So only changes of rules and certificates need a reload.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from testbed.cluster.ingress.values import Key, Location, Match, Server


@dataclass(frozen=True)
class Files:
    """Where things are: the ``directory`` of the controller, the folder of the ``lua`` modules, and for each Secret
    (None: the controller's own) the file with certificate and key."""

    directory: str
    lua: str
    certificate: Callable[[Key | None], str]


_HEAD = """\
# Made from the cluster's Ingresses; changes are lost.
load_module modules/ndk_http_module.so;
load_module modules/ngx_http_lua_module.so;
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
# After a reload the old worker ends the requests that it has.
worker_shutdown_timeout 240s;
pid {directory}/nginx.pid;
error_log stderr warn;

events {{
    worker_connections 8192;
    multi_accept on;
}}

http {{
    # ingress-nginx' own format: at the end the backend, and the endpoints that were asked.
    log_format upstreaminfo '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
                            '"$http_referer" "$http_user_agent" $request_length $request_time [$backend] [] '
                            '$upstream_addr $upstream_response_length $upstream_response_time $upstream_status '
                            '$request_id';
    access_log /dev/stdout upstreaminfo;
    server_tokens off;
    default_type text/html;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server_names_hash_bucket_size 512;
    server_names_hash_max_size 8192;

    lua_package_path "{lua}/?.lua;;";
    lua_shared_dict endpoints 16m;
    init_by_lua_block {{ require("ingress_endpoints").load("{directory}/endpoints") }}
    init_worker_by_lua_block {{ require("ingress_endpoints").enlist("{version}") }}

    upstream endpoints {{
        server 0.0.0.1;
        balancer_by_lua_block {{ require("ingress_endpoints").balance() }}
        keepalive 64;
    }}

    map $http_upgrade $connection_header {{
        default upgrade;
        "" "";
    }}
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_header;
    proxy_set_header X-Request-ID $request_id;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-Port $server_port;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Scheme $scheme;
    proxy_set_header X-Scheme $scheme;
    # A pod that has just gone does not answer at all. Another one is asked after one lost packet's retransmission.
    proxy_connect_timeout 2s;
    proxy_redirect off;
    proxy_next_upstream error timeout;

    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:SSL:10m;
    ssl_session_tickets off;
    # Named by a variable, it is read when a client needs it; named for each host, it is read for each at a reload.
    map $host $own_certificate {{
        default {own};
    }}

    # For probes.
    server {{
        listen 10254;
        access_log off;
        location = /healthz {{
            return 200;
        }}
        location / {{
            return 404;
        }}
    }}

    # For the testbed: what is in force, and the endpoints of the backends.
    server {{
        listen unix:{directory}/control;
        access_log off;
        client_max_body_size 0;
        client_body_buffer_size 16m;
        location = /state {{
            content_by_lua_block {{ require("ingress_endpoints").state() }}
        }}
        location = /endpoints {{
            content_by_lua_block {{ require("ingress_endpoints").receive() }}
        }}
        location = /leave {{
            content_by_lua_block {{ require("ingress_endpoints").leave() }}
        }}
    }}
"""


def configuration(servers: Iterable[Server], files: Files) -> tuple[str, str]:
    """The text of nginx.conf, and its version: a digest of what the servers say."""
    body = "".join(f"\n{line}" if line else "\n" for line in _servers(servers, files))
    version = hashlib.sha256(body.encode()).hexdigest()[:16]
    head = _HEAD.format(directory=files.directory, lua=files.lua, version=version, own=files.certificate(None))
    return f"{head}{body}\n}}\n", version


def _servers(servers: Iterable[Server], files: Files) -> Iterator[str]:
    for server in servers:
        yield ""
        yield "    server {"
        default = "" if server.host else " default_server"
        yield f"        listen 80{default};"
        yield f"        listen 443{default} ssl http2;"
        yield f"        server_name {_server_name(server.host)};"
        yield '        set $backend "";'
        has_own = server.certificate is not None or not server.host
        certificate = files.certificate(server.certificate) if has_own else "$own_certificate"
        yield f"        ssl_certificate {certificate};"
        yield f"        ssl_certificate_key {certificate};"
        for location in server.locations:
            yield from (f"        {line}" for line in _location(location))
        if any(location.backend is not None for location in server.locations):
            # Where a worker that is about to end passes requests on; each is the last one of its connection.
            yield "        location @last {"
            yield "            keepalive_timeout 0;"
            yield "            proxy_pass http://endpoints;"
            yield "        }"
        if not any(location.match == Match("prefix", "/") for location in server.locations):
            yield "        location / {"
            yield "            return 404;"
            yield "        }"
        yield "    }"


def _server_name(host: str) -> str:
    if not host:
        return "_"
    if host.startswith("*."):  # one label, where nginx's own wildcards match any number
        return _quoted(f"~^[^.]+{re.escape(host[1:])}$")
    return host


def _location(location: Location) -> Iterator[str]:
    yield f"# Ingress {location.owner}"
    yield f"location {_condition(location.match)} {{"
    if location.to_https:
        yield '    if ($scheme = "http") {'
        yield "        return 308 https://$host$request_uri;"
        yield "    }"
    if location.backend is None:
        yield "    return 503;"
    else:
        yield f"    set $backend {_quoted(location.backend.key)};"
        if location.rewrite:
            yield f"    rewrite {_quoted(f'(?i){location.match.path}')} {_quoted(location.rewrite)} break;"
        yield '    rewrite_by_lua_block { require("ingress_endpoints").admit() }'
        yield "    proxy_pass http://endpoints;"
    yield "}"


def _condition(match: Match) -> str:
    if match.how == "prefix":
        return _quoted(match.path)
    if match.how == "regex":
        return f"~* {_quoted(match.path)}"
    if match.path != "/" and match.path.endswith("/"):
        # nginx would redirect /foo to an exact location /foo/ that passes requests on.
        return f"~ {_quoted(f'^{re.escape(match.path)}$')}"
    return f"= {_quoted(match.path)}"


def _quoted(text: str) -> str:
    """A word of nginx's language."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
