package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
)

// table is where members and leases are. The simulation has one in memory.
type table interface {
	// turn renews, takes and gives up in one statement, and returns what there is afterwards. Of what it is
	// to take, it takes what is still free. Safe to repeat.
	turn(ctx context.Context, t turn) (view, error)
	// leave removes the member, and its leases of these names, and notifies all. Safe to repeat.
	leave(ctx context.Context, me Member, sources []string, say string) error
	// word waits for a notification from another instance. After an error it can be called again.
	word(ctx context.Context) (string, error)
	close()
}

// turn is what a member asks for.
type turn struct {
	Me     Member // its times are set by PostgreSQL
	TTL    time.Duration
	Renew  []string // leases, of which it may have only some
	Take   []string
	GiveUp []string
	Say    string    // to all; empty: nothing
	Former time.Time // when a process of the same name was last seen whose place is to be taken; zero: none
}

// view is what members and leases there are. If me is another process of the same name, nothing
// was done.
type view struct {
	Now     time.Time
	Me      *Member
	Members []Member // the others
	Leases  []Lease
}

// channel is where instances tell each other that there is something to do.
const channel = "aggregator_cluster"

// rows are of these columns: m is a member, l a lease.
const turnStatement = `
WITH me AS (
    INSERT INTO aggregator.member AS m (instance, token, started_at, seen_at, expires_at, draining, version,
	source_kind, source_key, partitions)
    VALUES ($1, $2, now(), now(), now() + $3::interval, $4, $5, $6, $7, $8)
    ON CONFLICT (instance) DO UPDATE
	SET token = excluded.token, seen_at = excluded.seen_at, expires_at = excluded.expires_at,
        started_at = CASE WHEN m.token = excluded.token THEN m.started_at ELSE excluded.started_at END,
        draining = excluded.draining, version = excluded.version,
        source_kind = excluded.source_kind, source_key = excluded.source_key, partitions = excluded.partitions
    WHERE m.token = excluded.token OR m.seen_at = $9 OR m.expires_at <= now() OR m.expires_at > now() + $10::interval
    RETURNING *
), forgotten AS (
    DELETE FROM aggregator.member WHERE instance <> $1 AND expires_at < now() - $15::interval AND $14 <> ''
), given_up AS (
    DELETE FROM aggregator.lease WHERE holder = $1 AND source = ANY ($11::text[]) AND EXISTS (SELECT FROM me)
	RETURNING source
), renewed AS (
    UPDATE aggregator.lease SET expires_at = now() + $3::interval
    WHERE holder = $1 AND source = ANY ($12::text[]) AND EXISTS (SELECT FROM me)
    RETURNING *
), taken AS (
    INSERT INTO aggregator.lease AS l (source, holder, acquired_at, expires_at)
    SELECT s, $1, now(), now() + $3::interval FROM unnest($13::text[]) s WHERE EXISTS (SELECT FROM me)
    ORDER BY s -- all take them in this order: none waits for one that waits for it
    ON CONFLICT (source) DO UPDATE
	SET holder = excluded.holder, acquired_at = excluded.acquired_at, expires_at = excluded.expires_at
    WHERE l.holder = excluded.holder OR l.expires_at <= now() OR l.expires_at > now() + $10::interval
    RETURNING *
), leases AS (
    SELECT * FROM renewed UNION ALL SELECT * FROM taken
)
SELECT 'm', instance, token, started_at, expires_at, seen_at, draining, version, source_kind, source_key, partitions,
	now()
FROM (SELECT * FROM me UNION ALL SELECT * FROM aggregator.member
    WHERE instance <> $1 OR NOT EXISTS (SELECT FROM me)) m
UNION ALL
SELECT 'l', source, holder, acquired_at, expires_at, NULL, NULL, NULL, NULL, NULL, NULL, now()
FROM (SELECT * FROM leases UNION ALL SELECT * FROM aggregator.lease
    WHERE source NOT IN (SELECT source FROM leases) AND source NOT IN (SELECT source FROM given_up)) l
UNION ALL
SELECT 'w', pg_notify('` + channel + `', $14)::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, now()
WHERE $14 <> ''`

const leaveStatement = `
WITH gone AS (
    DELETE FROM aggregator.member WHERE instance = $1 AND token = $2 RETURNING instance
), freed AS (
    DELETE FROM aggregator.lease WHERE holder IN (SELECT instance FROM gone) AND source = ANY ($3::text[])
	RETURNING source
)
SELECT pg_notify('` + channel + `', $4)`

// server is the table in PostgreSQL. It has a connection of its own, on which it also listens: a lease is
// renewed however busy the other connections are. Behind a pooler it cannot listen.
type server struct {
	config *pgxpool.Config
	conn   *pgx.Conn // nil: none
}

func (s *server) connect(ctx context.Context) (*pgx.Conn, error) {
	if s.conn != nil && !s.conn.IsClosed() {
		return s.conn, nil
	}
	s.close()
	conn, err := postgres.Connect(ctx, s.config)
	if err != nil {
		return nil, err
	}
	if !postgres.Pooled(s.config.ConnConfig) {
		if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
			closeConn(conn)
			return nil, err
		}
	}
	s.conn = conn
	return conn, nil
}

func (s *server) close() {
	if s.conn != nil {
		closeConn(s.conn)
		s.conn = nil
	}
}

// closeConn closes a connection in the proper way, if the server still listens.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

func (s *server) turn(ctx context.Context, t turn) (v view, err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return view{}, err
	}
	rows, _ := conn.Query(ctx, turnStatement, // its error is also that of the rows
		t.Me.Instance, t.Me.Token, t.TTL, t.Me.Draining, t.Me.Version, t.Me.Group.Kind, t.Me.Group.Key, t.Me.Group.Partitions,
		t.Former, latest, t.GiveUp, t.Renew, t.Take, t.Say, keepGone)
	var (
		what, name                 string
		holder, version, kind, key *string
		began, expires, seen       *time.Time
		draining                   *bool
		partitions                 *int
	)
	_, err = pgx.ForEachRow(rows,
		[]any{&what, &name, &holder, &began, &expires, &seen, &draining, &version, &kind, &key, &partitions, &v.Now},
		func() error {
			switch what {
			case "l":
				v.Leases = append(v.Leases, Lease{name, *holder, *began, *expires})
			case "m":
				m := Member{
					name, *holder, *began, *seen, *expires, *draining, or(version),
					Group{or(kind), or(key), or(partitions)},
				}
				if name == t.Me.Instance {
					v.Me = &m
				} else {
					v.Members = append(v.Members, m)
				}
			}
			return nil
		})
	return v, err
}

// or is the value that p points to, or the zero value.
func or[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

func (s *server) leave(ctx context.Context, me Member, sources []string, say string) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, leaveStatement, me.Instance, me.Token, sources, say)
	return err
}

// errSilent says that no notifications can be received: the keeper has to make do with its turns.
var errSilent = errors.New("no words are heard behind a pooler, or without a connection")

func (s *server) word(ctx context.Context) (string, error) {
	if s.conn == nil || s.conn.IsClosed() || postgres.Pooled(s.config.ConnConfig) {
		return "", errSilent
	}
	for {
		said, err := s.conn.WaitForNotification(ctx)
		if err != nil {
			return "", err
		}
		if said.PID != s.conn.PgConn().PID() { // otherwise it is our own
			return said.Payload, nil
		}
	}
}
