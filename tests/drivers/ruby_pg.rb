# ruby-pg, over libpq.

require 'pg'

ROWS = 100_000
WAIT_S = 30
CANCEL_INTERVAL_S = 1

def connect(mode = 'verify-full', authority: ENV['PGSSLROOTCERT'], password: ENV['PGPASSWORD'])
  PG.connect(host: ENV['PGHOST'], port: ENV['PGPORT'], dbname: ENV['PGDATABASE'],
             user: ENV['PGUSER'], password: password, sslmode: mode, sslrootcert: authority)
end

def one(connection, sql, values = [])
  connection.exec_params(sql, values).getvalue(0, 0)
end

def alive(connection)
  one(connection, 'select $1::text', ['alive'])
end

def outcome(*arguments, **options)
  connection = connect(*arguments, **options)
  tls = one(connection, 'select ssl from pg_stat_ssl where pid = pg_backend_pid()')
  tls == 't' ? 'tls' : 'plain'
rescue PG::ConnectionBad
  'refused'
end

def state(error)
  error.result.error_field(PG::PG_DIAG_SQLSTATE)
end

def filled
  connection = connect
  connection.exec('create temporary table card (n integer)')
  connection.copy_data('copy card from stdin') do
    (1..ROWS).each { |number| connection.put_copy_data("#{number}\n") }
  end
  connection
end

def cancel
  connection = connect
  connection.send_query('select pg_sleep(60)')
  connection.cancel until connection.block(CANCEL_INTERVAL_S)
  begin
    connection.get_last_result
    'it slept to the end'
  rescue PG::Error => e
    "#{state(e)} #{alive(connection)}"
  end
end

def copy_out
  connection = filled
  count = sum = 0
  connection.copy_data('copy card to stdout') do
    while (line = connection.get_copy_data)
      count += 1
      sum += line.to_i
    end
  end
  "#{count} #{sum}"
end

def prepared
  connection = connect
  connection.prepare('card', 'select $1::int4 + 1')
  [41, 42, 43].map { |it| connection.exec_prepared('card', [it]).getvalue(0, 0) }.join(' ')
end

def notify
  listener = connect
  listener.exec('listen card')
  connect.exec("notify card, 'hello'")
  heard = nil
  listener.wait_for_notify(WAIT_S) { |_, _, payload| heard = payload }
  heard
end

def long_row
  text = 'x' * ENV['CARD_ROW_BYTES'].to_i
  back = one(connect, 'select $1::text', [text])
  "#{back.length} #{back == text ? 'same' : 'changed'}"
end

def failing
  connection = connect
  connection.exec('select 1 / 0')
rescue PG::Error => e
  "#{state(e)} #{alive(connection)}"
end

def reconnect
  connect.exec('select pg_terminate_backend(pg_backend_pid())')
  'it did not end'
rescue PG::Error
  "ended #{alive(connect)}"
end

def play(name)
  outcome = begin
    yield
  rescue StandardError => e
    "failed #{e.class} #{e.message}"
  end
  puts "#{name}\t#{outcome.split.join(' ')}"
  $stdout.flush
end

%w[disable allow prefer require verify-ca verify-full].each do |mode|
  play("sslmode=#{mode}") { outcome(mode) }
end
play('foreign-authority') { outcome(authority: ENV['CARD_FOREIGN_CA']) }
play('wrong-password') { outcome(password: 'not-this-one') }
play('cancel') { cancel }
play('copy-in') { filled.exec('select count(*), sum(n) from card').values[0].join(' ') }
play('copy-out') { copy_out }
play('prepared') { prepared }
play('notify') { notify }
play('long-row') { long_row }
play('error') { failing }
play('reconnect') { reconnect }
