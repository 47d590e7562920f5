"""psycopg2."""

import io
import select
import threading

import psycopg2

import card


def connect(mode="verify-full", authority=card.AUTHORITY, password=card.PASSWORD):
    connection = psycopg2.connect(
        host=card.HOST, port=card.PORT, user=card.USER, password=password,
        dbname=card.DATABASE, sslmode=mode, sslrootcert=authority,
    )
    connection.autocommit = True
    return connection


def is_refusal(error):
    return (error.pgcode or "") if isinstance(error, psycopg2.OperationalError) else None


def row(connection, sql, parameters=None):
    cursor = connection.cursor()
    cursor.execute(sql, parameters)
    return cursor.fetchone()


def one(connection, sql, parameters=None):
    return row(connection, sql, parameters)[0]


def cancel():
    connection = connect()
    done = threading.Event()
    thread = card.cancel_until(done, connection.cancel)
    try:
        one(connection, card.SLEEP)
        return "it slept to the end"
    except psycopg2.Error as error:
        code = error.pgcode
    finally:
        done.set()
        thread.join()
    return f"{code} {one(connection, 'select %s', ['alive'])}"


def filled():
    connection = connect()
    cursor = connection.cursor()
    cursor.execute("create temporary table card (n integer)")
    lines = "".join(f"{number}\n" for number in range(1, card.ROWS + 1))
    cursor.copy_expert("copy card from stdin", io.StringIO(lines))
    return connection


def copy_in():
    return "{} {}".format(*row(filled(), "select count(*), sum(n) from card"))


def copy_out():
    lines = io.StringIO()
    filled().cursor().copy_expert("copy card to stdout", lines)
    numbers = [int(it) for it in lines.getvalue().split()]
    return f"{len(numbers)} {sum(numbers)}"


def prepared():
    connection = connect()
    connection.cursor().execute("prepare card (int) as select $1 + 1")
    said = [one(connection, "execute card (%s)", [number]) for number in (41, 42, 43)]
    return " ".join(map(str, said))


def notify():
    listener = connect()
    listener.cursor().execute("listen card")
    connect().cursor().execute("notify card, 'hello'")
    select.select([listener], [], [], 30)
    listener.poll()
    return listener.notifies[0].payload


def long_row():
    text = "x" * card.ROW_BYTES
    back = one(connect(), "select %s::text", [text])
    return f"{len(back)} {'same' if back == text else 'changed'}"


def error():
    connection = connect()
    try:
        one(connection, "select 1 / 0")
    except psycopg2.Error as said:
        return f"{said.pgcode} {one(connection, 'select %s', ['alive'])}"


def reconnect():
    try:
        one(connect(), card.END)
    except psycopg2.Error:
        return f"ended {one(connect(), 'select %s', ['alive'])}"


card.play(
    card.connections(connect, is_refusal, lambda it: one(it, card.TLS), lambda it: it.close())
    + [
        ("cancel", cancel), ("copy-in", copy_in), ("copy-out", copy_out),
        ("prepared", prepared), ("notify", notify), ("long-row", long_row),
        ("error", error), ("reconnect", reconnect),
    ]
)
