package postgres

import (
	"math"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

func TestArraysAreEncodedAsPgxDoes(t *testing.T) {
	plain, ours := pgtype.NewMap(), pgtype.NewMap()
	encodeArraysAtOnce(ours)
	type named []int64
	for name, c := range map[string]struct {
		array uint32
		value any
	}{
		"bigint":             {pgtype.Int8ArrayOID, []int64{0, -1, math.MaxInt64, math.MinInt64}},
		"bigint, empty":      {pgtype.Int8ArrayOID, []int64{}},
		"bigint, null":       {pgtype.Int8ArrayOID, []int64(nil)},
		"bigint, nothing":    {pgtype.Int8ArrayOID, nil},
		"bigint, named":      {pgtype.Int8ArrayOID, named{7, 8}},
		"bigint of int32":    {pgtype.Int8ArrayOID, []int32{7, 8}},
		"bigint of pointers": {pgtype.Int8ArrayOID, []*int64{nil}},
		"integer":            {pgtype.Int4ArrayOID, []int32{0, -1, math.MaxInt32, math.MinInt32}},
		"integer of int64":   {pgtype.Int4ArrayOID, []int64{7}},
		"double": {
			pgtype.Float8ArrayOID,
			[]float64{0, math.Copysign(0, -1), 0.1, math.MaxFloat64, math.Inf(-1)},
		},
		"double, empty":       {pgtype.Float8ArrayOID, []float64{}},
		"boolean":             {pgtype.BoolArrayOID, []bool{true, false, true}},
		"boolean, null":       {pgtype.BoolArrayOID, []bool(nil)},
		"text, left to pgx":   {pgtype.TextArrayOID, []string{"a", `"`}},
		"numeric, left alone": {pgtype.NumericArrayOID, []float64{1.5}},
	} {
		for _, format := range []int16{pgtype.BinaryFormatCode, pgtype.TextFormatCode} {
			want, wantErr := plain.Encode(c.array, format, c.value, []byte("before"))
			got, err := ours.Encode(c.array, format, c.value, []byte("before"))
			require.Equal(t, wantErr == nil, err == nil, "%s: %v, %v", name, wantErr, err)
			require.Equal(t, want, got, name)
		}
	}
}

func BenchmarkEncodeArray(b *testing.B) {
	values := make([]int64, 1000)
	for name, types := range map[string]*pgtype.Map{"pgx": pgtype.NewMap(), "at once": pgtype.NewMap()} {
		if name != "pgx" {
			encodeArraysAtOnce(types)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := types.Encode(pgtype.Int8ArrayOID, pgtype.BinaryFormatCode, values, make([]byte, 0, 256)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
