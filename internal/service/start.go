package service

import "aggregator/internal/postgres"

// logStart says what has started, and on which servers: whoever reads the log sees the program only
// through it.
func (i *Instance) logStart(server *Redis) {
	file := i.config.File()
	if file == "" {
		file = "none"
	}
	i.log.Info("started", "version", i.version, "instance", i.name, "redis", server.where,
		"postgres", postgres.Describe(string(i.config.Postgres.URL)), "config", file)
}
