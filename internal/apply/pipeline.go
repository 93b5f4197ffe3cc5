package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"aggregator/internal/postgres"
	"aggregator/internal/verdict"
)

// pipeline sends transactions over one connection without waiting for each. Every batch sent is an implicit
// transaction with a Sync of its own: it fails alone, and it is committed when its Sync is answered, not
// before. (With BEGIN and COMMIT, one failure would make all that follow fail.) Batches are answered in the
// order in which they were sent.
type pipeline struct {
	conn     *pgx.Conn
	ctx      context.Context
	cancel   context.CancelCauseFunc
	stall    *time.Timer // cancels when nothing was answered for the timeout
	timeout  time.Duration
	window   int              // how many batches may be in flight
	pooled   bool             // see prepare
	citus    bool             // see send
	open     *pgconn.Pipeline // nil while the connection is used for something else
	inFlight []int            // the batches sent and not answered: how many Syncs each of them has

	// Of the statement that is being sent. pgx's own encoder begins with a small buffer for each statement.
	values  [][]byte
	formats []int16
	encoded []byte // what the values are in
}

// ErrStalled is why a pipeline ends when the server has not answered for the timeout.
var ErrStalled = errors.New("PostgreSQL does not answer")

// newPipeline takes the connection, which has this configuration, until close. Canceling the context closes the
// connection; what is then unanswered may have been committed or not.
func newPipeline(ctx context.Context, conn *pgx.Conn, config *pgx.ConnConfig, timeout time.Duration) *pipeline {
	p := &pipeline{conn: conn, timeout: timeout, window: window, citus: postgres.OnCitus(config)}
	if postgres.Pooled(config) {
		// PgBouncer gives the server connection to another client when the server has answered all complete
		// requests, even if PgBouncer has passed on half of another transaction since (its issue 759). The
		// halves would end up in two sessions, and in the transactions of other clients.
		p.pooled, p.window = true, 1
	}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	p.stall = time.AfterFunc(timeout, func() { p.cancel(ErrStalled) })
	return p
}

// preparedKey is where a connection keeps what is prepared on it.
const preparedKey = "aggregator prepared"

func (p *pipeline) prepared() map[string]*pgconn.StatementDescription {
	custom := p.conn.PgConn().CustomData()
	prepared, found := custom[preparedKey].(map[string]*pgconn.StatementDescription)
	if !found {
		prepared = make(map[string]*pgconn.StatementDescription)
		custom[preparedKey] = prepared
	}
	return prepared
}

// knows says whether all statements of the batch are prepared on the connection.
func (p *pipeline) knows(batch *pgx.Batch) bool {
	prepared := p.prepared()
	for _, query := range batch.QueuedQueries {
		if prepared[query.SQL] == nil {
			return false
		}
	}
	return true
}

// prepare prepares the statements of the batch. Nothing may be in flight. Through a pooler
// the next transaction may be in another session: statements have no name then, and are sent
// with each transaction; what is kept are the types of their parameters.
func (p *pipeline) prepare(batch *pgx.Batch) error {
	if p.open != nil {
		if err := p.open.Close(); err != nil {
			return p.failed("leaving the pipeline", err)
		}
		p.open = nil
	}
	prepared := p.prepared()
	for _, query := range batch.QueuedQueries {
		name := query.SQL
		if p.pooled {
			name = ""
		}
		statement, err := p.conn.Prepare(p.ctx, name, query.SQL)
		if err != nil {
			return p.failed("preparing a statement", err)
		}
		prepared[query.SQL] = statement
	}
	return nil
}

// send queues the batch, whose statements must be prepared, as one transaction. Nothing is sent before flush.
//
// Citus takes each statement of an implicit transaction for a transaction, and lets a worker commit it. So it is
// told where one begins and ends. COMMIT comes after a Sync of its own, because it has to come also after an error:
// then it rolls back.
func (p *pipeline) send(batch *pgx.Batch) error {
	if p.open == nil {
		p.open = p.conn.PgConn().StartPipeline(p.ctx)
	}
	explicit := p.citus && len(batch.QueuedQueries) > 1
	if explicit {
		p.open.SendQueryParams("BEGIN", nil, nil, nil, nil)
		p.open.SendQueryParams(postgres.TwoPhase, nil, nil, nil, nil)
	}
	prepared := p.prepared()
	for _, query := range batch.QueuedQueries {
		statement := prepared[query.SQL]
		if err := p.encode(statement.ParamOIDs, query.Arguments); err != nil {
			return p.failed("encoding the arguments of a statement", errors.Join(verdict.ErrType, err))
		}
		if p.pooled {
			p.open.SendQueryParams(query.SQL, p.values, statement.ParamOIDs, p.formats, nil)
		} else {
			// Not SendQueryStatement: in pgx 5.12 the descriptions that it keeps get out of
			// step with the results after a statement has failed.
			p.open.SendQueryPrepared(statement.Name, p.values, p.formats, nil)
		}
	}
	p.open.SendPipelineSync()
	syncs := 1
	if explicit {
		p.open.SendQueryParams("COMMIT", nil, nil, nil, nil)
		p.open.SendPipelineSync()
		syncs++
	}
	p.inFlight = append(p.inFlight, syncs)
	return nil
}

// encode makes values of the arguments, each for a parameter of this type. They are good until the next call.
func (p *pipeline) encode(oids []uint32, args []any) error {
	if len(oids) != len(args) {
		return fmt.Errorf("%d arguments for %d parameters", len(args), len(oids))
	}
	p.values, p.formats, p.encoded = p.values[:0], p.formats[:0], p.encoded[:0]
	types := p.conn.TypeMap()
	for i, arg := range args {
		format := types.FormatCodeForOID(oids[i])
		if _, text := arg.(string); text {
			format = pgx.TextFormatCode // of an enumeration as well, whose type pgx does not know
		}
		before := len(p.encoded)
		encoded, err := types.Encode(oids[i], format, arg, p.encoded)
		if err != nil {
			return fmt.Errorf("parameter %d: %w", i+1, err)
		}
		if encoded == nil { // NULL
			p.values = append(p.values, nil)
		} else {
			p.values, p.encoded = append(p.values, encoded[before:len(encoded):len(encoded)]), encoded
		}
		p.formats = append(p.formats, format)
	}
	return nil
}

func (p *pipeline) flush() error {
	if len(p.inFlight) == 0 {
		return nil
	}
	return p.failed("sending transactions", p.open.Flush())
}

// receive waits for the answer to the oldest batch in flight. If refusal is not nil,
// the transaction was rolled back for it. If err is not nil, the connection is lost, and
// what is in flight may have been committed or not.
func (p *pipeline) receive() (refusal *pgconn.PgError, err error) {
	for {
		result, err := p.open.GetResults()
		if reader, ok := result.(*pgconn.ResultReader); ok {
			_, err = reader.Close() // an error may show up only here
		}
		var refused *pgconn.PgError
		switch {
		case errors.As(err, &refused):
			if refusal == nil {
				refusal = refused
			}
			continue // on to the Sync: after a fatal error there is none
		case err != nil:
			return nil, p.failed("applying transactions", errors.Join(err, asError(refusal)))
		case result == nil:
			return nil, p.failed("applying transactions", errUnanswered)
		}
		if _, ok := result.(*pgconn.PipelineSync); !ok {
			continue
		}
		if p.inFlight[0]--; p.inFlight[0] == 0 {
			p.inFlight = p.inFlight[1:]
			p.stall.Reset(p.timeout)
			return refusal, nil
		}
	}
}

var errUnanswered = errors.New("a transaction was not answered")

func asError(refusal *pgconn.PgError) error {
	if refusal == nil {
		return nil
	}
	return refusal
}

// close gives the connection back to its owner. If something is in flight, the connection is closed, and the
// owner must not use it.
func (p *pipeline) close() {
	if p.open != nil {
		if len(p.inFlight) > 0 {
			p.cancel(nil) // or else Close would wait for all answers
		}
		_ = p.open.Close() // what matters was received
	}
	p.stall.Stop()
	p.cancel(nil)
}

func (p *pipeline) failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(context.Cause(p.ctx), ErrStalled) {
		err = fmt.Errorf("%w for %s: %w", ErrStalled, p.timeout, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
