package browser

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/page/pagetest"
)

// A page follows what happens, keeps what was opened and where the focus is, and stands still while it is paused.
func TestLive(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	b := open(t, w.URL, how{width: 1280})
	b.visit("")
	b.says("6 dead letters, neither applied nor dropped")
	b.do(chromedp.Focus(chromedp.CSS(`#dead-unknown_book`)))
	w.Push("1:1:NOD")
	b.says("7 dead letters, neither applied nor dropped")
	assert.Equal(t, "dead-unknown_book", ask[string](b, `document.activeElement.id`))

	b.click(`#pause`)
	assert.Equal(t, "true", ask[string](b, `document.getElementById('pause').getAttribute('aria-pressed')`))
	ask[chromedp.Void](b, `{ window.asked = 0; const before = window.fetch;
		window.fetch = (...a) => { window.asked++; return before(...a); }; }`)
	ask[chromedp.Void](b, `new Promise((done) => setTimeout(done, 6000))`) // longer than from one time to the next
	assert.Zero(t, ask[int](b, `window.asked`))
	b.click(`#pause`)
	require.Eventually(t, func() bool { return ask[int](b, `window.asked`) > 0 }, patience, 50*time.Millisecond)
}

// Who reads a letter with its payload open does not lose it, nor an id that is copied.
func TestCopy(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	b := open(t, w.URL, how{width: 1280})
	b.visit("profile?id=9223372036854775807")
	b.click(`button[data-copy]`)
	b.says("Copied 9223372036854775807")
}

// A person logs in with the prompt of the browser, and acts; a login that has ended is said.
func TestLogin(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	b := open(t, w.URL, how{width: 1280})
	b.answerLogin(pagetest.Operator)
	b.visit("")
	b.click(`a[href^="./login"]`)
	b.says("anna")
	b.visit("dead?reason=unknown_action")
	b.click(`#letters tbody a`)
	b.click(`#retry`)
	b.says("It still cannot be applied.")
	assert.Contains(t, b.text(), `action is "EAT"`)
	b.click(`#payload-summary`)
	b.says("1:1:EAT")

	b.visit("")
	require.NoError(t, os.WriteFile(w.Config.HTTP.UsersFile, []byte("operators: {}\nviewers: {}\n"), 0o600))
	b.says("The login is no longer valid: reload the page to log in.")
	b.complaints() // of the answers 401, as it must
}

// answerLogin answers the prompt of the browser with a name, which is also the password. The second time for the same
// request it gives up, as the name is wrong.
func (b *tab) answerLogin(user string) {
	b.t.Helper()
	asked := map[fetch.RequestID]bool{}
	require.NoError(b.t, chromedp.Listen(b, func(event any) {
		switch e := event.(type) {
		case *fetch.EventRequestPaused:
			go func() {
				_, _ = chromedp.Call(b, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: e.RequestID})
			}()
		case *fetch.EventAuthRequired:
			response := &fetch.AuthChallengeResponse{
				Response: fetch.AuthChallengeResponseResponseProvideCredentials, Username: user, Password: user,
			}
			if asked[e.RequestID] {
				response = &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseCancelAuth}
			}
			asked[e.RequestID] = true
			go func() {
				_, _ = chromedp.Call(b, fetch.ContinueWithAuth, fetch.ContinueWithAuthParams{
					RequestID: e.RequestID, AuthChallengeResponse: response,
				})
			}()
		}
	}))
	call(b, fetch.Enable, fetch.EnableParams{HandleAuthRequests: new(true)})
}

// Behind a proxy that takes a prefix off, all of it works, actions too.
func TestPrefix(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	to, err := url.Parse(w.URL)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}
	mux := http.NewServeMux()
	mux.Handle("/ops/aggregator/", http.StripPrefix("/ops/aggregator", proxy))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	b := open(t, server.URL+"/ops/aggregator/", how{width: 1280, user: pagetest.Operator})
	for _, page := range pages(t, w) {
		b.visit(page)
		assert.Contains(t, b.text(), "Times are in UTC.")
	}
	b.do(chromedp.SetValue(chromedp.CSS(`#zone`), "Asia/Seoul"))
	b.click(`footer button`)
	b.says("Times are in Asia/Seoul.")
	b.visit("dead?reason=malformed")
	b.click(`#retry-all`)
	b.says("This applies 2 dead letters")
	b.click(`#confirm`)
	b.says("0 settled before, 2 still dead.")
	at := get(b, chromedp.Location())
	assert.True(t, strings.HasPrefix(at, server.URL+"/ops/aggregator/dead?"), at)
	assert.Contains(t, b.text(), "Times are in Asia/Seoul.")
}

// While PostgreSQL is down the page says so, keeps its chart, and comes back by itself.
func TestPostgresDown(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t, pagetest.OwnPostgres)
	b := open(t, w.URL, how{width: 1280})
	b.visit("")
	b.do(chromedp.WaitReady(chromedp.CSS(`#charts polyline`)))
	require.NoError(t, w.Postgres.Stop())
	b.says("PostgreSQL cannot be reached")
	assert.Positive(t, ask[int](b, `document.querySelectorAll('#charts polyline').length`))
	require.NoError(t, w.Postgres.Start(context.WithoutCancel(t.Context())))
	b.says("Both servers answer")
}

// TestScreenshots takes the pictures of the documents, into the directory that SCREENSHOTS names.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		t.Skip("SCREENSHOTS names no directory; see make screenshots")
	}
	w := pagetest.Start(t)
	w.Exec(`UPDATE book SET title = CASE id WHEN 1 THEN 'The wolf and the seven kids' WHEN 2 THEN 'A cat with wings'
		ELSE 'To the moon' END;
		UPDATE topic SET name = CASE id WHEN 1 THEN 'courage' WHEN 2 THEN 'helping' ELSE 'friendship' END`)
	for i := range 90 { // so that there is something to draw
		w.Push(slices.Repeat([]string{"9223372036854775807:2:LIKE"}, 20+i*i%70)...)
		time.Sleep(time.Second)
	}
	b := open(t, w.URL, how{})
	for _, shot := range []struct {
		name, page string
		how
	}{
		{"overview", "", how{width: 1000}},
		{"dead-letters", "dead", how{width: 1000, dark: true, user: pagetest.Operator}},
		{"profile", "profile?id=1", how{width: 1000}},
		{"explain", "explain?profile=1", how{width: 1000}},
		{"telephone", "", how{width: 360, dark: true}},
	} {
		b.as(shot.how)
		b.visit(shot.page)
		picture := get(b, chromedp.FullScreenshot(100))
		require.NoError(t, os.WriteFile(fmt.Sprintf("%s/%s.png", dir, shot.name), picture, 0o644))
	}
}
