"""pg8000: a protocol of its own, in Python alone."""

import io
import ssl

import pg8000.native
from pg8000.exceptions import DatabaseError, InterfaceError

import card


def context(mode, authority):
    if mode == "disable":
        return False
    if mode == "allow":
        raise card.Cannot
    if mode == "prefer":
        return None
    if mode == "require":
        made = ssl.create_default_context()
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        return made
    made = ssl.create_default_context(cafile=authority)
    made.check_hostname = mode == "verify-full"
    return made


def connect(mode="verify-full", authority=card.AUTHORITY, password=card.PASSWORD):
    return pg8000.native.Connection(
        card.USER, host=card.HOST, port=card.PORT, password=password,
        database=card.DATABASE, ssl_context=context(mode, authority), timeout=100,
    )


def code(error):
    return error.args[0].get("C", "") if isinstance(error.args[0], dict) else ""


def is_refusal(error):
    return code(error) if isinstance(error, (DatabaseError, InterfaceError, OSError)) else None


def one(connection, sql, **parameters):
    return connection.run(sql, **parameters)[0][0]


def cancel():
    raise card.Cannot


def filled():
    connection = connect()
    connection.run("create temporary table card (n integer)")
    lines = "".join(f"{number}\n" for number in range(1, card.ROWS + 1))
    connection.run("copy card from stdin", stream=io.StringIO(lines))
    return connection


def copy_in():
    return "{} {}".format(*filled().run("select count(*), sum(n) from card")[0])


def copy_out():
    lines = io.StringIO()
    filled().run("copy card to stdout", stream=lines)
    numbers = [int(it) for it in lines.getvalue().split()]
    return f"{len(numbers)} {sum(numbers)}"


def prepared():
    statement = connect().prepare("select cast(:n as int) + 1")
    return " ".join(str(statement.run(n=number)[0][0]) for number in (41, 42, 43))


def notify():
    listener = connect()
    listener.run("listen card")
    connect().run("notify card, 'hello'")
    while not listener.notifications:
        listener.run("select 1")
    return listener.notifications[0][2]


def long_row():
    text = "x" * card.ROW_BYTES
    back = one(connect(), "select cast(:it as text)", it=text)
    return f"{len(back)} {'same' if back == text else 'changed'}"


def error():
    connection = connect()
    try:
        one(connection, "select 1 / 0")
    except DatabaseError as said:
        return f"{code(said)} {one(connection, 'select cast(:it as text)', it='alive')}"


def reconnect():
    try:
        one(connect(), card.END)
    except (DatabaseError, InterfaceError, OSError):
        return f"ended {one(connect(), 'select cast(:it as text)', it='alive')}"


card.play(
    card.connections(connect, is_refusal, lambda it: one(it, card.TLS), lambda it: it.close())
    + [
        ("cancel", cancel), ("copy-in", copy_in), ("copy-out", copy_out),
        ("prepared", prepared), ("notify", notify), ("long-row", long_row),
        ("error", error), ("reconnect", reconnect),
    ]
)
