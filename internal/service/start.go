package service

import "aggregator/internal/postgres"

// logStart logs what has started, and on which servers: the reader of a log knows the program only from there.
func (i *Instance) logStart(server *Redis) {
	file := i.config.File()
	if file == "" {
		file = "none"
	}
	i.log.Info("started", "version", i.version, "instance", i.name, "redis", server.where,
		"postgres", postgres.Describe(string(i.config.Postgres.URL)), "config", file)
}
