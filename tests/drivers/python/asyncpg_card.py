"""asyncpg: a protocol of its own, in binary."""

import asyncio
import io
import ssl

import asyncpg

import card

LOOP = asyncio.new_event_loop()
wait = LOOP.run_until_complete


def context(mode, authority):
    if not mode.startswith("verify"):
        return mode
    made = ssl.create_default_context(cafile=authority)
    made.check_hostname = mode == "verify-full"
    return made


async def connected(mode="verify-full", authority=card.AUTHORITY, password=card.PASSWORD):
    return await asyncpg.connect(
        host=card.HOST, port=card.PORT, user=card.USER, password=password,
        database=card.DATABASE, ssl=context(mode, authority), timeout=60,
    )


def connect(*arguments, **options):
    return wait(connected(*arguments, **options))


def is_refusal(error):
    if isinstance(error, asyncpg.PostgresError):
        return error.sqlstate
    return "" if isinstance(error, (ssl.SSLError, OSError)) else None


async def cancel():
    connection = await connected()
    try:
        await connection.execute(card.SLEEP, timeout=1)
        return "it slept to the end"
    except asyncio.TimeoutError:
        # What runs out of time is cancelled at the server, and the next query waits for that: the
        # driver keeps the error to itself, but an answer long before the end of the sleep tells.
        pass
    return f"57014 {await connection.fetchval('select $1::text', 'alive', timeout=30)}"


async def filled():
    connection = await connected()
    await connection.execute("create temporary table card (n integer)")
    records = [(number,) for number in range(1, card.ROWS + 1)]
    await connection.copy_records_to_table("card", records=records)
    return connection


async def copy_in():
    connection = await filled()
    return "{} {}".format(*await connection.fetchrow("select count(*), sum(n) from card"))


async def copy_out():
    connection = await filled()
    lines = io.BytesIO()
    await connection.copy_from_query("select n from card", output=lines)
    numbers = [int(it) for it in lines.getvalue().split()]
    return f"{len(numbers)} {sum(numbers)}"


async def prepared():
    connection = await connected()
    statement = await connection.prepare("select $1::int4 + 1")
    return " ".join([str(await statement.fetchval(it)) for it in (41, 42, 43)])


async def notify():
    listener, other = await connected(), await connected()
    heard = asyncio.get_running_loop().create_future()
    await listener.add_listener("card", lambda *it: heard.set_result(it[3]))
    await other.execute("notify card, 'hello'")
    return await asyncio.wait_for(heard, 30)


async def long_row():
    connection = await connected()
    text = "x" * card.ROW_BYTES
    back = await connection.fetchval("select $1::text", text)
    return f"{len(back)} {'same' if back == text else 'changed'}"


async def error():
    connection = await connected()
    try:
        await connection.fetchval("select 1 / 0")
    except asyncpg.PostgresError as said:
        return f"{said.sqlstate} {await connection.fetchval('select $1::text', 'alive')}"


async def reconnect():
    connection = await connected()
    try:
        await connection.fetchval(card.END)
    except (asyncpg.PostgresError, OSError):
        connection = await connected()
        return f"ended {await connection.fetchval('select $1::text', 'alive')}"


card.play(
    card.connections(
        connect, is_refusal, lambda it: wait(it.fetchval(card.TLS)), lambda it: wait(it.close()),
    )
    + [
        (name, lambda item=item: wait(item()))
        for name, item in (
            ("cancel", cancel), ("copy-in", copy_in), ("copy-out", copy_out),
            ("prepared", prepared), ("notify", notify), ("long-row", long_row),
            ("error", error), ("reconnect", reconnect),
        )
    ]
)
