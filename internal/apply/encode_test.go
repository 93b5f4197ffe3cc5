package apply

import (
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
	"aggregator/internal/verdict"
)

// What goes through the pipeline's own encoder arrives as it was.
func TestEncode(t *testing.T) {
	t.Parallel()
	pool, _ := written(t)
	testenv.Execute(t, pool, `CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE held (mood mood, note text, n bigint,
		score float8, ids bigint[], sums float8[], flags bool[], raw bytea)`)
	const insert = `INSERT INTO held VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	var none *int64
	for _, c := range []struct {
		name string
		args []any
		want string
	}{
		{"all", []any{
			"happy", "ärger '\\", int64(math.MaxInt64), 0.1,
			[]int64{1, -2},
			[]float64{1e300, -0.5},
			[]bool{true, false},
			[]byte{0, 255},
		}, `(happy,"ärger '\\",9223372036854775807,0.1,"{1,-2}","{1e+300,-0.5}","{t,f}","\\x00ff")`},
		{"none", []any{nil, nil, none, nil, nil, nil, nil, nil}, `(,,,,,,,)`},
		{
			"empty ones are not missing",
			[]any{"sad", "", new(int64(0)), 0.0, []int64{}, []float64{}, []bool{}, []byte{}},
			`(sad,"",0,0,{},{},{},"\\x")`,
		},
		{
			"a missing one between others",
			[]any{"sad", "a", nil, 2.0, nil, []float64{3}, nil, []byte{4}},
			`(sad,a,,2,,{3},,"\\x04")`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			testenv.Execute(t, pool, `DELETE FROM held`)
			pipe := newPipeline(t.Context(), conn.Conn(), conn.Conn().Config(), time.Minute)
			defer pipe.close()
			batch := &pgx.Batch{}
			batch.Queue(insert, c.args...)
			if !pipe.knows(batch) {
				require.NoError(t, pipe.prepare(batch))
			}
			require.NoError(t, pipe.send(batch))
			require.NoError(t, pipe.flush())
			refusal, err := pipe.receive()
			require.NoError(t, err)
			require.Nil(t, refusal)
			assert.Equal(t, c.want, testenv.Query[string](t, pool, `SELECT held::text FROM held`))
		})
	}
}

// Arguments that do not fit their parameters are an error that halts, before anything is sent.
func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	pool, _ := written(t)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for name, c := range map[string]struct {
		oids []uint32
		args []any
		want string
	}{
		"too few":      {[]uint32{pgtype.Int8OID, pgtype.TextOID}, []any{int64(1)}, "1 arguments for 2 parameters"},
		"too many":     {[]uint32{pgtype.Int8OID}, []any{int64(1), "a"}, "2 arguments for 1 parameters"},
		"none":         {[]uint32{pgtype.Int8OID}, nil, "0 arguments for 1 parameters"},
		"wrong type":   {[]uint32{pgtype.TextOID, pgtype.BoolOID}, []any{"a", 1.5}, "parameter 2"},
		"out of range": {[]uint32{pgtype.Int2OID}, []any{int64(1 << 40)}, "parameter 1"},
	} {
		t.Run(name, func(t *testing.T) {
			pipe := newPipeline(t.Context(), conn.Conn(), conn.Conn().Config(), time.Minute)
			defer pipe.close()
			require.ErrorContains(t, pipe.encode(c.oids, c.args), c.want)
		})
	}
	// As a table that was changed would have it.
	pipe := newPipeline(t.Context(), conn.Conn(), conn.Conn().Config(), time.Minute)
	defer pipe.close()
	batch := &pgx.Batch{}
	batch.Queue(`SELECT $1::bool`, 1.5)
	require.NoError(t, pipe.prepare(batch))
	err = pipe.send(batch)
	require.ErrorIs(t, err, verdict.ErrType)
	assert.Equal(t, verdict.Halt, verdict.Of(err))
	assert.Empty(t, pipe.inFlight)
}

// A batch that is refused is rolled back alone; those before and after it are committed, and answered in turn.
func TestPipelineRefusesOne(t *testing.T) {
	t.Parallel()
	pool, _ := written(t)
	testenv.Execute(t, pool, `CREATE TABLE held (n int CHECK (n <> 2))`)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	pipe := newPipeline(t.Context(), conn.Conn(), conn.Conn().Config(), time.Minute)
	defer pipe.close()
	for n := range 4 {
		batch := &pgx.Batch{}
		batch.Queue(`INSERT INTO held VALUES ($1)`, 10+n)
		batch.Queue(`INSERT INTO held VALUES ($1)`, n)
		if n == 0 {
			require.False(t, pipe.knows(batch))
			require.NoError(t, pipe.prepare(batch))
		}
		require.True(t, pipe.knows(batch))
		require.NoError(t, pipe.send(batch))
	}
	require.NoError(t, pipe.flush())
	for n := range 4 {
		refusal, err := pipe.receive()
		require.NoError(t, err)
		if n != 2 {
			assert.Nil(t, refusal, n)
		} else if assert.NotNil(t, refusal) {
			assert.Equal(t, "held_n_check", refusal.ConstraintName)
		}
	}
	assert.Equal(t, "0 1 3 10 11 13",
		testenv.Query[string](t, pool, `SELECT string_agg(n::text, ' ' ORDER BY n) FROM held`))
}
