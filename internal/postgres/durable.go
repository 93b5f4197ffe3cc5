package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNotDurable says that a transaction is committed on the server, and visible, but that the
// server gave up waiting for its synchronous standby: a failover may still undo it.
var ErrNotDurable = errors.New("the commit is visible, but its wait for the synchronous standby was canceled")

// Durably runs a transaction that is on disk, with all that was committed before it, when it
// returns nil: on the server's disk and, where the server has synchronous standbys, on theirs.
// The connections of the pool commit asynchronously otherwise.
//
// After any error but one that do returned itself, the transaction may be committed and visible
// without being durable; ErrNotDurable says that it is. When ctx ends during the commit the
// connection is dropped and the commit is not canceled (see neverCancel).
func Durably(ctx context.Context, pool *pgxpool.Pool, do func(pgx.Tx) error) error {
	return pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		forgetNotices(conn.Conn())
		begin, then := "BEGIN; "+commitDurably, []string(nil)
		if OnCitus(conn.Conn().Config()) {
			begin, then = "BEGIN", durablyOnCitus
		}
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(ctx) }() // does nothing after Commit
		for _, statement := range then {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		if err := do(tx); err != nil {
			return err
		}
		if err := tx.Commit(ctx); err != nil {
			return fmt.Errorf("waiting for PostgreSQL to make a commit durable: %w", mayWait(ctx, err))
		}
		return checkDurable(conn.Conn())
	})
}

// SendDurably is Durably for a batch, which it adds a statement to: the batch is one transaction and one round trip. A
// statement that fails undoes all of it; what a callback of the batch returns undoes nothing. Other errors, and what
// they leave open, are those of Durably. It is not for Citus, which has to be told where a transaction begins and ends.
func SendDurably(ctx context.Context, pool *pgxpool.Pool, batch *pgx.Batch) error {
	batch.Queue(`SELECT set_config('synchronous_commit', 'on', true), set_config('client_min_messages', 'warning', true)`)
	return pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		forgetNotices(conn.Conn())
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return mayWait(ctx, err)
		}
		return checkDurable(conn.Conn())
	})
}

// mayWait says what it may mean that ctx has ended during a commit.
func mayWait(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (it may be waiting for a synchronous standby)", err)
	}
	return err
}

// The commit waits, and a role or a database with client_min_messages = error hides no warning of it.
const commitDurably = `SET LOCAL synchronous_commit = on; SET LOCAL client_min_messages = warning`

// On Citus the transactions on the workers have these settings, too. It passes on the whole text in which one stands,
// so that each has its own. Then the transaction is committed in two phases if it writes on a worker.
var durablyOnCitus = append(append([]string{`SET LOCAL citus.propagate_set_commands = 'local'`},
	strings.Split(commitDurably, "; ")...), TwoPhase)

// TwoPhase is for the begin of a transaction on Citus that writes on a worker and in a table of the coordinator that
// Citus does not know, such as dead letters. Citus commits on a worker that alone has written before the coordinator
// does, and a crash between the two would leave one half. This counts as a write on the coordinator, so that both
// are committed in two phases. It changes nothing and locks nothing.
const TwoPhase = `UPDATE aggregator.two_phase SET id = id WHERE id = 0`

// waitCancelledKey is where a connection keeps that the wait of a commit was canceled.
const waitCancelledKey = "aggregator wait canceled"

// checkDurable returns ErrNotDurable if the wait for a synchronous standby was canceled since
// the last call of it on the connection. The server answers such a commit as a success, with a
// warning.
func checkDurable(conn *pgx.Conn) error {
	custom := conn.PgConn().CustomData()
	_, cancelled := custom[waitCancelledKey]
	delete(custom, waitCancelledKey)
	if cancelled {
		return ErrNotDurable
	}
	return nil
}

func forgetNotices(conn *pgx.Conn) { _ = checkDurable(conn) }

// noteWarning remembers the warning with which the server answers a commit whose wait for a
// standby was canceled. Its text is in the server's language; its routine has one name.
func noteWarning(conn *pgconn.PgConn, notice *pgconn.Notice) {
	if notice.Routine == "SyncRepWaitForLSN" {
		conn.CustomData()[waitCancelledKey] = true
	}
}

// errNoCancel is why no cancel request is sent.
var errNoCancel = errors.New("cancel requests are not sent")

// neverCancel keeps the connections of a pool from sending cancel requests. pgx sends one when it
// gives up a connection, and a server that gets one while a commit waits for a synchronous standby
// ends the wait and makes the commit visible: it could be read, and lost in a failover. Without,
// the statement in flight goes on until it ends or meets statement_timeout.
func neverCancel(cfg *pgxpool.Config) {
	cfg.ConnConfig.OnNotice = noteWarning
	cfg.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error {
		var connected atomic.Bool
		dial := conn.DialFunc
		conn.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if connected.Load() { // hence it is for a cancel request
				return nil, errNoCancel
			}
			return dial(ctx, network, address)
		}
		conn.AfterConnect = func(context.Context, *pgconn.PgConn) error {
			connected.Store(true)
			return nil
		}
		return nil
	}
}
