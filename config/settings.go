package config

import (
	"strings"
	"time"

	"aggregator/internal/cluster"
	"aggregator/internal/scores"
)

// defaultKeys are the keys that producers use, by kind of source.
var defaultKeys = map[string]string{
	"stream": "book-like-events",
	"list":   "BookLikeEventList",
}

// defaultWeights are those of the actions that every producer knows.
var defaultWeights = map[string]float64{"LIKE": 2, "DISLIKE": -2}

// setting is one row of the table: all there is to know about one setting.
type setting struct {
	Key      string // section.name
	Default  string
	Example  string // what the sample file and the documents show instead of the default
	Doc      string // one or two sentences
	Fallback string // a further environment variable, read when ours is not set
	// Secret is, for a secret, its name as a systemd credential. A file may hold the secret instead; see secretfile.go.
	Secret string
	// Emptiable says that a variable that is set, to nothing, counts.
	Emptiable bool
	value     func(*Config) value
}

const million = 1_000_000

var settings = []setting{
	{
		Key: "redis.url", Default: "redis://127.0.0.1:6379/0", Fallback: "REDIS_URL", Secret: "redis-url",
		Doc: "The Redis server: redis://user:password@host:port/database, rediss:// for TLS, unix:// for a socket. " +
			"Sentinels and the nodes of a cluster are written as redis.mode says.",
		value: func(c *Config) value { return redisURL{&c.Redis.URL} },
	}, {
		Key: "redis.url_file", Example: "/run/secrets/redis-url",
		Doc: "A file that holds redis.url, which then must not be set itself. With neither, the systemd credential " +
			"redis-url is read if there is one.",
		value: func(c *Config) value { return fileName{&c.Redis.URLFile} },
	}, {
		Key: "redis.mode", Default: "standalone",
		Doc: "What redis.url leads to: one server; the Sentinels that know it, " +
			"redis://host:26379?master_name=name&addr=host2:26379; or nodes of a Redis Cluster, " +
			"redis://host:6379?addr=host2:6379.",
		value: func(c *Config) value { return choice{&c.Redis.Mode, redisModes} },
	}, {
		Key: "redis.tls_ca_file", Example: "/etc/aggregator/redis-ca.pem",
		Doc: "The CA certificates, in PEM form, that the server's certificate is verified with, for a rediss:// URL. If " +
			"not set, those of the system.",
		value: func(c *Config) value { return fileName{&c.Redis.TLSCAFile} },
	}, {
		Key: "redis.tls_cert_file", Example: "/etc/aggregator/redis-client.pem",
		Doc:   "The client certificate that is shown to the server, in PEM form, with its key in redis.tls_key_file.",
		value: func(c *Config) value { return fileName{&c.Redis.TLSCertFile} },
	}, {
		Key: "redis.tls_key_file", Example: "/etc/aggregator/redis-client.key",
		Doc:   "The key of redis.tls_cert_file, in PEM form, not encrypted.",
		value: func(c *Config) value { return fileName{&c.Redis.TLSKeyFile} },
	}, {
		Key: "redis.tls_server_name", Example: "redis.example.com",
		Doc:   "The name that the certificates of all servers must have, if it is not the host by which each is reached.",
		value: func(c *Config) value { return hostName{&c.Redis.TLSServerName} },
	}, {
		Key: "postgres.url", Example: "postgres://aggregator@127.0.0.1:5432/app", Fallback: "DATABASE_URL",
		Secret: "postgres-url",
		Doc: "The PostgreSQL server: postgres://user:password@host:port/database. What it leaves out comes from libpq's " +
			"PG* variables and password file.",
		value: func(c *Config) value { return postgresURL{&c.Postgres.URL} },
	}, {
		Key: "postgres.url_file", Example: "/run/secrets/postgres-url",
		Doc: "A file that holds postgres.url, which then must not be set itself. With neither, the systemd credential " +
			"postgres-url is read if there is one.",
		value: func(c *Config) value { return fileName{&c.Postgres.URLFile} },
	}, {
		Key: "postgres.schema", Example: "public",
		Doc: "The schema of the application's tables. If not set, the one schema on the search path of the role that has " +
			"them; it is never aggregator, our own.",
		value: func(c *Config) value { return schemaName{&c.Postgres.Schema} },
	}, {
		Key: "postgres.tables", Example: "book=books,genre_score=scores",
		Doc: "The names of the application's tables that are not found by themselves. Tables are found by their usual " +
			"names, in any case and with or without underscores, such as bookmbti for book_mbti.",
		value: func(c *Config) value { return tableNames{&c.Postgres.Tables} },
	}, {
		Key: "postgres.pooler", Default: "none",
		Doc: "What stands before PostgreSQL: nothing (none), or a pooler in transaction mode such as PgBouncer " +
			"(transaction). With a pooler, sessions have the settings of the role, and a change of a book is noticed only " +
			"after cache.ttl.",
		value: func(c *Config) value { return choice{&c.Postgres.Pooler, []string{"none", "transaction"}} },
	}, {
		Key: "postgres.kind", Default: "auto",
		Doc: "What postgres.url leads to: one PostgreSQL (postgresql), or the coordinator of Citus with child_profile " +
			"distributed over its workers (citus). With auto it is found out when connecting. On Citus a change of a book is " +
			"noticed only after cache.ttl.",
		value: func(c *Config) value { return choice{&c.Postgres.Kind, []string{"auto", "postgresql", "citus"}} },
	}, {
		Key: "postgres.time_zone", Example: "Asia/Seoul", Emptiable: true,
		Doc: "The time zone of the sessions, in which columns of the application without a time zone (timestamp) are " +
			"written and read. If empty, the one that the server has for the role, the database or itself, which is usually " +
			"that of the application.",
		value: func(c *Config) value { return sessionZone{&c.Postgres.TimeZone} },
	}, {
		Key: "source.kind", Default: "stream",
		Doc:   "What producers add events to: a Redis stream, or a Redis list.",
		value: func(c *Config) value { return choice{&c.Source.Kind, []string{"stream", "list"}} },
	}, {
		Key: "source.key", Example: "book-like-events",
		Doc:   "The key of the stream or list: book-like-events or BookLikeEventList if not set.",
		value: func(c *Config) value { return keyName{&c.Source.Key} },
	}, {
		Key: "source.push_side", Default: "left",
		Doc:   "Where producers add to a list: left for LPUSH, right for RPUSH. A stream has no sides.",
		value: func(c *Config) value { return choice{&c.Source.PushSide, []string{"left", "right"}} },
	}, {
		Key: "source.partitions", Default: "1",
		Doc: "Over how many keys events are spread: with N > 1 they are key:{0} to key:{N-1}, and a producer uses child " +
			"profile id modulo N.",
		value: func(c *Config) value { return integer{&c.Source.Partitions, 1, 16384} },
	}, {
		Key: "events.weights", Default: weights{&defaultWeights}.String(),
		Doc:   "What an event adds to the scores, by action. LIKE and DISLIKE keep their defaults unless named.",
		value: func(c *Config) value { return weights{&c.Events.Weights} },
	}, {
		Key: "events.coalesce", Default: "none",
		Doc:   "Which events of a profile on a book count within a chunk: all of them (none), or only the last one (last).",
		value: func(c *Config) value { return choice{&c.Events.Coalesce, []string{"none", "last"}} },
	}, {
		Key: "chunk.max_events", Default: "1000000",
		Doc: "The most events that are read and applied at a time. A chunk takes the events that are there: few and at " +
			"once when it is quiet; many from a backlog, for fewer transactions. A million events need 50 MB of memory.",
		value: func(c *Config) value { return integer{&c.Chunk.MaxEvents, 1, million} },
	}, {
		Key: "chunk.max_wait", Default: "10ms",
		Doc: "How long a chunk waits for more events, counted from when the previous chunk was applied. An event that " +
			"comes to a quiet source does not wait.",
		value: func(c *Config) value { return duration{&c.Chunk.MaxWait, 0, time.Minute} },
	}, {
		Key: "apply.workers", Default: "4",
		Doc:   "How many connections to PostgreSQL apply a chunk side by side.",
		value: func(c *Config) value { return integer{&c.Apply.Workers, 1, 64} },
	}, {
		Key: "apply.profiles_per_transaction", Default: "1",
		Doc: "How many profiles share a transaction. More is faster for a large backlog. With auto it is one while a " +
			"chunk has fewer than 100 profiles, else up to 50. A group that PostgreSQL refuses is retried one profile at " +
			"a time.",
		value: func(c *Config) value { return groupSize{&c.Apply.ProfilesPerTransaction} },
	}, {
		Key: "history.preferred", Default: string(scores.MeanOfPositive),
		Doc: "Which genres and topics become favorites of a row of history: those that score above zero and at least the " +
			"mean of the scores above zero (mean_of_positive), or those above the mean of the scores that are not below zero " +
			"(above_mean_of_nonnegative). Choose the rule of the application's own code.",
		value: func(c *Config) value { return preference{&c.History.Preferred} },
	}, {
		Key: "journal.keep", Default: "0s",
		Doc: "How long the events of each row of history are kept with it, for aggregator explain: positions, books and " +
			"weights. A purge removes what is older, and what belongs to a row that it removes. 0s keeps no journal, and " +
			"leaves an earlier one as it is.",
		value: func(c *Config) value { return duration{&c.Journal.Keep, 0, noLimit} },
	}, {
		Key: "dead.max_share", Default: "0.5",
		Doc: "The share of the latest entries of a source that may be dead letters. With more the source halts before it " +
			"writes them: that is most likely a misconfiguration, not bad data. 1 disables this.",
		value: func(c *Config) value { return share{&c.Dead.MaxShare} },
	}, {
		Key: "dead.window", Default: "10000",
		Doc:   "Over how many of the latest entries dead.max_share is counted. Until there are that many, nothing halts.",
		value: func(c *Config) value { return integer{&c.Dead.Window, 1, 10 * million} },
	}, {
		Key: "dead.retry_unknown_for", Default: "10m",
		Doc: "How long a dead letter of an unknown profile or book is retried automatically once they exist: the " +
			"application may commit after it has pushed. 0s disables this.",
		value: func(c *Config) value { return duration{&c.Dead.RetryUnknownFor, 0, noLimit} },
	}, {
		Key: "dead.retry_every", Default: "30s",
		Doc:   "How often run looks whether such profiles and books exist now.",
		value: func(c *Config) value { return duration{&c.Dead.RetryEvery, time.Second, time.Hour} },
	}, {
		Key: "dead.keep", Default: "0s",
		Doc: "How long dead letters that were applied or dropped are kept. A purge removes older ones, and keeps their " +
			"number for aggregator verify. 0s keeps all.",
		value: func(c *Config) value { return duration{&c.Dead.Keep, 0, noLimit} },
	}, {
		Key: "trim.retain", Default: "0s",
		Doc: "How long processed entries stay in Redis, so that they can be read again after PostgreSQL was restored " +
			"from a backup. 0s removes them at once.",
		value: func(c *Config) value { return duration{&c.Trim.Retain, 0, noLimit} },
	}, {
		Key: "cache.books", Default: "100000",
		Doc:   "How many books are remembered.",
		value: func(c *Config) value { return integer{&c.Cache.Books, 1, 1000 * million} },
	}, {
		Key: "cache.profiles", Default: "1000000",
		Doc:   "How many child profiles are remembered.",
		value: func(c *Config) value { return integer{&c.Cache.Profiles, 1, 1000 * million} },
	}, {
		Key: "cache.ttl", Default: "10m",
		Doc:   "How long a book or profile is remembered. Changes in PostgreSQL are noticed at once; this is the safety net.",
		value: func(c *Config) value { return duration{&c.Cache.TTL, time.Second, noLimit} },
	}, {
		Key: "purge.older_than", Default: "744h",
		Doc: "How long ago the application must have deleted a row of history for a purge to remove it. 744h is 31 days: " +
			"never sooner than after a month.",
		value: func(c *Config) value { return duration{&c.Purge.OlderThan, 0, noLimit} },
	}, {
		Key: "retention.all_days", Default: "0",
		Doc: "For how many days every row of history is kept. After that a purge leaves only the last row of each UTC " +
			"day, and every diagnosis. 0 keeps all rows forever.",
		value: func(c *Config) value { return integer{&c.Retention.AllDays, 0, 36500} },
	}, {
		Key: "retention.daily_days", Default: "365",
		Doc: "Up to what age, in days, the last row of each day is kept, if retention.all_days is not 0. After that a " +
			"purge leaves only the last row of each month.",
		value: func(c *Config) value { return integer{&c.Retention.DailyDays, 1, 36500} },
	}, {
		Key: "shutdown.grace", Default: "30s",
		Doc: "How long the chunk in flight may take after SIGTERM. What is not processed by then is processed after the " +
			"next start.",
		value: func(c *Config) value { return duration{&c.Shutdown.Grace, 0, time.Hour} },
	}, {
		Key: "lease.ttl", Default: "5s",
		Doc: "How long the lease of a source lasts unless run renews it. Instances share the sources, and take over " +
			"those of an instance that is gone. 0s disables leases: the instance drains all sources, also beside others, " +
			"which is exact but double work.",
		value: func(c *Config) value {
			return durationOrNone{duration{&c.Lease.TTL, cluster.Shortest, cluster.Longest}}
		},
	}, {
		Key: "lease.name", Example: "aggregator-0", Emptiable: true,
		Doc: "The name of this instance among those that share the sources. One that is started again within lease.ttl " +
			"under the same name takes its own sources back. No two that run may have the same. If empty, a new one of host, " +
			"process and a random number.",
		value: func(c *Config) value { return instanceName{&c.Lease.Name} },
	}, {
		Key: "schedule.drain", Example: `"30 2 * * *"`, Emptiable: true,
		Doc: "When run drains, as a cron expression: minute, hour, day, month, weekday. If empty, run drains " +
			"continuously, as events come.",
		value: func(c *Config) value { return cronExpression{&c.Schedule.Drain} },
	}, {
		Key: "schedule.purge", Example: `"0 3 * * *"`, Emptiable: true,
		Doc: "When run does what aggregator purge does, for which its role must be granted aggregator_purge. If " +
			"empty, never.",
		value: func(c *Config) value { return cronExpression{&c.Schedule.Purge} },
	}, {
		Key: "schedule.search_text", Example: `"0 4 * * *"`, Emptiable: true,
		Doc:   "When run does what aggregator search-text does. If empty, never.",
		value: func(c *Config) value { return cronExpression{&c.Schedule.SearchText} },
	}, {
		Key: "schedule.time_zone", Default: "UTC",
		Doc: "The time zone of the schedules, such as Europe/Berlin; Local is that of the machine. CRON_TZ=Europe/Berlin " +
			"before an expression applies to that expression alone.",
		value: func(c *Config) value { return timeZone{&c.Schedule.TimeZone} },
	}, {
		Key: "run.on_halt", Default: "exit",
		Doc: "What run does when a source has halted: it ends with exit code 1 (exit), or works on no source and answers " +
			"at http.addr, /readyz with 503 and the reason, until it is reloaded or restarted (stay).",
		value: func(c *Config) value { return choice{&c.Run.OnHalt, []string{"exit", Stay}} },
	}, {
		Key: "runs.keep", Default: "1000",
		Doc:   "How many runs of each kind are kept for aggregator runs.",
		value: func(c *Config) value { return integer{&c.Runs.Keep, 1, 100_000} },
	}, {
		Key: "http.addr", Default: "127.0.0.1:9464", Emptiable: true,
		Doc: "Where run answers /healthz, /readyz, /version and /metrics, which need no login, and the operator page; " +
			"empty disables it. A host name in it is one that browsers may use.",
		value: func(c *Config) value { return listenAddr{&c.HTTP.Addr} },
	}, {
		Key: "http.hosts", Example: "aggregator.example.com",
		Doc: "Further names by which browsers reach the operator page, separated by commas. A request for another host is " +
			"refused, because a foreign site may have led the browser here. The address itself and, on this machine, " +
			"localhost always count.",
		value: func(c *Config) value { return list{&c.HTTP.Hosts, aHost} },
	}, {
		Key: "http.users_file", Example: "/etc/aggregator/users.yaml",
		Doc: "Who may log in to the operator page with a password: two maps, operators and viewers, each of names to " +
			"bcrypt hashes. It is read again when it has changed.",
		value: func(c *Config) value { return fileName{&c.HTTP.UsersFile} },
	}, {
		Key: "http.tokens_file", Example: "/etc/aggregator/tokens.yaml",
		Doc: "Which programs may log in with a bearer token: two maps, operators and viewers, each of names to tokens of " +
			"32 characters or more. It is read again when it has changed.",
		value: func(c *Config) value { return fileName{&c.HTTP.TokensFile} },
	}, {
		Key: "http.trusted_header", Example: "X-Forwarded-User",
		Doc: "The header in which a proxy sends the name of the user that it has logged in. It counts only from " +
			"http.trusted_proxies, which must remove it from what clients send.",
		value: func(c *Config) value { return headerName{&c.HTTP.TrustedHeader} },
	}, {
		Key: "http.trusted_proxies", Example: "10.1.2.3,10.2.0.0/24",
		Doc:   "The addresses or networks of the proxies that http.trusted_header is believed from, separated by commas.",
		value: func(c *Config) value { return networks{&c.HTTP.TrustedProxies} },
	}, {
		Key: "http.operators", Example: "alice,bob",
		Doc: "Which users of http.trusted_header are operators, separated by commas. The others are viewers, and may " +
			"change nothing.",
		value: func(c *Config) value { return list{&c.HTTP.Operators, aUser} },
	}, {
		Key: "http.tls_cert_file", Example: "/etc/aggregator/http.pem",
		Doc: "The certificate of http.addr, in PEM form, with its key in http.tls_key_file: everything there is then " +
			"answered over TLS. Both are read again when they have changed.",
		value: func(c *Config) value { return fileName{&c.HTTP.TLSCertFile} },
	}, {
		Key: "http.tls_key_file", Example: "/etc/aggregator/http.key",
		Doc:   "The key of http.tls_cert_file, in PEM form, not encrypted.",
		value: func(c *Config) value { return fileName{&c.HTTP.TLSKeyFile} },
	}, {
		Key: "http.pprof", Default: "false",
		Doc: "Whether run also answers /debug/pprof/, for Go's profiler. It answers this machine alone, whatever " +
			"http.addr is.",
		value: func(c *Config) value { return boolean{&c.HTTP.Pprof} },
	}, {
		Key: "log.level", Default: "info",
		Doc:   "The lowest level of messages that are logged.",
		value: func(c *Config) value { return choice{&c.Log.Level, []string{"debug", "info", "warn", "error"}} },
	}, {
		Key: "log.format", Default: "auto",
		Doc: "How messages are written to stderr, or straight to systemd's journal, with fields. auto is text on a " +
			"terminal, the journal if stderr goes there, and JSON otherwise.",
		value: func(c *Config) value { return choice{&c.Log.Format, []string{"auto", "text", "json", "journal"}} },
	},
}

// Env is the variable of the setting: AGGREGATOR_SOURCE_PUSH_SIDE.
func (s setting) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
}

// Flag is the flag of the setting: source-push-side. Secrets have none: arguments can be
// read by everyone on the machine.
func (s setting) Flag() string {
	if s.secret() {
		return ""
	}
	return strings.NewReplacer(".", "-", "_", "-").Replace(s.Key)
}

func (s setting) secret() bool { return s.Secret != "" }

// invalid is the error of a value that came from origin. Secrets stay out of it.
func (s setting) invalid(origin, text string, err error) error {
	if origin != "" {
		origin = " (" + origin + ")"
	}
	if s.secret() {
		return invalidf("%s%s: %w", s.Key, origin, err)
	}
	return invalidf("%s = %q%s: %w", s.Key, text, origin, err)
}
