package postgres_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// newest is what this program knows.
func newest(t *testing.T, pool *pgxpool.Pool) int64 {
	t.Helper()
	schema, err := postgres.CheckSchema(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, schema.Known, schema.Version)
	require.Equal(t, fmt.Sprintf("version %d", schema.Version), schema.String())
	return schema.Known
}

// applied is a migration that a newer program has applied. A mark of 0 is none.
func applied(t *testing.T, pool *pgxpool.Pool, version, worksWith int64) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `INSERT INTO aggregator.schema_migrations (version_id, is_applied) VALUES ($1, true)`,
		version)
	require.NoError(t, err)
	if worksWith == 0 {
		return
	}
	_, err = pool.Exec(t.Context(), `INSERT INTO aggregator.schema_compatibility (version, works_with) VALUES ($1, $2)`,
		version, worksWith)
	require.NoError(t, err)
}

// A program works with a newer schema if every migration that it does not know says so.
func TestCheckSchemaNewer(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	u := testenv.Database(t)
	admin := openPool(t, u)
	readers := []*pgxpool.Pool{
		openPool(t, testenv.As(t, u, "aggregator_daemon")), openPool(t, testenv.As(t, u, "aggregator_reader")),
		openPool(t, testenv.As(t, u, "aggregator_purge")),
	}
	known := newest(t, admin)
	numbered := strings.NewReplacer(
		"{N}", fmt.Sprint(known), "{N1}", fmt.Sprint(known+1), "{N2}", fmt.Sprint(known+2), "{N3}", fmt.Sprint(known+3))
	type mark struct{ later, worksWith int64 } // both after the newest that is known
	const none = -99                           // a worksWith that is no mark
	const next = "version {N1}, this program was built for {N}; migration {N1} is marked compatible"
	for name, tc := range map[string]struct {
		applied []mark
		also    string
		unfit   int64 // after the newest that is known; 0: it fits
		want    string
	}{
		"marked":                  {applied: []mark{{1, 0}}, want: next},
		"works with earlier ones": {applied: []mark{{1, -1}}, want: next},
		"two, both marked": {
			applied: []mark{{1, 0}, {2, 0}},
			want:    "version {N2}, this program was built for {N}; migrations {N1} to {N2} are marked compatible",
		},
		"one that is not the next": {
			applied: []mark{{3, 0}}, want: "version {N3}, this program was built for {N}; migrations {N1} to {N3} are marked " +
				"compatible",
		},
		"no mark":                  {applied: []mark{{1, none}}, unfit: 1},
		"for newer programs alone": {applied: []mark{{1, 1}}, unfit: 1},
		"the second is not":        {applied: []mark{{1, 0}, {2, 1}}, unfit: 2},
		"the first is not":         {applied: []mark{{1, none}, {2, 0}}, unfit: 1},
		"applied in another order": {applied: []mark{{2, 0}, {1, none}}, unfit: 1},
		"no marks at all": {
			applied: []mark{{1, 0}}, also: `ALTER TABLE aggregator.schema_compatibility RENAME TO away`, unfit: 1,
		},
		"undone": {
			applied: []mark{{1, none}}, also: `DELETE FROM aggregator.schema_migrations WHERE version_id = {N1}`,
			want: "version {N}",
		},
		"only marked": {
			also: `INSERT INTO aggregator.schema_compatibility VALUES ({N1}, {N1})`, want: "version {N}",
		},
		"one that was not applied": {
			also: `INSERT INTO aggregator.schema_migrations (version_id, is_applied) VALUES ({N1}, false)`, want: "version {N}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			latest := known
			for _, m := range tc.applied {
				worksWith := known + m.worksWith
				if m.worksWith == none {
					worksWith = 0
				}
				applied(t, admin, known+m.later, worksWith)
				latest = max(latest, known+m.later)
			}
			mustExec(t, admin, numbered.Replace(tc.also))
			for _, pool := range readers {
				schema, err := postgres.CheckSchema(t.Context(), pool)
				require.Equal(t, known, schema.Known)
				if tc.unfit == 0 {
					require.NoError(t, err)
					require.Equal(t, numbered.Replace(tc.want), schema.String())
					continue
				}
				require.ErrorIs(t, err, postgres.ErrSchema)
				require.Equal(t, latest, schema.Version)
				require.ErrorContains(t, err,
					fmt.Sprintf("is at version %d, and this program was built for %d, which migration %d is not marked",
						latest, known, known+tc.unfit))
			}
			if err := postgres.Migrate(t.Context(), postgres.Options{URL: u}); tc.unfit == 0 {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, postgres.ErrSchema)
			}
			mustExec(t, admin, numbered.Replace(`ALTER TABLE IF EXISTS aggregator.away RENAME TO schema_compatibility;
				DELETE FROM aggregator.schema_migrations WHERE version_id > {N}; DELETE FROM aggregator.schema_compatibility
					WHERE version > {N}`))
		})
	}
}

// A migration that is undone while the schema is looked at is never taken for one without a mark.
func TestCheckSchemaWhileUndone(t *testing.T) {
	t.Parallel()
	pool := openPool(t, testenv.Database(t))
	next := newest(t, pool) + 1
	ctx, stop := context.WithCancel(t.Context())
	undoing := make(chan error)
	go func() {
		var err error
		for err == nil && ctx.Err() == nil {
			_, err = pool.Exec(t.Context(), fmt.Sprintf(`
				INSERT INTO aggregator.schema_migrations (version_id, is_applied) VALUES (%d, true);
				INSERT INTO aggregator.schema_compatibility VALUES (%[1]d, 1)`, next))
			if err == nil {
				_, err = pool.Exec(t.Context(), fmt.Sprintf(`DELETE FROM aggregator.schema_migrations WHERE version_id = %d;
					DELETE FROM aggregator.schema_compatibility WHERE version = %[1]d`, next))
			}
		}
		undoing <- err
	}()
	seen := map[bool]int{}
	for range 100_000 {
		schema, err := postgres.CheckSchema(t.Context(), pool)
		require.NoError(t, err)
		seen[schema.Newer()]++
		if seen[true] >= 300 && seen[false] >= 300 {
			break
		}
	}
	stop()
	require.NoError(t, <-undoing)
	require.Len(t, seen, 2)
}

// From version 9 on each migration says with which programs it works, and takes that back when
// it is undone.
func TestMigrationsAreMarked(t *testing.T) {
	t.Parallel()
	u := testenv.Database(t)
	list, err := postgres.MigrationStatus(t.Context(), postgres.Options{URL: u})
	require.NoError(t, err)
	for _, m := range list {
		text, err := os.ReadFile(fmt.Sprintf("migrations/%05d_%s.sql", m.Version, m.Name))
		require.NoError(t, err)
		require.Equal(t, strings.Contains(strings.ToLower(string(text)), "goose down"), m.Down != "",
			"%d: its Down is not found", m.Version)
		if m.Version < 9 {
			require.Zero(t, m.WorksWith)
			require.Empty(t, m.Down, "%d is below one that cannot be undone", m.Version)
			continue
		}
		require.Positive(t, m.WorksWith, "%d has no mark", m.Version)
		require.LessOrEqual(t, m.WorksWith, m.Version)
	}
}
