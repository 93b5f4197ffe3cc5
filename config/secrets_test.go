package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/config"
)

func TestURLShowsNoPassword(t *testing.T) {
	for name, tc := range map[string]struct{ url, want string }{
		"user and password": {"redis://u:hunter2@h:1/0", "redis://u:xxxxx@h:1/0"},
		"password only":     {"redis://:hunter2@h:1/0", "redis://:xxxxx@h:1/0"},
		"password as user":  {"redis://hunter2@h:1/0", "redis://xxxxx@h:1/0"},
		"nothing to hide":   {"redis://h:1/0?dial_timeout=3s", "redis://h:1/0?dial_timeout=3s"},
		"percent form":      {"postgres://u:hunter2%40@h/db", "postgres://u:xxxxx@h/db"},
		"user stays":        {"postgres://u@h/db", "postgres://u@h/db"},
		"parameter": {
			"postgres://h/db?password=hunter2&sslmode=require",
			"postgres://h/db?password=xxxxx&sslmode=require",
		},
		"encoded parameter":   {"postgres://h/db?pass%77ord=hunter2", "postgres://h/db?password=xxxxx"},
		"key password":        {"postgres://h/db?sslpassword=hunter2", "postgres://h/db?sslpassword=xxxxx"},
		"broken query":        {"postgres://h/db?a=1;password=hunter2", "postgres://h/db?xxxxx"},
		"no URL":              {"postgres://u:hunter2@h:port/db", "postgres://u:xxxxx@h:port/db"},
		"question mark":       {"postgres://u:12?hunter2@h/db", "postgres://u:xxxxx@h/db"},
		"number sign":         {"postgres://u:12#hunter2@h/db", "postgres://u:xxxxx@h/db"},
		"slash":               {"postgres://u:12/hunter2@h/db", "xxxxx"},
		"at sign":             {"postgres://u:12@hunter2@h/db", "xxxxx"},
		"keyword with a path": {"host=/tmp password=hunter2://x", "host=/tmp password=xxxxx"},
		"keywords":            {"host=h password=hunter2 user=u", "host=h password=xxxxx user=u"},
		"quoted":              {`host=h password = 'hunter2 \' hunter2' user=u`, "host=h password = xxxxx user=u"},
		"escaped":             {`host=h password=a\ hunter2 user=u`, "host=h password=xxxxx user=u"},
		"unterminated":        {`host=h password='a hunter2 user=u`, "host=h password=xxxxx"},
		"keyword for the key": {"sslpassword=hunter2 host=h", "sslpassword=xxxxx host=h"},
		"empty":               {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			u := config.URL(tc.url)
			require.Equal(t, tc.want, u.String())
			require.Equal(t, tc.url, string(u))
			var log bytes.Buffer
			slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "url", u)
			encoded, err := json.Marshal(u)
			require.NoError(t, err)
			for _, shown := range []string{
				fmt.Sprint(u), fmt.Sprintf("%v %+v %#v %s %q", u, u, u, u, u), log.String(), string(encoded),
			} {
				require.NotContains(t, shown, "hunter2")
			}
		})
	}
}

func TestErrorsShowNoPassword(t *testing.T) {
	for name, url := range map[string]string{
		"port":         "://u:hunter2@h:port/0",
		"slash":        "://u:hun/hunter2@h:1/0",
		"percent form": "://u:hunter2%zz@h:1/0",
		"space":        "://u:hunter2 @h:port/0",
		"line":         "://u:hunter2\n@h:1/0",
	} {
		for _, scheme := range []string{"redis", "postgres"} {
			t.Run(scheme+" "+name, func(t *testing.T) {
				isolate(t)
				t.Setenv("AGGREGATOR_"+strings.ToUpper(scheme)+"_URL", scheme+url)
				_, err := load(t)
				if err != nil { // pgx takes a line break in a password
					requireOneLine(t, err, scheme+".url (env")
					require.NotContains(t, err.Error(), "hunter2")
				}
			})
		}
	}
}

func TestPrint(t *testing.T) {
	isolate(t)
	writeFile(t, "aggregator.yaml", "apply: {workers: 7}\nevents: {weights: {FINISHED: 3}}\nsource: {key: 'a: #b'}\n")
	t.Setenv("AGGREGATOR_REDIS_URL", "redis://u:hunter2@h:1/0")
	t.Setenv("DATABASE_URL", "postgres://u:hunter2@h/db?sslpassword=hunter2")
	c, err := load(t, "--log-level=warn")
	require.NoError(t, err)

	var plain, origins strings.Builder
	require.NoError(t, c.Print(&plain, false))
	require.NoError(t, c.Print(&origins, true))
	require.NotContains(t, plain.String()+origins.String()+fmt.Sprintf("%+v %#v", c, c), "hunter2")
	for _, line := range []string{
		"  url: redis://u:xxxxx@h:1/0  # env AGGREGATOR_REDIS_URL\n",
		"  url: postgres://u:xxxxx@h/db?sslpassword=xxxxx  # env DATABASE_URL\n",
		"  workers: 7  # aggregator.yaml:1\n",
		"  level: warn  # flag --log-level\n",
		"  max_wait: 10ms  # default\n",
		"  weights:  # aggregator.yaml:2\n    DISLIKE: -2\n    FINISHED: 3\n    LIKE: 2\n",
	} {
		require.Contains(t, origins.String(), line)
	}

	// What is printed can be read again.
	isolate(t)
	writeFile(t, "aggregator.yaml", plain.String())
	again, err := load(t)
	require.NoError(t, err)
	var second strings.Builder
	require.NoError(t, again.Print(&second, false))
	require.Equal(t, plain.String(), second.String())
	require.Equal(t, "a: #b", again.Source.Key)
}
