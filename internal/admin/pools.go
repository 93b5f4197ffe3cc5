package admin

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// pools are the connections with which the loop works.
type pools struct {
	postgres *pgxpool.Pool
	redis    redis.UniversalClient
}

var (
	pgConns = describe("pgxpool_connections", "Connections of the service to PostgreSQL, by what they do.", "state")
	pgMax   = describe("pgxpool_max_connections", "Connections of the service to PostgreSQL that may be open at most.")
	pgNew   = describe("pgxpool_new_connections_total", "Connections to PostgreSQL that were opened.")
	pgWaits = describe("pgxpool_waits_total", "Times that all connections to PostgreSQL were busy, or none was open.")
	pgWait  = describe("pgxpool_wait_seconds_total", "Total time spent waiting for a connection to PostgreSQL.")

	redisConns    = describe("redis_pool_connections", "Connections of the service to Redis, by what they do.", "state")
	redisRequests = describe(
		"redis_pool_requests_total", "Requests for a connection to Redis: hit if one was free, miss if one had to be opened.",
		"result")
	redisTimeouts = describe(
		"redis_pool_timeouts_total", "Requests for a connection to Redis that timed out because all were busy.")
	redisStale = describe("redis_pool_stale_connections_total", "Connections to Redis that were found broken.")
)

// Describe is of prometheus.Collector.
func (p pools) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, ch) }

// Collect is of prometheus.Collector.
func (p pools) Collect(ch chan<- prometheus.Metric) {
	to := sink(ch)
	pg := p.postgres.Stat()
	to.gauge(pgConns, float64(pg.AcquiredConns()), "busy")
	to.gauge(pgConns, float64(pg.IdleConns()), "idle")
	to.gauge(pgConns, float64(pg.ConstructingConns()), "opening")
	to.gauge(pgMax, float64(pg.MaxConns()))
	to.counter(pgNew, float64(pg.NewConnsCount()))
	to.counter(pgWaits, float64(pg.EmptyAcquireCount()))
	to.counter(pgWait, pg.EmptyAcquireWaitTime().Seconds())

	r := p.redis.PoolStats()
	to.gauge(redisConns, float64(r.TotalConns-r.IdleConns), "busy")
	to.gauge(redisConns, float64(r.IdleConns), "idle")
	to.counter(redisRequests, float64(r.Hits), "hit")
	to.counter(redisRequests, float64(r.Misses), "miss")
	to.counter(redisTimeouts, float64(r.Timeouts))
	to.counter(redisStale, float64(r.StaleConns))
}
