package admin

import (
	"context"
	"crypto/tls"
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

// Ask asks the service that listens at the address what it is doing, by name of source: over TLS if secure is not
// nil. It fails if there is no service, or another program.
func Ask(ctx context.Context, addr string, secure *tls.Config) (map[string]SourceState, error) {
	ctx, cancel := context.WithTimeout(ctx, patience+time.Second) // it may ask its servers first
	defer cancel()
	scheme := "http://"
	if secure != nil {
		scheme = "https://"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+addr+"/readyz", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true}}
	response, err := client.Do(request)
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
