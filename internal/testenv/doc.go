// Package testenv starts private Redis and PostgreSQL servers for tests, for the demo
// and for breaking a server on purpose. It needs no container and no
// privilege: only the server binaries, which scripts/provision installs. Linux only.
//
// A test asks for what it needs and gives nothing back; the package does:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		pool := connect(t, testenv.Database(t)) // migrated, empty, its own
//		client := dial(t, testenv.Redis(t))     // a server of its own
//	}
//
// All databases of a test process live on one PostgreSQL, started by the first test that
// asks, with every safety switched off for speed, and its files in memory where that has room.
// A test that stops, crashes or measures a server takes one of its own from NewPostgres,
// NewRedis, or, outside of tests, StartPostgres and StartRedis. A PostgreSQL may have standbys
// (NewStandby), synchronous ones where Configure says so.
//
// These are the URLs of the servers' masters. What runs with the rights of the daemon, or of
// another of the roles and users in config/roles.sql and config/redis.acl, gets those of As
// and RedisAs. RedisTLS and PostgresTLS make servers that speak TLS only.
//
// Servers listen on 127.0.0.1, on a port from a range that the kernel does not hand out, and that
// is theirs until they are closed: a stopped server finds it free when it is started again. What is
// committed survives Crash only on a server started with Durable, and what a Redis has
// acknowledged survives Kill only with AppendOnly. A test that takes the power from a server
// puts its data on a disk of the package disk, with PostgresIn or RedisIn, and uses CutOff.
//
// What initdb makes is kept in one file of 40 MB, aggregator-testenv/postgres-*.tar in the user's cache folder
// (os.UserCacheDir): a test unpacks it, which takes a tenth of initdb's 0.8 s of processor time. A PostgreSQL of
// another version replaces it. It may be deleted at any time; servers outside of tests neither make nor use it.
//
// Else nothing outlives the process that asked for it. Close removes server and folder; should
// the process be killed first, the kernel ends the servers, and the next process to use
// this package removes the folders. As root, the servers run as the user postgres, or
// nobody: PostgreSQL refuses to be root.
package testenv
