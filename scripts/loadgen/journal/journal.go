// Package journal keeps which events of a push were acknowledged by Redis and which have
// an unknown outcome, for a verifier that must allow the latter once or not at all.
//
// The file is text, one record a line, only ever appended to:
//
//	push {"count":1000000,"kind":"stream",...}   a push with these settings begins
//	s 0-999      events 0 to 999 of it are about to be sent, by one client, in this order
//	a 0-419      acknowledged
//	u 420-999    unknown: the answer was lost, Redis may have them or not
//	r 1000-1999  refused, or never sent: Redis does not have them
//
// What no line names was never sent. What an `s` names and no later line is unknown too:
// so a load generator that is killed leaves a true record behind. A refused event may be
// sent again. One file may hold any number of pushes.
package journal

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"

	"aggregator/scripts/loadgen/workload"
)

// Outcome is what became of an event.
type Outcome byte

// The outcomes, and the intent before them.
const (
	Sent         Outcome = 's'
	Acknowledged Outcome = 'a'
	Unknown      Outcome = 'u'
	Refused      Outcome = 'r'
)

// Writer appends to a file. It may be used by many clients at once; a nil Writer writes
// nothing.
type Writer struct {
	mu   sync.Mutex
	file *os.File
	line []byte
}

// Append opens the file, making it if need be, and begins a push.
func Append(path string, settings workload.Settings) (*Writer, error) {
	head, err := json.Marshal(settings)
	if err != nil {
		return nil, fmt.Errorf("encoding the settings: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	line := append([]byte("push "), head...)
	if !endsInLineEnd(file) {
		line = append([]byte("\n"), line...)
	}
	if _, err := file.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("writing the journal: %w", closing(file, err))
	}
	return &Writer{file: file}, nil
}

// endsInLineEnd is false for a file whose last record a crash cut short.
func endsInLineEnd(file *os.File) bool {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return true
	}
	last := make([]byte, 1)
	_, err = file.ReadAt(last, info.Size()-1)
	return err == nil && last[0] == '\n'
}

func closing(file *os.File, err error) error {
	file.Close()
	return err
}

// Write records the outcome of the events from first up to, but not including, end. The
// line is in the hands of the kernel when it returns: it survives the death of this
// process, though not that of the machine.
func (w *Writer) Write(outcome Outcome, first, end int64) error {
	if w == nil || first == end {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	b := append(w.line[:0], byte(outcome), ' ')
	b = strconv.AppendInt(b, first, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, end-1, 10)
	b = append(b, '\n')
	w.line = b
	if _, err := w.file.Write(b); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// Close closes the file.
func (w *Writer) Close() error {
	if w == nil {
		return nil
	}
	return w.file.Close()
}
