package doctor_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/doctor"
	"aggregator/internal/testenv"
)

// profiles gives a database some profiles, as what each event writes is tried for those.
const profiles = `INSERT INTO child_profile (id, name) SELECT i, 'child' FROM generate_series(1, 30) i;
INSERT INTO genre (id, name) VALUES (1, 'genre'); INSERT INTO topic (id, name) VALUES (1, 'topic');
INSERT INTO book (id, title, genre_id) VALUES (1, 'title', 1); INSERT INTO book_topic VALUES (1, 1)`

// findingsOf are those of the daemon in a database with profiles after some faults.
func findingsOf(t *testing.T, faults ...string) []doctor.Finding {
	t.Helper()
	u := testenv.Database(t)
	exec(t, u, append([]string{profiles}, faults...)...)
	return open(t, testenv.As(t, u, "aggregator_daemon"), false)
}

// What makes every source halt is found before a drain.
func TestTrial(t *testing.T) {
	testenv.Long(t)
	t.Run("in order", func(t *testing.T) {
		t.Parallel()
		for _, f := range findingsOf(t) {
			if f.Check == "trial" || f.Check == "triggers" {
				require.Equal(t, doctor.OK, f.Verdict, f.Found)
			}
		}
	})
	const refused = "problem trial: misconfiguration: PostgreSQL refuses what every event writes"
	for name, tc := range map[string]struct{ fault, want, names string }{
		"the history's id has no default": {
			`ALTER TABLE child_personality_history ALTER COLUMN id DROP IDENTITY`,
			"problem trial: misconfiguration: column id of table child_personality_history", "id",
		},
		"a column that is not ours needs a value": {
			`ALTER TABLE genre_score ADD COLUMN region text NOT NULL`,
			"problem trial: misconfiguration: column region of table genre_score", "region",
		},
		"a column of a domain needs a value": {
			`CREATE DOMAIN region AS text NOT NULL; ALTER TABLE topic_score ADD COLUMN region region`,
			"problem trial: misconfiguration: column region of table topic_score", "region",
		},
		"no partition for now": {
			`CREATE TABLE history (LIKE child_personality_history INCLUDING ALL EXCLUDING CONSTRAINTS EXCLUDING INDEXES)
				PARTITION BY RANGE (created_at);
			DROP TABLE child_personality_history; ALTER TABLE history RENAME TO child_personality_history;
			CREATE TABLE history_of_2020 PARTITION OF child_personality_history FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
			GRANT SELECT, INSERT ON child_personality_history TO aggregator_daemon`,
			refused, "partition",
		},
		"a constraint that knows no FEEDBACK": {
			`ALTER TABLE child_personality_history ADD CONSTRAINT kinds CHECK (history_created_type IN ('DIAGNOSIS'))`,
			refused, "kinds",
		},
		"an enum kept as its ordinal": {
			`ALTER TABLE child_personality_history ALTER COLUMN history_created_type DROP DEFAULT,
				ALTER COLUMN history_created_type TYPE smallint USING 1`,
			"problem trial: ", "FEEDBACK",
		},
		"a sequence behind its table": {
			`ALTER TABLE child_personality_history DROP CONSTRAINT child_personality_history_pkey, ADD PRIMARY KEY (id);
			INSERT INTO child_personality_history (id, child_profile_id) SELECT i, 1 FROM generate_series(1, 1000) i`,
			refused, "child_personality_history",
		},
		"a sequence behind the rows of each profile": {
			`INSERT INTO child_personality_history (id, child_profile_id)
				SELECT i, p FROM generate_series(1, 200) i, generate_series(1, 30) p`,
			refused, "child_personality_history",
		},
		"a type is missing where each row needs one": {
			`DELETE FROM mbti; ALTER TABLE child_personality_history ALTER COLUMN mbti_id SET NOT NULL`,
			"problem trial: misconfiguration: column mbti_id", "mbti",
		},
		"a policy hides the profiles": {
			`ALTER TABLE child_profile ENABLE ROW LEVEL SECURITY`,
			"problem trial: ", "child_profile",
		},
		"a trigger routes history rows elsewhere": {
			`CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TRIGGER nothing BEFORE INSERT ON child_personality_history FOR EACH ROW EXECUTE FUNCTION nothing()`,
			refused, "child_personality_history",
		},
		"a trigger keeps scores out": {
			`CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TRIGGER nothing BEFORE INSERT ON topic_score FOR EACH ROW EXECUTE FUNCTION nothing()`,
			refused, "topic",
		},
		"a trigger keeps favorites out": {
			`CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TRIGGER nothing BEFORE INSERT ON favorite_topic FOR EACH ROW EXECUTE FUNCTION nothing()`,
			refused, "favorite_topic is not there: a trigger or a rule keeps it out",
		},
		"a rule keeps favorites out": {
			`CREATE RULE nothing AS ON INSERT TO favorite_genre DO INSTEAD NOTHING`,
			refused, "favorite_genre is not there: a trigger or a rule keeps it out",
		},
		"a trigger that always fails": {
			`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never'; END $$;
			CREATE TRIGGER fail BEFORE INSERT ON favorite_genre FOR EACH ROW EXECUTE FUNCTION fail()`,
			refused, "never",
		},
		"a constraint that speaks up at the commit": {
			`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never'; END $$;
			CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON child_personality_history DEFERRABLE INITIALLY DEFERRED
				FOR EACH ROW EXECUTE FUNCTION fail()`,
			refused, "never",
		},
		"a function of ours that may not be executed": {
			`REVOKE EXECUTE ON FUNCTION aggregator.require FROM PUBLIC, aggregator_daemon`,
			"problem trial: ", "require",
		},
		"a publication that cannot send updates on": {
			`ALTER TABLE cumulative_mbti_score REPLICA IDENTITY NOTHING; CREATE PUBLICATION all_of_it FOR TABLE ` +
				`cumulative_mbti_score`,
			"problem trial: ", "cumulative_mbti_score",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			findings := findingsOf(t, tc.fault)
			requireFinding(t, findings, tc.want)
			for _, f := range findings {
				if f.Check == "trial" {
					require.Contains(t, f.Found, tc.names)
					require.NotEmpty(t, f.Advice)
				}
			}
		})
	}
}

// A lock in the way of the trial says nothing about the tables.
func TestTrialBusy(t *testing.T) {
	t.Parallel()
	u := testenv.Database(t)
	exec(t, u, profiles)
	conn, err := pgx.Connect(t.Context(), u)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `BEGIN; LOCK TABLE genre_score IN SHARE MODE`)
	require.NoError(t, err)
	requireFinding(t, open(t, testenv.As(t, u, "aggregator_daemon"), false),
		"warning trial: what each event writes could not be tried: another session holds a lock")
}

func TestTriggers(t *testing.T) {
	for name, tc := range map[string]struct{ fault, want string }{
		"no function": {
			`DROP FUNCTION aggregator.catalogue_changed CASCADE`,
			"problem triggers: there is no trigger aggregator_changed on book, book_mbti, book_topic, child_profile",
		},
		"another function": {
			`CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE OR REPLACE TRIGGER aggregator_changed AFTER UPDATE ON book_mbti EXECUTE FUNCTION nothing()`,
			"problem triggers: there is no trigger aggregator_changed on book_mbti:",
		},
		"disabled": {
			`ALTER TABLE book DISABLE TRIGGER ALL; ALTER TABLE child_profile ENABLE REPLICA TRIGGER aggregator_changed`,
			"problem triggers: the trigger aggregator_changed is disabled on book, child_profile",
		},
		"not run in a database": {
			`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET session_replication_role = replica', current_database()); END $$`,
			"problem triggers: session_replication_role = replica for all roles",
		},
		"not run for a role": {
			`DO $$ BEGIN EXECUTE format('ALTER ROLE postgres IN DATABASE %I SET session_replication_role = replica', ` +
				`current_database()); END $$`,
			"problem triggers: session_replication_role = replica for the role postgres",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireFinding(t, findingsOf(t, tc.fault), tc.want)
		})
	}
}
