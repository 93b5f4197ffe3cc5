package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"aggregator/internal/aggregator"
)

// SourceState is what a running service says it is doing with a source.
type SourceState struct {
	OK       bool             `json:"ok"`
	State    aggregator.State `json:"state"`
	Since    time.Time        `json:"since"`
	Reason   string           `json:"reason,omitempty"`
	LastTurn time.Time        `json:"last_turn"`
}

// Ask asks the service that listens at the address what it is doing, by name of source. It fails if there is
// no service, or another program.
func Ask(ctx context.Context, addr string) (map[string]SourceState, error) {
	ctx, cancel := context.WithTimeout(ctx, patience+time.Second) // it may ask its servers first
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer readiness
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("asking %s: %w", addr, err)
	}
	return answer.Sources, nil
}
