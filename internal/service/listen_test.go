package service

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/config"
)

// A second instance on a machine goes without a listener if nobody gave it an address.
func TestDefaultAddressTaken(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	instance := New(config.Default(), log, "v")
	first, err := instance.listen(t.Context())
	require.NoError(t, err)
	if first != nil { // else somebody else has it, which is as good
		defer first.Close()
	}
	second, err := instance.listen(t.Context())
	require.NoError(t, err)
	require.Nil(t, second)
	require.Contains(t, said.String(), "http.addr=127.0.0.1:9464")

	// The same address, if it was set, is one that somebody relies on.
	t.Setenv("AGGREGATOR_HTTP_ADDR", "127.0.0.1:9464")
	cfg, err := config.Load(nil)
	require.NoError(t, err)
	_, err = New(cfg, log, "v").listen(t.Context())
	require.EqualError(t, err,
		`http.addr = "127.0.0.1:9464": bind: address already in use; give it an address that is free, or none`)
}
