package postgres

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Text is a text for people that may hold any character. A database in another encoding than
// UTF-8 has no place for some of them, and refuses the statement: there, all but ASCII is written
// as an escape (\u1f600). Where it is UTF-8 the text stays as it is. It needs a connection of Open.
type Text string

// Texts are the same, an array of them.
func Texts[T ~string](all []T) []Text {
	texts := make([]Text, len(all))
	for i, text := range all {
		texts[i] = Text(text)
	}
	return texts
}

// encodeValues makes connections encode arrays at once, and, to a server with another encoding, Text as escapes.
func encodeValues(cfg *pgxpool.Config) {
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		encodeArraysAtOnce(conn.TypeMap())
		if conn.PgConn().ParameterStatus("server_encoding") == "UTF8" {
			return nil
		}
		types := conn.TypeMap()
		types.TryWrapEncodePlanFuncs = append([]pgtype.TryWrapEncodePlanFunc{tryEscape}, types.TryWrapEncodePlanFuncs...)
		return nil
	}
}

func tryEscape(value any) (plan pgtype.WrappedEncodePlanNextSetter, next any, ok bool) {
	text, ok := value.(Text)
	if !ok {
		return nil, nil, false
	}
	return &escapePlan{}, escape(text), true
}

type escapePlan struct{ next pgtype.EncodePlan }

func (p *escapePlan) SetNext(next pgtype.EncodePlan) { p.next = next }

func (p *escapePlan) Encode(value any, buf []byte) ([]byte, error) {
	return p.next.Encode(escape(value.(Text)), buf)
}

// escape leaves what is ASCII, and quotes the rest as Go does.
func escape(text Text) string {
	escaped := make([]byte, 0, len(text))
	for _, r := range string(text) {
		if r < 0x80 {
			escaped = append(escaped, byte(r))
			continue
		}
		quoted := strconv.AppendQuoteRuneToASCII(nil, r)
		escaped = append(escaped, quoted[1:len(quoted)-1]...)
	}
	return string(escaped)
}
