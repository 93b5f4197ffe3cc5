package postgres

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"
)

// encodeArraysAtOnce makes []int64, []int32, []float64 and []bool be encoded without a call for each element, where
// PostgreSQL has an array of exactly that type. pgx boxes each element, which was most of what it took to send a
// profile's transaction. The bytes are the same.
func encodeArraysAtOnce(types *pgtype.Map) {
	register(types, pgtype.Int8ArrayOID, pgtype.Int8OID, 8, func(to []byte, v int64) []byte {
		return binary.BigEndian.AppendUint64(to, uint64(v))
	})
	register(types, pgtype.Int4ArrayOID, pgtype.Int4OID, 4, func(to []byte, v int32) []byte {
		return binary.BigEndian.AppendUint32(to, uint32(v))
	})
	register(types, pgtype.Float8ArrayOID, pgtype.Float8OID, 8, func(to []byte, v float64) []byte {
		return binary.BigEndian.AppendUint64(to, math.Float64bits(v))
	})
	register(types, pgtype.BoolArrayOID, pgtype.BoolOID, 1, func(to []byte, v bool) []byte {
		if v {
			return append(to, 1)
		}
		return append(to, 0)
	})
}

func register[T any](types *pgtype.Map, array, element uint32, size int, put func(to []byte, v T) []byte) {
	known, found := types.TypeForOID(array)
	if !found {
		return
	}
	plan := arrayPlan[T]{element, size, put}
	types.RegisterType(&pgtype.Type{Name: known.Name, OID: array, Codec: arrayCodec[T]{known.Codec, plan}})
}

// arrayCodec is that of pgx but for values of type []T.
type arrayCodec[T any] struct {
	pgtype.Codec
	plan arrayPlan[T]
}

func (c arrayCodec[T]) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.([]T); ok && format == pgtype.BinaryFormatCode {
		return c.plan
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

// arrayPlan encodes arrays of one dimension. Their form is that of array_send in PostgreSQL.
type arrayPlan[T any] struct {
	element uint32
	size    int // bytes of an element
	put     func(to []byte, v T) []byte
}

func (p arrayPlan[T]) Encode(value any, buf []byte) ([]byte, error) {
	all := value.([]T)
	if all == nil {
		return nil, nil
	}
	buf = slices.Grow(buf, 20+len(all)*(4+p.size))
	for _, header := range []uint32{1, 0, p.element, uint32(len(all)), 1} { // dimensions, nulls, type, length, lower bound
		buf = binary.BigEndian.AppendUint32(buf, header)
	}
	for _, v := range all {
		buf = binary.BigEndian.AppendUint32(buf, uint32(p.size))
		buf = p.put(buf, v)
	}
	return buf, nil
}
