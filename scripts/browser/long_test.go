package browser

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/page/pagetest"
)

// Names and errors without a space do not make a page wider than a telephone.
func TestLongTexts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long_", 40)
	w := pagetest.Start(t, pagetest.Set(func(c *config.Config) {
		c.Source.Key = long
		c.Source.Partitions = 3
	}))
	w.Exec(`INSERT INTO aggregator.dead_letter (source, position_ms, position_seq, reason, detail, payload, payload_form)
		VALUES ($1, 1, 1, 'malformed', $1, $1::text::bytea, 'event')`, long)
	w.Exec(`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, read, applied, dead, profiles,
			chunks, finished_at, outcome, error, note)
		VALUES ('k', 'purge', $1, $1, now(), now(), 0, 0, 0, 0, 0, now(), 'failed', $1, $1)`, long)
	w.Exec(`UPDATE book SET title = repeat('긴제목', 160); UPDATE genre SET name = name || repeat('긴', 200);
		UPDATE topic SET name = name || repeat('ق', 200)`)
	b := open(t, w.URL, how{width: 360, user: pagetest.Operator})
	q := url.QueryEscape(long)
	for _, page := range []string{
		"", "source?name=" + url.QueryEscape(long+":{0}"), "dead", "source?name=" + q, "instances", "dead?source=" + q,
		"letter?position=1-1&source=" + q, "confirm?do=drop&position=1-1&source=" + q, "confirm?do=retry&source=" + q,
		"dead?reason=" + q, "confirm?do=drop&" + q + "=1", "runs", "run?id=1", "run?id=2", "profile?id=1",
		"explain?profile=1", "explain?profile=9223372036854775807",
	} {
		b.visit(page)
		assert.Empty(t, ask[[]string](b, tooWide), page)
	}
	ask[chromedp.Void](b, `{ document.querySelector('.aside span').textContent = 'long_'.repeat(40); }`)
	assert.Empty(t, ask[[]string](b, tooWide), "the name of a user")
	b.complaints() // of the answers 400 and 404, as they must
}

// While something else answers for the service, such as a proxy, the page says that what it shows is from before.
func TestBadGateway(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	to, err := url.Parse(w.URL)
	require.NoError(t, err)
	var down atomic.Bool
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if down.Load() {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	b := open(t, server.URL+"/", how{width: 1280, user: pagetest.Operator})
	b.visit("")
	b.says("Both servers answer")
	down.Store(true)
	b.says("The answer was 502. What is shown is from before.")
	b.complaints() // of the answers 502
}
