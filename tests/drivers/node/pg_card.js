// pg, which is called node-postgres: a protocol of its own.

'use strict';

const { pipeline } = require('stream/promises');
const { Readable } = require('stream');
const { Client } = require('pg');
const copyStreams = require('pg-copy-streams');
const card = require('./card.js');

const client = (mode = 'verify-full', options = {}) => {
  // It has TLS or not, as its caller says; and nothing in between.
  if (mode === 'allow' || mode === 'prefer') throw new card.Cannot();
  const { host, port, user, database } = card;
  const ssl = card.context(mode, options.authority ?? card.authority);
  const password = options.password ?? card.password;
  const made = new Client({ host, port, user, database, password, ssl });
  // A connection that ends by itself says so by an event, which ends the process if nobody hears.
  made.on('error', () => {});
  return made;
};

const connect = async (mode, options) => {
  const made = client(mode, options);
  await made.connect();
  return made;
};

const one = async (connection, text, values = []) => {
  const { rows } = await connection.query({ text, values, rowMode: 'array' });
  return rows[0][0];
};

const alive = (connection) => one(connection, 'select $1::text', ['alive']);

const filled = async () => {
  const connection = await connect();
  await connection.query('create temporary table card (n integer)');
  const stream = connection.query(copyStreams.from('copy card from stdin'));
  await pipeline(Readable.from([card.lines()]), stream);
  return connection;
};

card.play([
  ...card.connections(connect, (connection) => one(connection, card.tls)),
  ['cancel', async () => {
    const connection = await connect();
    const other = await connect();
    // The driver's own cancel knows no TLS and is not documented; its users do this.
    const repeat = setInterval(
      () => other.query('select pg_cancel_backend($1)', [connection.processID]),
      card.cancelIntervalMs,
    );
    try {
      await connection.query(card.sleep);
      return 'it slept to the end';
    } catch (error) {
      clearInterval(repeat);
      return `${error.code} ${await alive(connection)}`;
    }
  }],
  ['copy-in', async () => {
    const connection = await filled();
    const { rows } = await connection.query('select count(*), sum(n) from card');
    return `${rows[0].count} ${rows[0].sum}`;
  }],
  ['copy-out', async () => {
    const connection = await filled();
    return card.sum(await card.text(connection.query(copyStreams.to('copy card to stdout'))));
  }],
  ['prepared', async () => {
    const connection = await connect();
    const said = [];
    for (const number of [41, 42, 43]) {
      const statement = { name: 'card', text: 'select $1::int4 + 1 as n', values: [number] };
      said.push((await connection.query(statement)).rows[0].n);
    }
    return said.join(' ');
  }],
  ['notify', async () => {
    const listener = await connect();
    const heard = new Promise((resolve) => {
      listener.on('notification', (it) => resolve(it.payload));
    });
    await listener.query('listen card');
    await (await connect()).query("notify card, 'hello'");
    return heard;
  }],
  ['long-row', async () => {
    const text = 'x'.repeat(card.rowBytes);
    const back = await one(await connect(), 'select $1::text', [text]);
    return `${back.length} ${back === text ? 'same' : 'changed'}`;
  }],
  ['error', async () => {
    const connection = await connect();
    try {
      await connection.query('select 1 / 0');
      return 'no error';
    } catch (error) {
      return `${error.code} ${await alive(connection)}`;
    }
  }],
  ['reconnect', async () => {
    const connection = await connect();
    try {
      await connection.query(card.end);
      return 'it did not end';
    } catch {
      return `ended ${await alive(await connect())}`;
    }
  }],
]);
