package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/history"
	"aggregator/internal/ledger"
	"aggregator/internal/scores"
	"aggregator/internal/verdict"
)

// Probe finds out whether PostgreSQL takes what every chunk writes, whatever its events are: it
// does all of it for a child profile that exists, adding next to nothing, in a transaction that it rolls back.
// So it meets the types, constants, defaults, constraints, triggers, partitions, policies and
// privileges that a real one would. With journal it does so for the journal, too. What is refused for one profile is
// tried for others, up to ten spread over all: a refusal that strikes some and spares others is a matter of data.
//
// The error is a *verdict.Misconfiguration, or one for verdict.Of to judge. A lock that is not to be had at
// once proves nothing and is no error. All that remains is a number that the history's sequence has given
// out, and the space of rolled back rows until the next vacuum. Safe to repeat and beside other work.
func Probe(ctx context.Context, pool *pgxpool.Pool, source string, journal bool) error {
	if err := Trial(ctx, pool, source, journal); !errors.Is(err, ErrBusy) {
		return err
	}
	return nil
}

// ErrBusy is in the error of a Trial that gave way to the locks of other sessions.
var ErrBusy = errors.New("another session holds a lock")

// Trial is Probe that returns an error with ErrBusy for a lock that is not to be had within 500 ms.
func Trial(ctx context.Context, pool *pgxpool.Pool, source string, journal bool) error {
	types, err := history.ReadTypes(ctx, pool)
	if err != nil {
		return err
	}
	if err := unwritten(ctx, pool, types); err != nil {
		return err
	}
	if journal {
		if err := callable(ctx, pool); err != nil {
			return err
		}
	}
	by := rules{types: types, journal: journal}
	profiles, err := someProfiles(ctx, pool)
	if err != nil {
		return fmt.Errorf("probing child_profile: %w", err)
	}
	var refused streak
	for trial, profile := range profiles {
		err := try(ctx, pool, source, trial, profile, by)
		var refusal *pgconn.PgError
		switch {
		case errors.Is(err, errTrial): // all went well
			return nil
		case !errors.As(err, &refusal):
			return err
		case busy(refusal):
			return fmt.Errorf("%w: %s", ErrBusy, describe(refusal))
		}
		switch verdict.Of(refusal) {
		case verdict.Data:
			refused.refused(refusal)
		case verdict.Incomplete, verdict.Gone: // the profile is there, or was a moment ago
			refused.refused(keptOut(refusal))
		default:
			return fmt.Errorf("probing the tables: %w", err)
		}
		if refused.length < refused.tried {
			return nil // not all for the same reason
		}
	}
	if refused.tried == 0 {
		return nil
	}
	return &verdict.Misconfiguration{
		What: fmt.Sprintf("PostgreSQL refuses what every event writes, as a trial for %d child profiles "+
			"has shown: %s", refused.tried, describe(refused.latest)),
	}
}

// nextToNothing changes no score but one of zero, whose genre or topic it makes a preferred one. Each type of
// column can hold it.
const nextToNothing = 1e-30

// busy says whether a trial failed only because of the locks of other sessions.
func busy(refusal *pgconn.PgError) bool {
	switch refusal.Code {
	case "55P03", "57014", "40001", "40P01": // lock or statement time-out, serialization failure, deadlock
		return true
	}
	return false
}

// someProfiles are up to ten, spread over all ids.
func someProfiles(ctx context.Context, pool *pgxpool.Pool) (found []int64, err error) {
	var lo, hi *int64
	err = pool.QueryRow(ctx, `SELECT min(id)::bigint, max(id)::bigint FROM child_profile`).Scan(&lo, &hi)
	if err != nil || lo == nil {
		return nil, err
	}
	const steps = 9
	batch := &pgx.Batch{}
	for k := range uint64(steps + 1) {
		width := uint64(*hi) - uint64(*lo) // the difference may be too large for an int64
		from := *lo + int64(width/steps*k+width%steps*k/steps)
		batch.Queue(`SELECT id::bigint FROM child_profile WHERE id >= $1::bigint ORDER BY id LIMIT 1`, from).
			Query(func(rows pgx.Rows) error {
				ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
				found = append(found, ids...)
				return err
			})
	}
	err = pool.SendBatch(ctx, batch).Close()
	return slices.Compact(found), err
}

// try does for one profile what chunks do, in a transaction that is rolled back: errTrial says that all of
// it went well.
func try(ctx context.Context, pool *pgxpool.Pool, source string, trial int, profile int64, by rules) error {
	name := source + "@probe" // no source of ours has such a name: see config
	at := events.Position{Ms: 1}
	next := events.Position{Ms: 2}
	book := int64(0)
	letter := deadletter.Content{
		Position: at, ProfileID: &profile, BookID: &book, Reason: events.UnknownBook,
		Payload: events.Payload{Form: events.FormEvent},
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		delta := scores.Delta{ProfileID: profile, Typed: true, Events: 1}
		for table, sums := range map[string]*[]scores.Sum{"genre": &delta.Genres, "topic": &delta.Topics} {
			rows, _ := tx.Query(ctx, someScores[table], profile, trial) // its error is also that of the rows
			ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil {
				return err
			}
			for _, id := range ids {
				*sums = append(*sums, scores.Sum{ID: id, Value: nextToNothing})
			}
		}
		batch := &pgx.Batch{}
		// A lock of another session must not hold the trial up, nor the trial the other session.
		batch.Queue(`SELECT set_config('lock_timeout', '500ms', true), set_config('statement_timeout', '10s', true)`)
		batch.Queue(`SET CONSTRAINTS ALL IMMEDIATE`)
		// Nothing is found. It locks the marks before the checkpoints, which is the order of all: see ledger.Reset.
		batch.Queue(`UPDATE aggregator.mark SET applied = applied WHERE source = $1 AND child_profile_id = $2`, name, profile)
		batch.Queue(`INSERT INTO aggregator.checkpoint (source, position_ms, position_seq, base, entries)
VALUES ($1, 0, 0, 0, 0)`, name)
		from := ledger.Checkpoint{Source: name}
		queueOne(batch, from, by, change{delta: scores.Delta{ProfileID: profile}, to: at})
		queueOne(batch, from, by, change{delta: delta, seen: at, to: next, careful: true, events: []events.Event{{
			Position: next, ProfileID: profile, BookID: book, Action: &events.Action{Weight: nextToNothing},
		}}})
		var without *string
		batch.Queue(withoutFavorites, profile).QueryRow(func(row pgx.Row) error { return row.Scan(&without) })
		deadletter.Queue(batch, name, []deadletter.Content{letter})
		deadletter.QueueApplied(batch, deadletter.ID{Source: name, Position: at}, events.Event{ProfileID: profile})
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		if without != nil {
			return &pgconn.PgError{Code: "P0001", Message: "a row that was inserted into " + *without +
				" is not there: a trigger or a rule keeps it out"}
		}
		err := ledger.TryMoveCheckpoint(ctx, tx, ledger.Advance{
			From: from, To: next, Entries: 2, Marks: []ledger.Place{{ProfileID: profile, At: next}},
		})
		if err != nil {
			return err
		}
		return errTrial
	})
}

// callable finds functions of the journal that are not there, or that the role may not call.
func callable(ctx context.Context, pool *pgxpool.Pool) error {
	var missing []string
	if err := pool.QueryRow(ctx, uncallable).Scan(&missing); err != nil {
		return fmt.Errorf("probing the functions of the journal: %w", err)
	}
	if len(missing) > 0 {
		return &verdict.Misconfiguration{What: fmt.Sprintf("journal.keep is set, and the role may not call %s: "+
			"run config/roles.sql in this database", strings.Join(missing, " and "))}
	}
	return nil
}

const uncallable = `SELECT coalesce(array_agg('aggregator.' || name), '{}')
FROM unnest('{apply_journaled,apply_each_journaled}'::text[]) name
WHERE NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'aggregator'::regnamespace AND proname = name
    AND has_function_privilege(oid, 'EXECUTE'))`

// withoutFavorites names the tables that have no favorite of a profile's newest history row, although a positive
// score makes one (scores.MeanOfPositive).
const withoutFavorites = `SELECT string_agg(name, ' and ') FROM (VALUES
    ('favorite_genre',
        EXISTS (SELECT FROM genre_score WHERE child_profile_id = $1 AND score > 0 AND score < 'Infinity'::float8),
        EXISTS (SELECT FROM favorite_genre WHERE child_profile_id = $1 AND history_id = (
            SELECT max(id) FROM child_personality_history WHERE child_profile_id = $1))),
    ('favorite_topic',
        EXISTS (SELECT FROM topic_score WHERE child_profile_id = $1 AND score > 0 AND score < 'Infinity'::float8),
        EXISTS (SELECT FROM favorite_topic WHERE child_profile_id = $1 AND history_id = (
            SELECT max(id) FROM child_personality_history WHERE child_profile_id = $1)))
) f (name, due, there) WHERE due AND NOT there`

// someScores are what to add to: a score that the profile ($1) has, and one that it does not have, among those of
// some books. They are others in each trial ($2), because a single one may be refused for reasons of its own.
var someScores = map[string]string{
	"genre": `(SELECT genre_id::bigint AS id FROM genre_score WHERE child_profile_id = $1 AND genre_id IS NOT NULL
    ORDER BY hashint8(genre_id + $2::int) LIMIT 1)
UNION (
    SELECT id FROM (SELECT DISTINCT genre_id::bigint AS id FROM (SELECT genre_id FROM book ORDER BY id LIMIT 200) b) b
    WHERE id IS NOT NULL AND id <> ALL (ARRAY(
        SELECT genre_id::bigint FROM genre_score WHERE child_profile_id = $1 AND genre_id IS NOT NULL))
    ORDER BY hashint8(id + $2::int) LIMIT 1
) ORDER BY 1`,
	"topic": `(SELECT topic_id::bigint AS id FROM topic_score WHERE child_profile_id = $1 AND topic_id IS NOT NULL
    ORDER BY hashint8(topic_id + $2::int) LIMIT 1)
UNION (
    SELECT id FROM (SELECT DISTINCT topic_id::bigint AS id FROM (SELECT topic_id FROM book_topic LIMIT 200) t) t
    WHERE id IS NOT NULL AND id <> ALL (ARRAY(
        SELECT topic_id::bigint FROM topic_score WHERE child_profile_id = $1 AND topic_id IS NOT NULL))
    ORDER BY hashint8(id + $2::int) LIMIT 1
) ORDER BY 1`,
}

// unwritten finds columns that need a value which no statement of ours gives, because a trial cannot always
// insert a row into each table. It also finds MBTI types that are missing where each history row needs one.
func unwritten(ctx context.Context, pool *pgxpool.Pool, types history.Types) error {
	rows, _ := pool.Query(ctx, unwrittenColumns) // its error is also that of the rows
	var table, column string
	var all []string
	typed := false
	_, err := pgx.ForEachRow(rows, []any{&table, &column}, func() error {
		if column == "mbti_id" {
			typed = true
			return nil
		}
		all = append(all, fmt.Sprintf(
			"column %s of table %s is NOT NULL, has no default, and is not written by the service", column, table))
		return nil
	})
	if err != nil {
		return fmt.Errorf("probing the columns: %w", err)
	}
	if missing := types.Missing(); typed && len(missing) > 0 {
		all = append(all, fmt.Sprintf(
			"column mbti_id of table child_personality_history is NOT NULL, and table mbti lacks %s",
			strings.Join(missing, ", ")))
	}
	if len(all) > 0 {
		return &verdict.Misconfiguration{What: strings.Join(all, "; ")}
	}
	return nil
}

// A trigger may fill in a value before PostgreSQL checks whether there is one. Of what we write only the type
// may be NULL.
const unwrittenColumns = `SELECT t.name, a.attname
FROM (VALUES
    ('genre_score', '{child_profile_id,genre_id,score}'::name[]),
    ('topic_score', '{child_profile_id,topic_id,score}'),
    ('cumulative_mbti_score', '{child_profile_id,i_score,e_score,s_score,n_score,t_score,f_score,j_score,p_score}'),
    ('child_personality_history', '{child_profile_id,created_at,history_created_type,is_deleted,
        i_score,e_score,s_score,n_score,t_score,f_score,j_score,p_score}'),
    ('favorite_genre', '{child_profile_id,history_id,genre_id}'),
    ('favorite_topic', '{child_profile_id,history_id,topic_id}')
) t (name, written)
JOIN pg_attribute a ON a.attrelid = to_regclass(t.name)
JOIN pg_type y ON y.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped AND (a.attnotnull OR y.typnotnull) AND NOT a.atthasdef AND a.attidentity = ''
    AND y.typdefault IS NULL AND a.attname <> ALL (t.written)
    AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal
        AND g.tgtype & 7 = 7) -- for each row, before, insert
ORDER BY 1, 2`

// ofSchema says whether a refusal that looks like one of data is the fault of the deployment: a number that a
// sequence gave out was there already, so the sequence is lower than the ids of its table. The second error
// is that of a server.
func (a *Applier) ofSchema(ctx context.Context, why *pgconn.PgError) (wrong, err error) {
	if why.Code != "23505" { // unique violation
		return nil, nil
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	var column string
	err = a.Pool.QueryRow(ctx, sequenced, why.SchemaName, why.TableName, why.ConstraintName).Scan(&column)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking at the constraint %s: %w", why.ConstraintName, err)
	}
	return &verdict.Misconfiguration{
		What: fmt.Sprintf("the sequence of column %s of table %s gives out numbers that are in the table already: "+
			"set it to the greatest of them (setval); PostgreSQL says: %s", column, why.TableName, describe(why)),
	}, nil
}

const sequenced = `SELECT a.attname FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
	JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY (i.indkey)
LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
WHERE n.nspname = $1 AND t.relname = $2 AND x.relname = $3
    AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%')
LIMIT 1`
