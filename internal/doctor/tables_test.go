package doctor_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/doctor"
	"aggregator/internal/testenv"
)

func TestTables(t *testing.T) {
	testenv.Long(t)
	const partitioned = `CREATE TABLE history (LIKE child_personality_history INCLUDING ALL EXCLUDING CONSTRAINTS EXCLUDING
		INDEXES)
		PARTITION BY RANGE (created_at);
		ALTER TABLE history ADD PRIMARY KEY (child_profile_id, id, created_at);
		DROP TABLE child_personality_history; ALTER TABLE history RENAME TO child_personality_history;
		GRANT SELECT, INSERT ON child_personality_history TO aggregator_daemon;`
	for name, tc := range map[string]struct{ fault, want string }{
		"no tables": {
			`DROP TABLE favorite_topic, favorite_genre`,
			"problem tables: there is no table favorite_genre, favorite_topic",
		},
		"no column": {
			`ALTER TABLE favorite_genre DROP COLUMN child_profile_id`,
			"problem tables: views that adapt the tables are missing or out of date: favorite_genre",
		},
		"no column of a book": {`ALTER TABLE book DROP COLUMN search_text`, "problem tables: book.search_text is not there"},
		"a shadow": {
			`CREATE SCHEMA old; CREATE TABLE old.book (id bigint)`,
			"warning tables: tables of one name: those of schema public are used, and there are old.book (",
		},
		"a shadow in ours, first on the path": {
			`CREATE TABLE aggregator.topic (LIKE topic INCLUDING ALL); GRANT SELECT ON aggregator.topic TO aggregator_daemon;
			DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = aggregator, public', current_database()); END $$`,
			"warning tables: tables of the application's names are in the schema of the aggregator, and not used: " +
				"aggregator.topic (",
		},
		"a view": {
			`ALTER TABLE mbti RENAME TO types; CREATE VIEW mbti AS SELECT * FROM types; GRANT SELECT ON mbti TO ` +
				`aggregator_daemon`,
			"problem tables: mbti is a view",
		},
		"sums of type real": {
			`ALTER TABLE genre_score ALTER COLUMN score TYPE real`,
			"warning tables: genre_score.score is of type real: it has some 7 digits",
		},
		"sums of a domain over integer": {
			`CREATE DOMAIN points AS integer; ALTER TABLE topic_score ALTER COLUMN score TYPE points`,
			"warning tables: topic_score.score is of type integer: a fraction of a weight is rounded",
		},
		"sums of type numeric": {
			`ALTER TABLE cumulative_mbti_score ALTER COLUMN e_score TYPE numeric(10, 2), ALTER COLUMN i_score TYPE numeric`,
			"warning tables: cumulative_mbti_score.i_score, cumulative_mbti_score.e_score are of type numeric: sums are slower",
		},
		"times without a zone": {
			`ALTER TABLE child_personality_history ALTER COLUMN created_at TYPE timestamp(6)`,
			"warning tables: child_personality_history.created_at has no time zone: times are written and read in the zone UTC",
		},
		"no partition for now": {
			partitioned + `CREATE TABLE history_of_2020 PARTITION OF child_personality_history FOR VALUES FROM ('2020-01-01') ` +
				`TO ('2021-01-01')`,
			"problem tables: child_personality_history has no partition for the current time",
		},
		"no partition at all": {
			partitioned,
			"problem tables: child_personality_history has no partition for the current time",
		},
		"no partition for the next month": {
			partitioned +
				`DO $$ BEGIN EXECUTE format(
				'CREATE TABLE history_of_now PARTITION OF child_personality_history FOR VALUES FROM (%L) TO (%L)',
				now() - interval '1 day', now() + interval '1 day'); END $$`,
			"warning tables: child_personality_history has no partition for a month from now",
		},
		"ids that run out": {
			`SELECT setval(pg_get_serial_sequence('child_personality_history', 'id'), 9223372036854775807 - 9)`,
			"warning sequences: child_personality_history.id runs out: the last id of child_personality_history_id_seq is " +
				"9223372036854775798 of 9223372036854775807",
		},
		"ids of an integer, from a sequence of bigint": {
			`CREATE SEQUENCE hibernate_sequence START 2000000000; SELECT nextval('hibernate_sequence');
			ALTER TABLE child_personality_history ALTER COLUMN id DROP IDENTITY, ALTER COLUMN id TYPE integer,
				ALTER COLUMN id SET DEFAULT nextval('hibernate_sequence');
			GRANT USAGE ON hibernate_sequence TO aggregator_daemon`,
			"warning sequences: child_personality_history.id runs out: the last id of hibernate_sequence is 2000000000 of " +
				"2147483647",
		},
		"a topic twice": {
			`ALTER TABLE book_topic DROP CONSTRAINT book_topic_pkey; INSERT INTO book_topic VALUES (1, 1)`,
			"warning tables: a topic is there more than once in book_topic for the books 1: it counts once",
		},
		"a topic that is NULL": {
			`ALTER TABLE book_topic DROP CONSTRAINT book_topic_pkey; ALTER TABLE book_topic ALTER COLUMN topic_id DROP NOT NULL;
			INSERT INTO book_topic VALUES (1, NULL)`,
			"warning tables: book_topic has a NULL for the books 1",
		},
		"several types": {
			`ALTER TABLE book_mbti DROP CONSTRAINT book_mbti_pkey; INSERT INTO book_mbti SELECT 1, id FROM mbti`,
			"warning tables: the books 1 have several types in book_mbti",
		},
		"no type": {
			`INSERT INTO mbti (mbti) VALUES ('intj'), ('XXXX')`,
			"warning tables: table mbti has values that are none of the sixteen types: XXXX, intj",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireFinding(t, findingsOf(t, tc.fault), tc.want)
		})
	}
	t.Run("in order", func(t *testing.T) {
		t.Parallel()
		for _, fault := range []string{
			`SELECT 1`,
			partitioned + `CREATE TABLE history_of_all PARTITION OF child_personality_history DEFAULT`,
			partitioned + `CREATE TABLE history_of_all PARTITION OF child_personality_history FOR VALUES FROM (MINVALUE) TO ` +
				`(MAXVALUE)`,
			`ALTER TABLE genre_score ALTER COLUMN score DROP NOT NULL; INSERT INTO genre_score VALUES (1, 1, 2)`,
		} {
			for _, f := range findingsOf(t, fault) {
				if f.Check == "tables" {
					require.Equal(t, doctor.OK, f.Verdict, "%s: %s", fault, f.Found)
				}
			}
		}
	})
	t.Run("another encoding", func(t *testing.T) {
		t.Parallel()
		u := testenv.EncodedDatabase(t, "EUC_KR")
		requireFinding(t, open(t, u, false), "warning tables: the encoding of the database is EUC_KR")
	})
}
