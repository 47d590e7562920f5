// The card, for drivers of Node: what is asked, and how it is printed.

'use strict';

const fs = require('fs');

const environment = process.env;

/** Where to connect, and what with. */
exports.host = environment.PGHOST;
exports.port = Number(environment.PGPORT);
exports.user = environment.PGUSER;
exports.password = environment.PGPASSWORD;
exports.database = environment.PGDATABASE;
exports.authority = environment.PGSSLROOTCERT;
exports.foreign = environment.CARD_FOREIGN_CA;
exports.rowBytes = Number(environment.CARD_ROW_BYTES);
exports.rows = 100000;
exports.tls = 'select ssl from pg_stat_ssl where pid = pg_backend_pid()';
exports.sleep = 'select pg_sleep(60)';
exports.end = 'select pg_terminate_backend(pg_backend_pid())';

// How often a cancel request is repeated until the query has ended: the first may come too early.
exports.cancelIntervalMs = 1000;

// So that they are not taken from the environment, which says less than a mode does.
for (const name of ['PGSSLMODE', 'PGSSLROOTCERT']) delete environment[name];

/** What Node's TLS makes of one of libpq's modes. */
exports.context = (mode, authority) => {
  if (mode === 'disable') return false;
  if (mode === 'allow' || mode === 'prefer') return mode;
  if (mode === 'require') return { rejectUnauthorized: false };
  const context = { ca: fs.readFileSync(authority, 'utf8'), servername: exports.host };
  if (mode === 'verify-ca') context.checkServerIdentity = () => undefined;
  return context;
};

/** The driver has no call for this. */
exports.Cannot = class Cannot extends Error {};

/** Every row as the text of COPY. */
exports.lines = () => {
  const lines = [];
  for (let number = 1; number <= exports.rows; number += 1) lines.push(`${number}\n`);
  return lines.join('');
};

/** How many numbers a text of COPY has, and what they come to. */
exports.sum = (text) => {
  const numbers = text.trim().split('\n').map(Number);
  return `${numbers.length} ${numbers.reduce((sum, it) => sum + it, 0)}`;
};

/** The text of a stream. */
exports.text = async (stream) => {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
};

/** Runs every item, whatever the ones before came to. */
exports.play = async (items) => {
  for (const [name, item] of items) {
    let outcome;
    try {
      outcome = await item();
    } catch (error) {
      outcome = error instanceof exports.Cannot ? 'cannot' : `failed ${error.code} ${error.message}`;
    }
    console.log(`${name}\t${String(outcome).replace(/\s+/g, ' ').trim()}`);
  }
  process.exit(0);
};

/** The items about connecting, the same for every driver. */
exports.connections = (connect, tls) => {
  const outcome = async (mode, options) => {
    let connection;
    try {
      connection = await connect(mode, options);
    } catch (error) {
      if (error instanceof exports.Cannot) throw error;
      // Five letters are the server's, anything else is of TLS or of the system.
      return `refused ${/^[0-9A-Z]{5}$/.test(error.code) ? error.code : ''}`;
    }
    const encrypted = await tls(connection);
    await connection.end();
    return encrypted ? 'tls' : 'plain';
  };
  return [
    ['sslmode=disable', () => outcome('disable', {})],
    ['sslmode=allow', () => outcome('allow', {})],
    ['sslmode=prefer', () => outcome('prefer', {})],
    ['sslmode=require', () => outcome('require', {})],
    ['sslmode=verify-ca', () => outcome('verify-ca', {})],
    ['sslmode=verify-full', () => outcome('verify-full', {})],
    ['foreign-authority', () => outcome('verify-full', { authority: exports.foreign })],
    ['wrong-password', () => outcome('require', { password: 'not-this-one' })],
  ];
};
