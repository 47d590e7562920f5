// lib/pq: a protocol of its own.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"
)

const rows = 100000
const waitFor = 30 * time.Second

var authority = os.Getenv("PGSSLROOTCERT")
var password = os.Getenv("PGPASSWORD")

func source(mode, authority, password string) string {
	return fmt.Sprintf("host=%s port=%s dbname=%s user=%s password=%s sslmode=%s sslrootcert=%s",
		os.Getenv("PGHOST"), os.Getenv("PGPORT"), os.Getenv("PGDATABASE"), os.Getenv("PGUSER"),
		password, mode, authority)
}

func connect() *sql.DB {
	db, err := sql.Open("postgres", source("verify-full", authority, password))
	if err != nil {
		panic(err)
	}
	// A pool of one is a connection.
	db.SetMaxOpenConns(1)
	return db
}

func code(err error) string {
	var said *pq.Error
	if errors.As(err, &said) {
		return string(said.Code)
	}
	return ""
}

func one(db *sql.DB, query string, values ...interface{}) (said string, err error) {
	err = db.QueryRow(query, values...).Scan(&said)
	return said, err
}

func alive(db *sql.DB) string {
	said, err := one(db, "select $1::text", "alive")
	if err != nil {
		return err.Error()
	}
	return said
}

func outcome(mode, authority, password string) (string, error) {
	db, err := sql.Open("postgres", source(mode, authority, password))
	if err != nil {
		return "", err
	}
	defer db.Close()
	tls, err := one(db, "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
	if err != nil {
		return "refused " + code(err), nil
	}
	if tls != "true" {
		return "plain", nil
	}
	return "tls", nil
}

func cancel() (string, error) {
	db := connect()
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	_, err := db.ExecContext(ctx, "select pg_sleep(60)")
	return code(err) + " " + alive(db), nil
}

func copyIn() (string, error) {
	transaction, err := connect().Begin()
	if err != nil {
		return "", err
	}
	if _, err = transaction.Exec("create temporary table card (n integer)"); err != nil {
		return "", err
	}
	statement, err := transaction.Prepare(pq.CopyIn("card", "n"))
	if err != nil {
		return "", err
	}
	for number := 1; number <= rows; number++ {
		if _, err = statement.Exec(number); err != nil {
			return "", err
		}
	}
	if _, err = statement.Exec(); err != nil {
		return "", err
	}
	if err = statement.Close(); err != nil {
		return "", err
	}
	var said string
	err = transaction.QueryRow("select count(*) || ' ' || sum(n) from card").Scan(&said)
	return said, err
}

func prepared() (string, error) {
	statement, err := connect().Prepare("select $1::int4 + 1")
	if err != nil {
		return "", err
	}
	var said []string
	for number := 41; number < 44; number++ {
		var answer string
		if err = statement.QueryRow(number).Scan(&answer); err != nil {
			return "", err
		}
		said = append(said, answer)
	}
	return strings.Join(said, " "), nil
}

func notify() (string, error) {
	listener := pq.NewListener(source("verify-full", authority, password), time.Second,
		time.Minute, nil)
	if err := listener.Listen("card"); err != nil {
		return "", err
	}
	if _, err := connect().Exec("notify card, 'hello'"); err != nil {
		return "", err
	}
	select {
	case heard := <-listener.Notify:
		return heard.Extra, nil
	case <-time.After(waitFor):
		return "nothing", nil
	}
}

func longRow() (string, error) {
	length, err := strconv.Atoi(os.Getenv("CARD_ROW_BYTES"))
	if err != nil {
		return "", err
	}
	text := strings.Repeat("x", length)
	back, err := one(connect(), "select $1::text", text)
	if back != text {
		return fmt.Sprint(len(back), " changed"), err
	}
	return fmt.Sprint(len(back), " same"), err
}

func failing() (string, error) {
	db := connect()
	_, err := one(db, "select 1 / 0")
	return code(err) + " " + alive(db), nil
}

func reconnect() (string, error) {
	db := connect()
	if _, err := one(db, "select pg_terminate_backend(pg_backend_pid())"); err == nil {
		return "it did not end", nil
	}
	// The pool connects again by itself.
	return "ended " + alive(db), nil
}

func play(name string, item func() (string, error)) {
	said, err := item()
	if err != nil {
		said = "failed " + err.Error()
	}
	fmt.Printf("%s\t%s\n", name, strings.Join(strings.Fields(said), " "))
}

func main() {
	for _, mode := range []string{"allow", "prefer"} {
		// It knows neither.
		play("sslmode="+mode, func() (string, error) { return "cannot", nil })
	}
	for _, mode := range []string{"disable", "require", "verify-ca", "verify-full"} {
		play("sslmode="+mode, func() (string, error) { return outcome(mode, authority, password) })
	}
	foreign := os.Getenv("CARD_FOREIGN_CA")
	play("foreign-authority", func() (string, error) {
		return outcome("verify-full", foreign, password)
	})
	play("wrong-password", func() (string, error) {
		return outcome("require", authority, "not-this-one")
	})
	play("cancel", cancel)
	play("copy-in", copyIn)
	play("copy-out", func() (string, error) { return "cannot", nil })
	play("prepared", prepared)
	play("notify", notify)
	play("long-row", longRow)
	play("error", failing)
	play("reconnect", reconnect)
}
