package journal

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"aggregator/scripts/loadgen/workload"
)

// Run is what is known of one push.
type Run struct {
	Settings workload.Settings

	outcomes []Outcome
	batches  []int32 // which send an event of unknown outcome was part of
	sends    int32
}

// Complete is the run of a push that was acknowledged to the last event.
func Complete(settings workload.Settings) *Run { return &Run{Settings: settings} }

// Outcome tells what became of an event: acknowledged, unknown, or else never pushed
// (refused). For an unknown one, batch is a number that it shares with those sent with
// it, which Redis took or lost in the order of their indexes.
func (r *Run) Outcome(index int64) (outcome Outcome, batch int32) {
	switch {
	case r.outcomes == nil:
		return Acknowledged, 0
	case index >= int64(len(r.outcomes)) || r.outcomes[index] == 0:
		return Refused, 0
	case r.outcomes[index] == Sent:
		return Unknown, r.batches[index]
	}
	return r.outcomes[index], r.batches[index]
}

// Read reads all pushes of a file. A last line that a crash cut short is left out: what
// it told of counts as unknown.
func Read(path string) ([]*Run, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	runs, err := parse(file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return runs, nil
}

func parse(in io.Reader) ([]*Run, error) {
	var runs []*Run
	lines := bufio.NewReader(in)
	for number := 1; ; number++ {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return runs, nil // whatever there is has no line end, so is cut short
		}
		if err != nil {
			return nil, err
		}
		line = strings.TrimSuffix(line, "\n")
		if head, isHead := strings.CutPrefix(line, "push "); isHead {
			run := &Run{outcomes: []Outcome{}}
			if err := json.Unmarshal([]byte(head), &run.Settings); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			runs = append(runs, run)
			continue
		}
		outcome, first, end, ok := parseRange(line)
		switch {
		case !ok && nextIsHead(lines):
			continue // cut short by a crash, before the next push began
		case !ok || len(runs) == 0:
			return nil, fmt.Errorf("line %d: %q is no record of a push", number, line)
		}
		runs[len(runs)-1].record(outcome, first, end)
	}
}

func nextIsHead(lines *bufio.Reader) bool {
	head, err := lines.Peek(len("push "))
	return err == nil && string(head) == "push "
}

func parseRange(line string) (outcome Outcome, first, end int64, ok bool) {
	word, span, found := strings.Cut(line, " ")
	from, to, dash := strings.Cut(span, "-")
	if !found || !dash || len(word) != 1 || !strings.Contains("saur", word) {
		return 0, 0, 0, false
	}
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	if err1 != nil || err2 != nil || first < 0 || last < first || last >= 1<<34 {
		return 0, 0, 0, false
	}
	return Outcome(word[0]), first, last + 1, true
}

func (r *Run) record(outcome Outcome, first, end int64) {
	if grow := end - int64(len(r.outcomes)); grow > 0 {
		r.outcomes = append(r.outcomes, make([]Outcome, grow)...)
		r.batches = append(r.batches, make([]int32, grow)...)
	}
	if outcome == Sent {
		r.sends++
	}
	for i := first; i < end; i++ {
		r.outcomes[i] = outcome
		if outcome == Sent {
			r.batches[i] = r.sends
		}
	}
}
