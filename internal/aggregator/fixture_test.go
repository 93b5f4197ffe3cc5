package aggregator_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// fixture is a database with a small catalogue, a Redis, and all that was pushed.
//
// The fixture does as it likes; what it makes runs with the rights of the daemon alone.
//
// Books 1 to 12: book b is of genre b%4+1 (book 12 of none), of topics b%5+1 and b%3+1,
// and of the type types[b%4] (multiples of 5 of none). Profiles 1 to 30.
type fixture struct {
	t       *testing.T
	ctx     context.Context
	pool    *pgxpool.Pool // the superuser's
	redis   *redis.Client // the administrator's
	daemon  daemon
	source  events.Options
	options aggregator.Options
	books   map[int64]book
	known   int64 // profiles 1 to this one exist
	pushed  []string
}

type book struct {
	genre  int64
	topics []int64
	mbti   string
}

// daemon has the connections that an Aggregator gets, as the role of config/roles.sql and
// the user of config/redis.acl.
type daemon struct {
	pool  *pgxpool.Pool
	redis *redis.Client
}

const profiles = 30

func newFixture(t *testing.T, source events.Options) *fixture {
	t.Helper()
	t.Parallel()
	return newFixtureAt(t, source, testenv.Database(t), testenv.Redis(t))
}

func newFixtureAt(t *testing.T, source events.Options, postgresURL, redisURL string) *fixture {
	t.Helper()
	ctx := t.Context()
	user := map[string]string{events.KindStream: "aggregator_stream", events.KindList: "aggregator_list"}[source.Kind]
	own := daemon{
		pool:  openPool(t, testenv.As(t, postgresURL, "aggregator_daemon")),
		redis: openRedis(t, testenv.RedisAs(t, redisURL, user, source.Key)),
	}

	source.Partitions = max(source.Partitions, 1)
	source.Weights = map[string]float64{"LIKE": 2, "DISLIKE": -2}
	f := &fixture{
		t: t, ctx: ctx, pool: openPool(t, postgresURL), redis: openRedis(t, redisURL), daemon: own, source: source,
		books: map[int64]book{}, known: profiles,
		options: aggregator.Options{
			ChunkMaxEvents: 50_000, ChunkMaxBytes: 64 << 20, ChunkMaxWait: 5 * time.Millisecond, Workers: 3,
			ProfilesPerTransaction: 1,
			TrimEvery:              50 * time.Millisecond, Grace: 10 * time.Second, Timeout: 20 * time.Second,
		},
	}
	types := []string{"INTJ", "ESFP", "ENTP", "ISFJ"}
	f.exec(`INSERT INTO genre (id, name) SELECT g, 'genre ' || g FROM generate_series(1, 4) g`)
	f.exec(`INSERT INTO topic (id, name) SELECT t, 'topic ' || t FROM generate_series(1, 5) t`)
	f.exec(`INSERT INTO child_profile (id, name) SELECT p, 'child ' || p FROM generate_series(1, $1::int) p`, profiles)
	for id := int64(1); id <= 12; id++ {
		b := book{genre: id%4 + 1, topics: []int64{id%5 + 1}, mbti: types[id%4]}
		if second := id%3 + 1; second != b.topics[0] {
			b.topics = append(b.topics, second)
		}
		if id == 12 {
			b.genre = 0
		}
		if id%5 == 0 {
			b.mbti = ""
		}
		f.addBook(id, b)
	}
	// Some score rows are there, most are not.
	f.exec(`INSERT INTO genre_score SELECT p, 1, 0 FROM generate_series(1, 10) p`)
	f.exec(`INSERT INTO topic_score SELECT p, 2, 0 FROM generate_series(5, 15) p`)
	f.exec(`INSERT INTO cumulative_mbti_score (child_profile_id) SELECT p FROM generate_series(1, 12) p`)
	return f
}

// addBook creates a book at once, as the application does: who sees it sees its topics.
func (f *fixture) addBook(id int64, b book) {
	f.t.Helper()
	f.exec(`WITH book AS (
		INSERT INTO book (id, title, genre_id) VALUES ($1, 'title', nullif($2, 0)) RETURNING id
	), topics AS (
		INSERT INTO book_topic SELECT id, unnest($3::bigint[]) FROM book
	)
	INSERT INTO book_mbti SELECT book.id, mbti.id FROM book, mbti WHERE mbti = $4`, id, b.genre, b.topics, b.mbti)
	f.books[id] = b
}

// addProfile creates the profile after the last one, and returns its id.
func (f *fixture) addProfile() int64 {
	f.t.Helper()
	f.known++
	f.exec(`INSERT INTO child_profile (id, name) VALUES ($1, 'late')`, f.known)
	return f.known
}

func openPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: url, MaxConns: aggregator.Connections(4, 4)})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func openRedis(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	o.MaxRetries = -1
	o.ReadTimeout, o.WriteTimeout = time.Minute, time.Minute // on a busy machine
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	_, err := f.pool.Exec(f.ctx, sql, args...)
	require.NoError(f.t, err)
}

// stick makes PostgreSQL refuse, for a reason that may pass, to move the checkpoint beyond so many entries.
func (f *fixture) stick(entries int) {
	f.t.Helper()
	f.exec(fmt.Sprintf(`CREATE FUNCTION stuck() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.entries > %d THEN RAISE EXCEPTION 'stuck' USING ERRCODE = 'serialization_failure'; END IF;
    RETURN new;
END $$`, entries))
	f.exec(`CREATE TRIGGER stuck BEFORE UPDATE ON aggregator.checkpoint FOR EACH ROW EXECUTE FUNCTION stuck()`)
}

func (f *fixture) unstick() {
	f.t.Helper()
	f.exec(`DROP TRIGGER stuck ON aggregator.checkpoint`)
}

func (f *fixture) new() *aggregator.Aggregator {
	f.t.Helper()
	return f.newWith(f.log())
}

func (f *fixture) newWith(log *slog.Logger) *aggregator.Aggregator {
	f.t.Helper()
	sources, err := events.Sources(f.daemon.redis, f.source)
	require.NoError(f.t, err)
	catalogue := scores.NewCatalogue(
		f.daemon.pool, log, scores.CatalogueOptions{Books: 1000, Profiles: 1000, TTL: time.Minute})
	return aggregator.New(f.daemon.pool, sources, catalogue, f.options, log)
}

func (f *fixture) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(f.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// drain drains all there is, and returns what was counted.
func (f *fixture) drain() aggregator.Stats {
	f.t.Helper()
	a := f.new()
	left, err := a.Drain(f.ctx, aggregator.Limits{})
	require.NoError(f.t, err)
	require.Zero(f.t, left)
	return a.Stats()
}

// push pushes events and remembers them.
func (f *fixture) push(texts ...string) {
	f.t.Helper()
	pipe := f.redis.Pipeline()
	for i, text := range texts {
		key := f.source.Key
		if f.source.Partitions > 1 {
			profile, _, _ := strings.Cut(text, ":")
			id, err := strconv.ParseUint(profile, 10, 63)
			if err != nil {
				id = uint64(i)
			}
			key = fmt.Sprintf("%s:{%d}", key, id%uint64(f.source.Partitions))
		}
		switch {
		case f.source.Kind == events.KindStream:
			pipe.XAdd(f.ctx, &redis.XAddArgs{Stream: key, Values: []any{"event", text}})
		case f.source.PushSide == events.PushLeft:
			pipe.LPush(f.ctx, key, text)
		default:
			pipe.RPush(f.ctx, key, text)
		}
	}
	_, err := pipe.Exec(f.ctx)
	require.NoError(f.t, err)
	f.pushed = append(f.pushed, texts...)
}

// random makes n texts: one hot profile, junk, unknown profiles and books.
func random(r *rand.Rand, n int) []string {
	texts := make([]string, n)
	for i := range texts {
		profile, book, action := r.IntN(profiles)+1, r.IntN(12)+1, "LIKE"
		if r.IntN(3) == 0 {
			profile = 1
		}
		if r.IntN(3) == 0 {
			action = "DISLIKE"
		}
		switch r.IntN(40) {
		case 0:
			profile += 1000
		case 1:
			book += 1000
		case 2:
			action = "EAT"
		case 3:
			texts[i] = "junk\x00\xff"
			continue
		}
		texts[i] = fmt.Sprintf("%d:%d:%s", profile, book, action)
	}
	return texts
}

// state is what the tables hold, or should.
type state struct {
	genres, topics map[[2]int64]float64
	mbti           map[int64]string // eight scores
	latest         map[int64]string // type, scores, favourites
	dead           map[string]int   // reason and payload, how many
	applied        map[int64]int64
}

func newState() state {
	return state{
		genres: map[[2]int64]float64{}, topics: map[[2]int64]float64{}, mbti: map[int64]string{},
		latest: map[int64]string{}, dead: map[string]int{}, applied: map[int64]int64{},
	}
}

const letters = "IESNTFJP"

// expected works out the state from what was pushed alone.
func (f *fixture) expected() state {
	s := newState()
	for p := int64(1); p <= 10; p++ {
		s.genres[[2]int64{p, 1}] = 0
	}
	for p := int64(5); p <= 15; p++ {
		s.topics[[2]int64{p, 2}] = 0
	}
	mbti := map[int64]*[8]float64{}
	for p := int64(1); p <= 12; p++ {
		mbti[p] = &[8]float64{}
	}
	for _, text := range f.pushed {
		parts := strings.Split(text, ":")
		if len(parts) != 3 {
			s.dead["invalid_utf8 "+text]++
			continue
		}
		profile, _ := strconv.ParseInt(parts[0], 10, 64)
		bookID, _ := strconv.ParseInt(parts[1], 10, 64)
		b, known := f.books[bookID]
		weight, listed := f.source.Weights[parts[2]]
		switch {
		case !listed:
			s.dead["unknown_action "+text]++
			continue
		case profile > f.known:
			s.dead["unknown_profile "+text]++
			continue
		case !known:
			s.dead["unknown_book "+text]++
			continue
		}
		s.applied[profile]++
		if b.genre != 0 {
			s.genres[[2]int64{profile, b.genre}] += weight
		}
		for _, topic := range b.topics {
			s.topics[[2]int64{profile, topic}] += weight
		}
		if b.mbti != "" && mbti[profile] == nil {
			mbti[profile] = &[8]float64{}
		}
		for _, letter := range b.mbti {
			mbti[profile][strings.IndexRune(letters, letter)] += weight
		}
	}
	for p, m := range mbti {
		s.mbti[p] = fmt.Sprint(*m)
	}
	for p := range s.applied {
		m := mbti[p]
		if m == nil {
			m = &[8]float64{}
		}
		kind := pick(m[0] >= m[1], "I", "E") + pick(m[3] >= m[2], "N", "S") +
			pick(m[4] >= m[5], "T", "F") + pick(m[6] >= m[7], "J", "P")
		s.latest[p] = fmt.Sprint(kind, *m, preferred(s.genres, p), preferred(s.topics, p))
	}
	return s
}

func pick(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

func preferred(all map[[2]int64]float64, profile int64) []int64 {
	sum, n := 0.0, 0.0
	for key, score := range all {
		if key[0] == profile && score > 0 {
			sum, n = sum+score, n+1
		}
	}
	ids := []int64{}
	for key, score := range all {
		if key[0] == profile && score > 0 && score >= sum/n {
			ids = append(ids, key[1])
		}
	}
	slices.Sort(ids)
	return ids
}

// found reads the state from the tables.
func (f *fixture) found() state {
	f.t.Helper()
	s := newState()
	each := func(sql string, into []any, do func()) {
		rows, err := f.pool.Query(f.ctx, sql)
		require.NoError(f.t, err)
		_, err = pgx.ForEachRow(rows, into, func() error { do(); return nil })
		require.NoError(f.t, err)
	}
	var key [2]int64
	var score float64
	each(`SELECT * FROM genre_score`, []any{&key[0], &key[1], &score}, func() { s.genres[key] = score })
	each(`SELECT * FROM topic_score`, []any{&key[0], &key[1], &score}, func() { s.topics[key] = score })
	var m [8]float64
	scan := []any{&m[0], &m[1], &m[2], &m[3], &m[4], &m[5], &m[6], &m[7]}
	each(`SELECT * FROM cumulative_mbti_score`, append([]any{&key[0]}, scan...), func() { s.mbti[key[0]] = fmt.Sprint(m) })
	var kind string
	var genres, topics []int64
	each(`SELECT DISTINCT ON (h.child_profile_id) h.child_profile_id, m.mbti,
			array(SELECT genre_id FROM favorite_genre g WHERE g.child_profile_id = h.child_profile_id AND g.history_id = h.id
				ORDER BY 1),
			array(SELECT topic_id FROM favorite_topic g WHERE g.child_profile_id = h.child_profile_id AND g.history_id = h.id
				ORDER BY 1),
			i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score
		FROM child_personality_history h JOIN mbti m ON m.id = h.mbti_id WHERE history_created_type = 'FEEDBACK'
		ORDER BY h.child_profile_id, h.created_at DESC, h.id DESC`,
		append([]any{&key[0], &kind, &genres, &topics}, scan...), func() {
			s.latest[key[0]] = fmt.Sprint(kind, m, genres, topics)
			genres, topics = nil, nil
		})
	var reason string
	var payload []byte
	each(`SELECT reason, payload FROM aggregator.dead_letter WHERE settled_as IS DISTINCT FROM 'applied'`,
		[]any{&reason, &payload}, func() { s.dead[reason+" "+string(payload)]++ })
	each(`SELECT child_profile_id, sum(applied)::bigint FROM aggregator.mark GROUP BY 1 HAVING sum(applied) > 0`,
		[]any{&key[0], &key[1]}, func() { s.applied[key[0]] = key[1] })
	each(`SELECT child_profile_id, count(*) FROM aggregator.dead_letter WHERE settled_as = 'applied' GROUP BY 1`,
		[]any{&key[0], &key[1]}, func() { s.applied[key[0]] += key[1] })
	return s
}

// verify compares the tables with what was pushed, and Redis with nothing.
func (f *fixture) verify() {
	f.t.Helper()
	want, got := f.expected(), f.found()
	assert.Equal(f.t, want.applied, got.applied, "events applied a profile")
	assert.Equal(f.t, want.genres, got.genres)
	assert.Equal(f.t, want.topics, got.topics)
	assert.Equal(f.t, want.mbti, got.mbti)
	assert.Equal(f.t, want.latest, got.latest)
	assert.Equal(f.t, want.dead, got.dead)
	f.verifyRedis()
}

func (f *fixture) verifyRedis() {
	f.t.Helper()
	sources, err := events.Sources(f.redis, f.source)
	require.NoError(f.t, err)
	for _, s := range sources {
		n, err := f.redis.XLen(f.ctx, s.Name()).Result()
		require.NoError(f.t, err)
		assert.Zero(f.t, n, "entries left in %s", s.Name())
	}
}
