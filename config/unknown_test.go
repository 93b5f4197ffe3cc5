package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVariablesOfAService(t *testing.T) {
	for name, variables := range map[string]map[string]string{
		"aggregator": {
			"AGGREGATOR_SERVICE_HOST": "10.0.0.1", "AGGREGATOR_SERVICE_PORT": "80", "AGGREGATOR_SERVICE_PORT_HTTP": "80",
			"AGGREGATOR_PORT": "tcp://10.0.0.1:80", "AGGREGATOR_PORT_80_TCP": "tcp://10.0.0.1:80",
			"AGGREGATOR_PORT_80_TCP_ADDR": "10.0.0.1",
			"AGGREGATOR_PORT_80_TCP_PORT": "80", "AGGREGATOR_PORT_80_TCP_PROTO": "tcp",
		},
		"aggregator-redis": {
			"AGGREGATOR_REDIS_SERVICE_HOST": "fd00::1", "AGGREGATOR_REDIS_PORT": "tcp://[fd00::1]:6379",
			"AGGREGATOR_REDIS_SERVICE_PORT":           "6379",
			"AGGREGATOR_REDIS_SERVICE_PORT_REDIS_TLS": "6380", "AGGREGATOR_REDIS_PORT_6380_TCP": "tcp://[fd00::1]:6380",
			"AGGREGATOR_REDIS_PORT_6379_TCP_ADDR": "fd00::1",
		},
		"aggregator-http": {
			"AGGREGATOR_HTTP_SERVICE_HOST": "10.0.0.1", "AGGREGATOR_HTTP_PORT": "udp://10.0.0.1:9464",
			"AGGREGATOR_HTTP_PORT_9464_TCP":       "tcp://10.0.0.1:9464",
			"AGGREGATOR_HTTP_PORT_9464_UDP_PROTO": "udp", "AGGREGATOR_HTTP_PORT_9464_SCTP_PORT": "9464",
		},
		"aggregator-redis-url": {
			"AGGREGATOR_REDIS_URL_SERVICE_HOST": "10.0.0.1", "AGGREGATOR_REDIS_URL_PORT": "tcp://10.0.0.1:80",
		},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			for variable, value := range variables {
				t.Setenv(variable, value)
			}
			_, err := load(t)
			require.NoError(t, err)
		})
	}
	for name, tc := range map[string]struct{ variable, value string }{
		"a number":          {"AGGREGATOR_HTTP_PORT", "9464"},
		"misspelt":          {"AGGREGATOR_REDIS_ULR", "redis://h:1"},
		"misspelt, address": {"AGGREGATOR_REDIS_ULR", "tcp://h:1"},
		"a file":            {"AGGREGATOR_REDIS_PORT_FILE", "tcp://h:1"},
		"no number":         {"AGGREGATOR_REDIS_PORT_TCP_ADDR", "10.0.0.1"},
		"no service":        {"AGGREGATOR_SERVICE", "10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			t.Setenv(tc.variable, tc.value)
			_, err := load(t)
			requireOneLine(t, err, "environment variable "+tc.variable+": no such setting")
		})
	}
}
