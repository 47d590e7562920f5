// pgx: a protocol of its own, in binary.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

const rows = 100000
const waitFor = 30 * time.Second

var modes = []string{"disable", "prefer", "require", "verify-ca", "verify-full"}

var authority = os.Getenv("PGSSLROOTCERT")
var password = os.Getenv("PGPASSWORD")
var background = context.Background()

func connectWith(mode, authority, password string) (*pgx.Conn, error) {
	source := fmt.Sprintf("host=%s port=%s dbname=%s user=%s password=%s sslmode=%s",
		os.Getenv("PGHOST"), os.Getenv("PGPORT"), os.Getenv("PGDATABASE"), os.Getenv("PGUSER"),
		password, mode)
	if mode != "disable" {
		source += " sslrootcert=" + authority
	}
	return pgx.Connect(background, source)
}

func connect() *pgx.Conn {
	connection, err := connectWith("verify-full", authority, password)
	if err != nil {
		panic(err)
	}
	return connection
}

func code(err error) string {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Code
	}
	return ""
}

func alive(connection *pgx.Conn) string {
	var said string
	if err := connection.QueryRow(background, "select $1::text", "alive").Scan(&said); err != nil {
		return err.Error()
	}
	return said
}

func outcome(mode, authority, password string) (string, error) {
	connection, err := connectWith(mode, authority, password)
	if err != nil {
		return "refused " + code(err), nil
	}
	defer connection.Close(background)
	var tls bool
	query := "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
	if err = connection.QueryRow(background, query).Scan(&tls); err != nil || !tls {
		return "plain", err
	}
	return "tls", nil
}

func cancel() (string, error) {
	connection := connect()
	done := make(chan struct{})
	over := make(chan struct{})
	// Again until the query has ended: the first may come too early.
	go func() {
		defer close(over)
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Second):
				if err := connection.PgConn().CancelRequest(background); err != nil {
					return
				}
			}
		}
	}()
	_, err := connection.Exec(background, "select pg_sleep(60)")
	close(done)
	<-over
	return code(err) + " " + alive(connection), nil
}

func filled() (*pgx.Conn, error) {
	connection := connect()
	if _, err := connection.Exec(background, "create temporary table card (n integer)"); err != nil {
		return nil, err
	}
	numbers := pgx.CopyFromSlice(rows, func(index int) ([]interface{}, error) {
		return []interface{}{int32(index + 1)}, nil
	})
	_, err := connection.CopyFrom(background, pgx.Identifier{"card"}, []string{"n"}, numbers)
	return connection, err
}

func copyIn() (string, error) {
	connection, err := filled()
	if err != nil {
		return "", err
	}
	var said string
	query := "select count(*) || ' ' || sum(n) from card"
	err = connection.QueryRow(background, query).Scan(&said)
	return said, err
}

func copyOut() (string, error) {
	connection, err := filled()
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	if _, err = connection.PgConn().CopyTo(background, &text, "copy card to stdout"); err != nil {
		return "", err
	}
	count, sum := 0, 0
	for _, line := range strings.Fields(text.String()) {
		number, err := strconv.Atoi(line)
		if err != nil {
			return "", err
		}
		count++
		sum += number
	}
	return fmt.Sprint(count, " ", sum), nil
}

func prepared() (string, error) {
	connection := connect()
	if _, err := connection.Prepare(background, "card", "select $1::int4 + 1"); err != nil {
		return "", err
	}
	var said []string
	for number := 41; number < 44; number++ {
		var answer int
		if err := connection.QueryRow(background, "card", number).Scan(&answer); err != nil {
			return "", err
		}
		said = append(said, strconv.Itoa(answer))
	}
	return strings.Join(said, " "), nil
}

func notify() (string, error) {
	listener := connect()
	if _, err := listener.Exec(background, "listen card"); err != nil {
		return "", err
	}
	if _, err := connect().Exec(background, "notify card, 'hello'"); err != nil {
		return "", err
	}
	limit, stop := context.WithTimeout(background, waitFor)
	defer stop()
	heard, err := listener.WaitForNotification(limit)
	if err != nil {
		return "", err
	}
	return heard.Payload, nil
}

func longRow() (string, error) {
	length, err := strconv.Atoi(os.Getenv("CARD_ROW_BYTES"))
	if err != nil {
		return "", err
	}
	text := strings.Repeat("x", length)
	var back string
	err = connect().QueryRow(background, "select $1::text", text).Scan(&back)
	if back != text {
		return fmt.Sprint(len(back), " changed"), err
	}
	return fmt.Sprint(len(back), " same"), err
}

func failing() (string, error) {
	connection := connect()
	_, err := connection.Exec(background, "select 1 / 0")
	return code(err) + " " + alive(connection), nil
}

func reconnect() (string, error) {
	_, err := connect().Exec(background, "select pg_terminate_backend(pg_backend_pid())")
	if err == nil {
		return "it did not end", nil
	}
	return "ended " + alive(connect()), nil
}

func play(name string, item func() (string, error)) {
	said, err := item()
	if err != nil {
		said = "failed " + err.Error()
	}
	fmt.Printf("%s\t%s\n", name, strings.Join(strings.Fields(said), " "))
}

func main() {
	// A refusal without TLS is its last word, and it does not go on to the way with it.
	play("sslmode=allow", func() (string, error) { return "cannot", nil })
	for _, mode := range modes {
		play("sslmode="+mode, func() (string, error) { return outcome(mode, authority, password) })
	}
	foreign := os.Getenv("CARD_FOREIGN_CA")
	play("foreign-authority", func() (string, error) {
		return outcome("verify-full", foreign, password)
	})
	play("wrong-password", func() (string, error) {
		return outcome("require", "", "not-this-one")
	})
	play("cancel", cancel)
	play("copy-in", copyIn)
	play("copy-out", copyOut)
	play("prepared", prepared)
	play("notify", notify)
	play("long-row", longRow)
	play("error", failing)
	play("reconnect", reconnect)
}
