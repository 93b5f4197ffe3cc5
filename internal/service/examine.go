package service

import (
	"context"
	"errors"
	"time"

	"aggregator/internal/doctor"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// adminConnections are those of what http.addr answers, of the watch on the catalogue and of the leases.
const adminConnections = surveyConnections + pageConnections + 1 + 1

// Examine looks at both servers, with connections of its own, and takes up to a minute: see package doctor. With
// findings, the error is that of a server that could not be looked at. Changes nothing.
func (i *Instance) Examine(ctx context.Context) ([]doctor.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found, redisErr := i.examineRedis(ctx)
	more, postgresErr := i.examinePostgres(ctx)
	found = append(found, more...)
	if err := errors.Join(redisErr, postgresErr); err != nil {
		return found, err
	}
	return append(found, i.examineBoth(ctx)...), nil
}

// examineBoth compares the two, if both can be reached. If not, the checks of each server have said why.
func (i *Instance) examineBoth(ctx context.Context) []doctor.Finding {
	to, err := i.Connect(ctx, 1, 2)
	if err != nil {
		return nil
	}
	defer to.Close()
	elsewhere, err := i.FindElsewhere(ctx, to)
	if err != nil {
		return nil
	}
	return append(doctor.Incidents(ctx, to.Pool, to.Sources, elsewhere),
		doctor.Instances(ctx, to.Pool, i.Group(), i.config.Lease.TTL)...)
}

func (i *Instance) examineRedis(ctx context.Context) ([]doctor.Finding, error) {
	server, err := i.NewRedis(2)
	if err != nil {
		return nil, err
	}
	defer server.Client.Close()
	defer server.CloseAt(ctx)()
	sources, err := i.Sources(server)
	if err != nil {
		return nil, err
	}
	options := events.Options{Kind: i.config.Source.Kind, PushSide: i.config.Source.PushSide}
	found, err := doctor.Redis(ctx, server.Client, options, sources)
	if err != nil {
		err = server.Failed(err)
	}
	return found, err
}

func (i *Instance) examinePostgres(ctx context.Context) ([]doctor.Finding, error) {
	pool, err := postgres.Open(ctx, i.PostgresOptions(2))
	if err != nil {
		if finding, is := doctor.Refused(err); is {
			return []doctor.Finding{finding}, nil
		}
		return nil, err
	}
	defer pool.Close()
	return doctor.Postgres(ctx, pool, i.EngineConnections()+adminConnections, i.config.Postgres.Tables,
		i.config.Journal.Keep > 0)
}
