"""Small programs that run at the endpoints.

They use the standard library only and import nothing of the testbed, so that ``python -I -S`` starts them in about
10 ms (see :func:`testbed.measure.process.client_argv`).

Messages begin with a header, little endian: length of the whole message (4 bytes), 1 if the server shall close the
connection after its answer (1 byte), sequence number (8 bytes). A server answers with the message itself.
"""
