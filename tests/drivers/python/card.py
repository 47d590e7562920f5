"""The card, for drivers of Python: what is asked, and how it is printed."""

import os
import threading

HOST = os.environ["PGHOST"]
PORT = int(os.environ["PGPORT"])
USER = os.environ["PGUSER"]
PASSWORD = os.environ["PGPASSWORD"]
DATABASE = os.environ["PGDATABASE"]
AUTHORITY = os.environ["PGSSLROOTCERT"]
FOREIGN = os.environ["CARD_FOREIGN_CA"]
ROW_BYTES = int(os.environ["CARD_ROW_BYTES"])
ROWS = 100_000
TLS = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
SLEEP = "select pg_sleep(60)"
END = "select pg_terminate_backend(pg_backend_pid())"

# How often a cancel request is repeated until the query has ended: the first may come too early.
CANCEL_INTERVAL_S = 1.0


class Cannot(Exception):
    """The driver has no call for this."""


class Refused(Exception):
    """The server, or the driver itself, did not want the connection."""


def cancel_until(done, cancel):
    """Cancels again and again, from a thread of its own, until an event is set."""

    def repeat():
        while not done.wait(CANCEL_INTERVAL_S):
            cancel()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    return thread


def play(items):
    """Runs every item, whatever the ones before came to."""
    for name, item in items:
        try:
            outcome = item()
        except Cannot:
            outcome = "cannot"
        except Exception as error:  # The card is to be played to its end.
            outcome = f"failed {type(error).__name__} {error}"
        print(name, " ".join(str(outcome).split()), sep="\t", flush=True)


def connections(connect, is_refusal, tls, close):
    """The items about connecting, the same for every driver."""

    def with_mode(mode, **options):
        def item():
            try:
                connection = connect(mode, **options)
            except Cannot:
                raise
            except Exception as error:
                code = is_refusal(error)
                if code is None:
                    raise
                return f"refused {code}".strip()
            try:
                return "tls" if tls(connection) else "plain"
            finally:
                close(connection)

        return item

    return [
        ("sslmode=disable", with_mode("disable")),
        ("sslmode=allow", with_mode("allow")),
        ("sslmode=prefer", with_mode("prefer")),
        ("sslmode=require", with_mode("require")),
        ("sslmode=verify-ca", with_mode("verify-ca")),
        ("sslmode=verify-full", with_mode("verify-full")),
        ("foreign-authority", with_mode("verify-full", authority=FOREIGN)),
        ("wrong-password", with_mode("require", password="not-this-one")),
    ]
