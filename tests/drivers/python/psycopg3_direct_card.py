"""psycopg 3 again, which begins with TLS and asks for the newest version of the protocol."""

import os

os.environ["PGSSLNEGOTIATION"] = "direct"
os.environ["PGMAXPROTOCOLVERSION"] = "latest"

import psycopg3_card  # noqa: E402, F401: libpq is told before it is loaded.
