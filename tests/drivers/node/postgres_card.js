// postgres, which is called Postgres.js: a protocol of its own, prepared and pipelined.

'use strict';

const { pipeline } = require('stream/promises');
const { Readable } = require('stream');
const postgres = require('postgres');
const card = require('./card.js');

const connect = async (mode = 'verify-full', options = {}) => {
  const { host, port, user: username, database } = card;
  const ssl = card.context(mode, options.authority ?? card.authority);
  const password = options.password ?? card.password;
  const sql = postgres({
    host, port, username, database, password, ssl, max: 1, onnotice: () => {}, connect_timeout: 60,
  });
  // It connects with the first query.
  await sql`select 1`;
  return sql;
};

const alive = async (sql) => (await sql`select ${'alive'}::text as it`)[0].it;

const filled = async () => {
  const sql = await connect();
  await sql`create temporary table card (n integer)`;
  await pipeline(Readable.from([card.lines()]), await sql`copy card from stdin`.writable());
  return sql;
};

card.play([
  ...card.connections(connect, async (sql) => (await sql.unsafe(card.tls))[0].ssl),
  ['cancel', async () => {
    const sql = await connect();
    const query = sql.unsafe(card.sleep);
    const repeat = setInterval(() => query.cancel(), card.cancelIntervalMs);
    try {
      await query;
      return 'it slept to the end';
    } catch (error) {
      clearInterval(repeat);
      return `${error.code} ${await alive(sql)}`;
    }
  }],
  ['copy-in', async () => {
    const [row] = await (await filled())`select count(*), sum(n) from card`;
    return `${row.count} ${row.sum}`;
  }],
  ['copy-out', async () => {
    const sql = await filled();
    return card.sum(await card.text(await sql`copy card to stdout`.readable()));
  }],
  ['prepared', async () => {
    const sql = await connect();
    const said = [];
    for (const number of [41, 42, 43]) said.push((await sql`select ${number}::int4 + 1 as n`)[0].n);
    return said.join(' ');
  }],
  ['notify', async () => {
    const listener = await connect();
    const heard = new Promise((resolve) => {
      listener.listen('card', resolve, async () => (await connect()).notify('card', 'hello'));
    });
    return heard;
  }],
  ['long-row', async () => {
    const text = 'x'.repeat(card.rowBytes);
    const [{ it }] = await (await connect())`select ${text}::text as it`;
    return `${it.length} ${it === text ? 'same' : 'changed'}`;
  }],
  ['error', async () => {
    const sql = await connect();
    try {
      await sql`select 1 / 0`;
      return 'no error';
    } catch (error) {
      return `${error.code} ${await alive(sql)}`;
    }
  }],
  ['reconnect', async () => {
    const sql = await connect();
    try {
      await sql.unsafe(card.end);
      return 'it did not end';
    } catch {
      return `ended ${await alive(await connect())}`;
    }
  }],
]);
