"""psycopg 3, with the libpq that its binary package brings."""

import os
import threading

import psycopg

import card

# Debian's own is older, and another card is for it.
assert psycopg.pq.version() >= 180000, psycopg.pq.version()

DIRECT = os.environ.get("PGSSLNEGOTIATION") == "direct"
NEWEST = 30002 if os.environ.get("PGMAXPROTOCOLVERSION") == "latest" else 30000


def connect(mode="verify-full", authority=card.AUTHORITY, password=card.PASSWORD):
    if DIRECT and mode in ("disable", "allow", "prefer"):
        # libpq begins with TLS only where nothing else will do.
        raise card.Cannot
    connection = psycopg.connect(
        host=card.HOST, port=card.PORT, user=card.USER, password=password,
        dbname=card.DATABASE, sslmode=mode, sslrootcert=authority, autocommit=True,
    )
    assert connection.pgconn.full_protocol_version == NEWEST
    return connection


def is_refusal(error):
    return (error.sqlstate or "") if isinstance(error, psycopg.OperationalError) else None


def one(connection, sql, parameters=None):
    return connection.execute(sql, parameters).fetchone()[0]


def cancel():
    with connect() as connection:
        done = threading.Event()
        thread = card.cancel_until(done, connection.cancel_safe)
        try:
            one(connection, card.SLEEP)
            return "it slept to the end"
        except psycopg.Error as error:
            code = error.sqlstate
        finally:
            done.set()
            thread.join()
        return f"{code} {one(connection, 'select %s', ['alive'])}"


def filled(connection):
    connection.execute("create temporary table card (n integer)")
    with connection.cursor().copy("copy card from stdin (format binary)") as copy:
        copy.set_types(["int4"])
        for number in range(1, card.ROWS + 1):
            copy.write_row([number])


def copy_in():
    with connect() as connection:
        filled(connection)
        return "{} {}".format(*connection.execute("select count(*), sum(n) from card").fetchone())


def copy_out():
    with connect() as connection:
        filled(connection)
        with connection.cursor().copy("copy card to stdout") as copy:
            numbers = [int(row[0]) for row in copy.rows()]
        return f"{len(numbers)} {sum(numbers)}"


def prepared():
    with connect() as connection:
        said = [
            connection.execute("select %s::int4 + 1", [number], prepare=True).fetchone()[0]
            for number in (41, 42, 43)
        ]
        return " ".join(map(str, said))


def notify():
    with connect() as listener, connect() as other:
        listener.execute("listen card")
        other.execute("notify card, 'hello'")
        return next(listener.notifies(timeout=30)).payload


def long_row():
    with connect() as connection:
        text = "x" * card.ROW_BYTES
        back = one(connection, "select %s::text", [text])
        return f"{len(back)} {'same' if back == text else 'changed'}"


def error():
    with connect() as connection:
        try:
            one(connection, "select 1 / 0")
        except psycopg.Error as said:
            return f"{said.sqlstate} {one(connection, 'select %s', ['alive'])}"


def reconnect():
    connection = connect()
    try:
        one(connection, card.END)
    except psycopg.OperationalError:
        return f"ended {one(connect(), 'select %s', ['alive'])}"


card.play(
    card.connections(connect, is_refusal, lambda it: one(it, card.TLS), lambda it: it.close())
    + [
        ("cancel", cancel), ("copy-in", copy_in), ("copy-out", copy_out),
        ("prepared", prepared), ("notify", notify), ("long-row", long_row),
        ("error", error), ("reconnect", reconnect),
    ]
)
