"""Logs of containers, programs started in them and ports forwarded to them, as ``kubectl`` asks for them.

An HTTP connection becomes one of SPDY/3.1 or WebSocket, either of which carries several streams of bytes. What the
bytes of a protocol mean is decided without any input or output (``spdy_*``, ``websocket``, ``*_streams``,
``forwards``); one loop for each connection, in the connection's own thread, moves them (``remote_command``,
``forwarding``).
"""
