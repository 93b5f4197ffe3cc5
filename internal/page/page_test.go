package page_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"aggregator/config"
	"aggregator/internal/access"
	"aggregator/internal/page"
	"aggregator/internal/page/pagetest"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// browser asks for pages as one does, with a login or without.
type browser struct {
	t    *testing.T
	base string
	user string // who is also the password; empty: no login
	http.Client
}

func (b *browser) do(method, page string, form url.Values) (int, http.Header, string) {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequestWithContext(b.t.Context(), method, b.base+strings.TrimPrefix(page, "./"), body)
	require.NoError(b.t, err)
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if b.user != "" {
		request.SetBasicAuth(b.user, b.user)
	}
	answer, err := b.Do(request)
	require.NoError(b.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(b.t, err)
	return answer.StatusCode, answer.Header, string(text)
}

// get is the text of a page, without its markup.
func (b *browser) get(page string, want int) string {
	b.t.Helper()
	status, _, text := b.do(http.MethodGet, page, nil)
	require.Equal(b.t, want, status, "%s: %s", page, text)
	return textOf(b.t, text)
}

// post sends a form, and returns where to go on.
func (b *browser) post(page string, form url.Values) string {
	b.t.Helper()
	status, header, text := b.do(http.MethodPost, page, form)
	require.Equal(b.t, http.StatusSeeOther, status, text)
	to := header.Get("Location")
	require.True(b.t, strings.HasPrefix(to, "./"), "it works under any prefix: %s", to)
	return to
}

func newBrowser(t *testing.T, w *pagetest.World, user string) *browser {
	b := &browser{t: t, base: w.URL, user: user}
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b
}

func textOf(t *testing.T, page string) string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	require.NoError(t, err)
	var words []string
	for node := range root.Descendants() {
		if node.Type == html.TextNode {
			words = append(words, strings.Fields(node.Data)...)
		}
	}
	return strings.Join(words, " ")
}

func TestPages(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	anyone, operator := newBrowser(t, w, ""), newBrowser(t, w, pagetest.Operator)
	var latest int64
	require.NoError(t, w.DB.QueryRow(t.Context(),
		`SELECT max(id) FROM child_personality_history WHERE child_profile_id = 1`).Scan(&latest))

	for page, wants := range map[string][]string{
		"": {
			"Both servers answer, an instance works on each source, and all counts agree.", "6 dead letters, neither",
			"2 of reason unknown profile", "Log in", "book-like-events working 0",
		},
		"source?name=book-like-events": {"Key in Redis book-like-events", "0 entries", "Tried again never"},
		"instances":                    {"(this one) living v1.2.3"},
		"dead":                         {"6 dead letters, neither applied nor dropped, newest first.", "Retry all …"},
		"dead?reason=unknown_profile":  {"2 dead letters of this filter", "Retry all of this filter …"},
		"dead?profile=9":               {"0 dead letters of this filter"},
		"runs":                         {"service running"},
		"runs?kind=drain":              {"Kind any service drain Show No runs of this kind yet."},
		"profile":                      {"Id of a child profile"},
		"profile?id=1": {
			"Now ISFJ", "ISFJ, was ENTP", "When each was a favorite. Animals Fairy tales Space", "At last I 8, E 4.",
		},
		"profile?id=1&scale=time": {"The width is that of time"},
		"profile?id=2":            {"It has no history yet."},
		"profile?id=9223372036854775807": {
			"Profile 9223372036854775807", "Now ISFJ",
		},
		"explain?profile=1": {
			"ISFJ , was ENTP", "E became I , by the event at", "“ 구름빵 ”", "deleted since", "Not explained by these events: I +2",
			"The genre Animals became a favorite",
		},
		"explain?profile=9223372036854775807":               {"Explained to the last point."},
		fmt.Sprintf("explain?profile=1&history=%d", latest): {"deleted since"},
	} {
		text := anyone.get(page, 200)
		for _, want := range wants {
			assert.Contains(t, text, want, page)
		}
		assert.NotContains(t, text, "Bori", "%s: no page names a child", page)
		assert.Contains(t, text, "Times are in UTC.", page)
	}
	for page, want := range map[string]struct {
		status int
		text   string
	}{
		"nothing":                     {404, "There is no such page."},
		"source?name=x":               {404, `The settings name no source "x".`},
		"profile?id=7":                {404, "There is no child profile 7."},
		"profile?id=<b>":              {400, `"<b>" is not the id of a child profile`},
		"profile?id=-1":               {400, "want a whole number"},
		"profile?id=1&before=now":     {400, `"now" is not a time`},
		"explain?profile=2":           {404, "Profile 2 has no such snapshot."},
		"explain?profile=7":           {404, "no child profile 7"},
		"explain?profile=1&history=x": {400, "not the id of a snapshot"},
		"run?id=4711":                 {404, "There is no run 4711."},
		"run?id=x":                    {400, "not the id of a run"},
		"dead?reason=x":               {400, `no reason "x"`},
		"dead?newer=x":                {400, `"x" is not a time span`},
		"dead?newer=1h&older=2h":      {400, "Nothing is older than 2h0m0s and newer than 1h0m0s."},
		"letter?source=a&position=1":  {400, `"1" is not a position`},
		"dead?source=%00":             {400, "A parameter is not a text"},
		"runs?kind=%ff":               {400, "A parameter is not a text"},
		"letter?source=a&position=1-9223372036854775808": {400, "is not a position"},
		"profile?id=1&before=0001-01-01T00:00:00Z":       {400, "is not a time"},
		"letter?source=a&position=1-1":                   {404, "There is no dead letter of source a at 1-1."},
		"confirm?do=drop&raeson=x":                       {400, `There is no condition "raeson"`},
		"confirm?do=x":                                   {400, "Want to retry or to drop."},
		"dead?token=abc":                                 {400, ""},
	} {
		assert.Contains(t, anyone.get(page, want.status), want.text, page)
	}

	// A title is a text, whatever is in it.
	_, _, markup := anyone.do(http.MethodGet, "explain?profile=1&history=1", nil)
	assert.NotContains(t, markup, "<script>alert")
	// Payload and detail are for operators.
	letters := links(t, operator, "dead", "letter?")
	require.Len(t, letters, 6)
	for _, letter := range letters {
		assert.NotRegexp(t, `junk|EAT|"action"`, anyone.get(letter, 200))
		assert.Contains(t, anyone.get(letter, 200), "The payload and the detail are for operators.")
		assert.NotContains(t, operator.get(letter, 200), "are for operators")
	}
	all := ""
	for _, letter := range letters {
		all += operator.get(letter, 200)
	}
	assert.Contains(t, all, "junk <b>")
	assert.Contains(t, all, `{"profile": 1, "book": 2, "action": "LIKE"}`)
	assert.Contains(t, newBrowser(t, w, pagetest.Viewer).get("", 200), "bob (viewer)")
}

// links are those of a page that lead to another, without the "./".
func links(t *testing.T, b *browser, page, to string) []string {
	t.Helper()
	_, _, text := b.do(http.MethodGet, page, nil)
	return linksOf(t, text, to)
}

func linksOf(t *testing.T, text, to string) (found []string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	require.NoError(t, err)
	for node := range root.Descendants() {
		for _, a := range node.Attr {
			if a.Key == "href" && strings.HasPrefix(a.Val, "./"+to) {
				found = append(found, strings.TrimPrefix(a.Val, "./"))
			}
		}
	}
	return found
}

// Every link and every form of every page leads to a page that is there.
func TestLinks(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	b := newBrowser(t, w, pagetest.Operator)
	seen, next := map[string]bool{"": true}, []string{""}
	for len(next) > 0 {
		page := next[0]
		next = next[1:]
		status, header, text := b.do(http.MethodGet, page, nil)
		if page == "login" {
			assert.Equal(t, 303, status)
			continue
		}
		if page == "profile?id=7" { // of a dead letter, because there is none
			assert.Equal(t, 404, status, page)
			continue
		}
		assert.Equal(t, 200, status, page)
		if !strings.HasPrefix(header.Get("Content-Type"), "text/html") {
			continue
		}
		root, err := html.Parse(strings.NewReader(text))
		require.NoError(t, err)
		ids := map[string]bool{}
		for node := range root.Descendants() {
			for _, a := range node.Attr {
				switch a.Key {
				case "href", "action", "src":
					if a.Val == "#content" || strings.HasPrefix(a.Val, "data:") {
						continue
					}
					require.True(t, strings.HasPrefix(a.Val, "./"), "%s: %q is not relative", page, a.Val)
					to := strings.TrimPrefix(a.Val, "./")
					if node.Data == "form" && strings.EqualFold(attribute(node, "method"), "post") {
						assert.Contains(t, []string{"retry", "drop", "zone"}, to)
					} else if !seen[to] {
						seen[to] = true
						next = append(next, to)
					}
				case "id":
					assert.False(t, ids[a.Val], "%s: two elements have the id %q", page, a.Val)
					ids[a.Val] = true
				case "style", "onclick":
					t.Errorf("%s: %s is against the policy", page, a.Key)
				}
			}
		}
	}
	assert.Greater(t, len(seen), 20)
}

func attribute(node *html.Node, key string) string {
	for _, a := range node.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// form are the fields of the form of a page that posts to an action.
func form(t *testing.T, b *browser, page, action string) url.Values {
	t.Helper()
	_, _, text := b.do(http.MethodGet, page, nil)
	root, err := html.Parse(strings.NewReader(text))
	require.NoError(t, err)
	for node := range root.Descendants() {
		if node.Data != "form" || attribute(node, "action") != "./"+action {
			continue
		}
		fields := url.Values{}
		for field := range node.Descendants() {
			if name := attribute(field, "name"); name != "" {
				fields.Add(name, attribute(field, "value"))
			}
		}
		return fields
	}
	require.Fail(t, "no such form", "%s of %s in %s", action, page, text)
	return nil
}

func TestRetryAndDrop(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	operator := newBrowser(t, w, pagetest.Operator)

	// One, which still cannot be applied, and then can.
	letter := links(t, operator, "dead?reason=unknown_book", "letter?")[0]
	back := operator.post("retry", form(t, operator, letter, "retry"))
	text := operator.get(back, 200)
	assert.Contains(t, text, "It still cannot be applied. Run")
	assert.Contains(t, text, "there is no such book")
	assert.Contains(t, text, "Retries 1")
	w.Exec(`INSERT INTO book (id, title, genre_id) VALUES (77, 'late', 1)`)
	fields := form(t, operator, letter, "retry")
	before := w.Number(`SELECT sum(score)::bigint FROM genre_score WHERE child_profile_id = 1`)
	assert.Contains(t, operator.get(operator.post("retry", fields), 200), "Applied 1 of 1 dead letter;")
	assert.Contains(t, operator.get(letter, 200), "Settled applied")
	// A second click.
	assert.Contains(t, operator.get(operator.post("retry", fields), 200), "It was settled before: nothing has changed.")
	assert.Equal(t, before+2, w.Number(`SELECT sum(score)::bigint FROM genre_score WHERE child_profile_id = 1`))

	// All of a filter, those only that were there when it was confirmed.
	confirm := links(t, operator, "dead?reason=unknown_profile", "confirm?do=retry")[0]
	assert.Contains(t, operator.get(confirm, 200), "This applies 2 dead letters")
	fields = form(t, operator, confirm, "retry")
	w.Push("7:1:LIKE")
	require.Eventually(t, func() bool {
		return strings.Contains(operator.get("dead?reason=unknown_profile", 200), "3 dead letters")
	}, time.Minute, 10*time.Millisecond)
	w.Exec(`INSERT INTO child_profile (id, name) VALUES (7, 'late')`)
	text = operator.get(operator.post("retry", fields), 200)
	assert.Contains(t, text, "Applied 2 of 2 dead letters; 0 settled before, 0 still dead.")
	assert.Contains(t, text, "1 dead letter of this filter")
	assert.EqualValues(t, 4, w.Number(`SELECT sum(score)::bigint FROM genre_score WHERE child_profile_id = 7`))

	confirm = links(t, operator, "dead?reason=malformed", "confirm?do=drop")[0]
	assert.Contains(t, operator.get(confirm, 200), "for good")
	text = operator.get(operator.post("drop", form(t, operator, confirm, "drop")), 200)
	assert.Regexp(t, `Dropped \d dead letters?\. Run \d+ is its record\.`, text)
	assert.Contains(t, text, "0 dead letters of this filter")

	// Who did it is on record, and what a child's is not.
	records := operator.get("runs?kind=retry", 200) + operator.get("runs?kind=drop", 200)
	assert.Contains(t, records, "by anna: dead letters of reason unknown_profile")
	assert.Contains(t, records, "by anna: dead letters of reason malformed")
	id := regexp.MustCompile(`Run (\d+)`).FindStringSubmatch(text)[1]
	assert.Contains(t, operator.get("run?id="+id, 200), "Kind drop Outcome done")
}

// Nothing is done without an operator, by GET, from elsewhere, or for more than was chosen.
func TestNothingIsDone(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	operator := newBrowser(t, w, pagetest.Operator)
	one := form(t, operator, links(t, operator, "dead?reason=malformed", "letter?")[0], "retry")
	for name, tc := range map[string]struct {
		user, method, page string
		form               url.Values
		want               int
	}{
		"without a login":     {"", "POST", "drop", one, 401},
		"a viewer":            {pagetest.Viewer, "POST", "drop", one, 403},
		"by GET":              {pagetest.Operator, "GET", "drop?" + one.Encode(), nil, 404},
		"of nothing":          {pagetest.Operator, "POST", "drop", url.Values{}, 400},
		"of all that will be": {pagetest.Operator, "POST", "drop", url.Values{"reason": {"malformed"}}, 400},
		"of a condition that is none": {
			pagetest.Operator, "POST", "drop", url.Values{"raeson": {"malformed"}, "until": {"2026-11-27T00:00:00Z"}}, 400,
		},
		"of a time that is none": {
			pagetest.Operator, "POST", "drop", url.Values{"reason": {"malformed"}, "until": {"0001-01-01T00:00:00Z"}}, 400,
		},
		"a zero": {
			pagetest.Operator, "POST", "drop", url.Values{"source": {"a\x00"}, "until": {"2026-11-27T00:00:00Z"}}, 400,
		},
		"fields in the URL": {pagetest.Operator, "POST", "drop?" + one.Encode(), url.Values{}, 400},
		"no such zone":      {"", "POST", "zone", url.Values{"name": {"Mars/Base"}}, 400},
	} {
		status, _, text := newBrowser(t, w, tc.user).do(tc.method, tc.page, tc.form)
		assert.Equal(t, tc.want, status, "%s: %s", name, text)
	}
	assert.Zero(t, w.Number(`SELECT count(*) FROM aggregator.dead_letter WHERE settled_at IS NOT NULL`))
	assert.Zero(t, w.Number(`SELECT count(*) FROM aggregator.run WHERE kind IN ('retry', 'drop')`))
}

// Ten thousand dead letters are paged through, each shown once.
func TestManyDeadLetters(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	w.Exec(`INSERT INTO aggregator.dead_letter
			(source, position_ms, position_seq, reason, detail, payload, payload_form, created_at)
		SELECT 'book-like-events', 1000 + i / 3, i % 3, 'malformed', '', '', 'event', now() - i / 250 * interval '1 second'
		FROM generate_series(1, 2000) i`)
	b := newBrowser(t, w, "")
	seen := map[string]bool{}
	for page := "dead?reason=malformed"; page != ""; {
		_, _, text := b.do(http.MethodGet, page, nil)
		require.Contains(t, text, "2,002 dead letters of this filter")
		for _, letter := range linksOf(t, text, "letter?") {
			require.False(t, seen[letter], letter)
			seen[letter] = true
		}
		older := ""
		for _, to := range linksOf(t, text, "dead?") {
			if strings.Contains(to, "after=") {
				older = to
			}
		}
		page = older
	}
	assert.Len(t, seen, 2_002)
	w.Exec(`DELETE FROM aggregator.dead_letter`)
	status, header, _ := b.do(http.MethodGet, "dead?reason=malformed&after=1000-1&after_source=book-like-events", nil)
	assert.Equal(t, 303, status, "where it was to go on is gone: it begins anew")
	assert.Equal(t, "./dead?reason=malformed", header.Get("Location"))
}

// The zone that a browser has chosen stays.
func TestTimeZone(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	b := newBrowser(t, w, "")
	zone := url.Values{"name": {"Asia/Seoul"}, "back": {"//evil.example/dead?reason=x"}}
	status, header, _ := b.do(http.MethodPost, "zone", zone)
	assert.Equal(t, 303, status)
	assert.Equal(t, "./dead?reason=x", header.Get("Location"))
	cookie := header.Get("Set-Cookie")
	assert.Contains(t, cookie, "HttpOnly; SameSite=Strict")
	assert.NotContains(t, cookie, "Path", "else it would not be for a prefix")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL, nil)
	require.NoError(t, err)
	request.Header.Set("Cookie", strings.Split(cookie, ";")[0])
	answer, err := b.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	assert.Contains(t, textOf(t, string(text)), "Times are in Asia/Seoul.")
}

// Without PostgreSQL, the overview says so and keeps its chart; the other pages say so.
func TestWithoutPostgres(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t, pagetest.OwnPostgres)
	b := newBrowser(t, w, pagetest.Operator)
	chart := regexp.MustCompile(`<polyline points="[^"]+"`)
	require.Eventually(t, func() bool {
		_, _, text := b.do(http.MethodGet, "", nil)
		return chart.MatchString(text)
	}, time.Minute, 100*time.Millisecond)
	require.NoError(t, w.Postgres.Stop())
	require.Eventually(t, func() bool {
		return strings.Contains(b.get("", 200), "PostgreSQL cannot be reached:")
	}, time.Minute, 100*time.Millisecond)
	_, _, text := b.do(http.MethodGet, "", nil)
	assert.Regexp(t, chart, text)
	for _, page := range []string{"dead", "runs", "profile?id=1", "explain?profile=1", "instances"} {
		assert.Contains(t, b.get(page, 503), "PostgreSQL does not answer", page)
	}
	require.NoError(t, w.Postgres.Start(t.Context()))
	require.Eventually(t, func() bool {
		return strings.Contains(b.get("", 200), "Both servers answer")
	}, time.Minute, 100*time.Millisecond)
}

// A source that cannot be worked on is named with the reason.
func TestTroubles(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	b := newBrowser(t, w, "")
	require.NoError(t, w.Redis.Del(t.Context(), pagetest.Source).Err())
	require.NoError(t, w.Redis.Set(t.Context(), pagetest.Source, "a text", 0).Err())
	require.Eventually(t, func() bool {
		return strings.Contains(b.get("", 200), "Source book-like-events is")
	}, time.Minute, 100*time.Millisecond)
	assert.Contains(t, b.get("source?name=book-like-events", 200), "Tried again")
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	b := newBrowser(t, w, "")
	assert.Contains(t, b.get("doctor", 200), "Checking …")
	require.Eventually(t, func() bool {
		text := b.get("doctor", 200)
		return strings.Contains(text, " ok, ") && !strings.Contains(text, "Checking …")
	}, time.Minute, 100*time.Millisecond)
	assert.Regexp(t, `ok PostgreSQL`, b.get("doctor", 200))
}

// What becomes old enough after the question is left out, and all that was shown is shown again.
func TestOlderThan(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	operator := newBrowser(t, w, pagetest.Operator)
	w.Exec(`UPDATE aggregator.dead_letter SET created_at = now() - interval '2 hours' WHERE reason = 'malformed'`)
	confirm := links(t, operator, "dead?older=1h&settled=yes", "confirm?do=drop")[0]
	fields := form(t, operator, confirm, "drop")
	assert.Contains(t, links(t, operator, confirm, "dead?"), "dead?older=1h&settled=yes")
	w.Exec(`UPDATE aggregator.dead_letter SET created_at = now() - interval '1 hour' WHERE reason = 'unknown_action'`)
	back := operator.post("drop", fields)
	text := operator.get(back, 200)
	assert.Contains(t, text, "Dropped 2 dead letters.")
	assert.Contains(t, text, "3 dead letters of this filter, newest first.", "the settled ones are among them, as before")
}

// A retry that a server has failed says so, although it has done something.
func TestRetryFails(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	operator := newBrowser(t, w, pagetest.Operator)
	w.Exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '57014'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON aggregator.dead_letter
			FOR EACH ROW WHEN (OLD.reason = 'unknown_action') EXECUTE FUNCTION refuse()`)
	w.Exec(`UPDATE aggregator.dead_letter SET created_at = now() - interval '1 hour' WHERE reason = 'malformed'`)
	fields := form(t, operator, "confirm?do=retry&reason=malformed&reason=unknown_action", "retry")
	text := operator.get(operator.post("retry", fields), 200)
	assert.Contains(t, text, "The retry failed before it was done. Applied 0 of 2 dead letters; 0 settled before, 2 still")
	assert.Contains(t, text, "not now")
}

// What the service cannot find out is said, and is neither zero nor well.
func TestUnknown(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	b := newBrowser(t, w, "")
	w.Exec(`REVOKE SELECT ON aggregator.dead_letter FROM aggregator_daemon`)
	require.Eventually(t, func() bool {
		return strings.Contains(b.get("", 200), "Not everything could be found out: counting dead letters")
	}, time.Minute, 100*time.Millisecond)
	assert.Contains(t, b.get("", 200), "Dead letters Not known. Last runs")
	assert.Contains(t, b.get("dead", 500), "aggregator doctor says whether a right is missing.")
	assert.NotContains(t, b.get("confirm?do=drop", 500), "more dead letters than")
	w.Exec(`GRANT SELECT ON aggregator.dead_letter TO aggregator_daemon`)

	// A table that is locked is an outage, which ends by itself.
	tx, err := w.DB.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE aggregator.run`)
	require.NoError(t, err)
	assert.Contains(t, b.get("runs", 503), "The page tries again by itself.")
	require.NoError(t, tx.Rollback(t.Context()))
	assert.Contains(t, b.get("runs", 200), "service running")

	w.Exec(`DELETE FROM aggregator.schema_migrations
		WHERE version_id = (SELECT max(version_id) FROM aggregator.schema_migrations)`)
	require.Eventually(t, func() bool {
		return strings.Contains(b.get("", 200), "The schema does not fit:")
	}, time.Minute, 100*time.Millisecond)
	assert.Contains(t, b.get("instances", 503), "The schema does not fit:")
}

// A long payload is cut between two characters; one that is no text is not made one.
func TestPayload(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	operator := newBrowser(t, w, pagetest.Operator)
	for name, tc := range map[string]struct {
		payload, want string
		binary        bool
	}{
		"in the middle of a character": {strings.Repeat("x", 8191) + "해", strings.Repeat("x", 8191), false},
		"between characters":           {strings.Repeat("x", 8189) + "해와", strings.Repeat("x", 8189) + "해", false},
		"bytes":                        {"a\xffb" + strings.Repeat("x", 8192), `"a\xffbxxx`, true},
		"bytes at the end":             {strings.Repeat("x", 8191) + "\xffb", `xxx\xff"`, true},
	} {
		t.Run(name, func(t *testing.T) {
			w.Exec(`INSERT INTO aggregator.dead_letter
					(source, position_ms, position_seq, reason, detail, payload, payload_form)
				VALUES ('s', 1, 1, 'malformed', '', $1, 'event')
				ON CONFLICT (source, position_ms, position_seq) DO UPDATE SET payload = excluded.payload`, []byte(tc.payload))
			text := operator.get("letter?source=s&position=1-1", 200)
			assert.Contains(t, text, tc.want)
			assert.Equal(t, tc.binary, strings.Contains(text, "Bytes that are no text"))
			assert.Contains(t, text, "This is its beginning")
		})
	}
	// Its source is one of former settings, of which there is no page.
	assert.Contains(t, operator.get("letter?source=s&position=1-1", 200), "Source s, which the settings do not name")
	assert.Empty(t, links(t, operator, "letter?source=s&position=1-1", "source?"))
}

// Snapshots are paged through, each shown once, also those of one moment; the scale stays.
func TestManySnapshots(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	w.Exec(`INSERT INTO child_personality_history (child_profile_id, created_at, history_created_type, is_deleted, mbti_id,
			i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
		SELECT 2, '2026-11-27'::timestamptz + i / 3 * interval '1 second', 'FEEDBACK', false, 1, i, 0, 0, 0, 0, 0, 0, 0
		FROM generate_series(1, 250) i`)
	b := newBrowser(t, w, "")
	seen := map[string]bool{}
	pages := 0
	for next := "profile?id=2&scale=time"; next != ""; pages++ {
		for _, why := range links(t, b, next, "explain?")[1:] { // the first is that of the latest
			require.False(t, seen[why], why)
			seen[why] = true
		}
		older := ""
		for _, to := range links(t, b, next, "profile?") {
			if strings.Contains(to, "before=") && strings.Contains(to, "scale=time") {
				older = to
			}
		}
		if pages > 0 {
			at := strings.TrimPrefix(next, "profile?")
			assert.Contains(t, links(t, b, next, "profile?"), "profile?"+strings.Replace(at, "&scale=time", "", 1))
			assert.Contains(t, links(t, b, next, "profile?"), "profile?id=2&scale=time")
		}
		next = older
	}
	assert.Len(t, seen, 250)
	assert.Equal(t, 3, pages)
}

// Who logs in comes back; who may not act is told why.
func TestLogIn(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	letter := links(t, newBrowser(t, w, ""), "dead", "letter?")[0]
	for _, page := range []string{"dead?reason=malformed", "confirm?do=drop&reason=malformed", letter} {
		to := links(t, newBrowser(t, w, ""), page, "login?")
		require.NotEmpty(t, to, page)
		for _, login := range to {
			status, header, _ := newBrowser(t, w, pagetest.Operator).do(http.MethodGet, login, nil)
			assert.Equal(t, 303, status)
			assert.Equal(t, "./"+page, header.Get("Location"))
		}
		viewer := newBrowser(t, w, pagetest.Viewer)
		assert.Empty(t, links(t, viewer, page, "login"), page)
		assert.Contains(t, viewer.get(page, 200), "bob is a viewer.", page)
	}
	_, header, _ := newBrowser(t, w, pagetest.Operator).do(http.MethodGet, "login?back=//evil.example/dead", nil)
	assert.Equal(t, "./dead", header.Get("Location"))
}

// The page uses the settings in force.
func TestReload(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	operator := newBrowser(t, w, pagetest.Operator)
	w.Reload(func(c *config.Config) {
		c.Schedule.TimeZone = "Asia/Seoul"
		c.Events.Weights = map[string]float64{"LIKE": 2, "DISLIKE": -2, "EAT": 1}
	})
	require.Eventually(t, func() bool {
		return strings.Contains(operator.get("", 200), "Times are in Asia/Seoul.")
	}, time.Minute, 10*time.Millisecond)
	letter := links(t, operator, "dead?reason=unknown_action", "letter?")[0]
	assert.Contains(t, operator.get(operator.post("retry", form(t, operator, letter, "retry")), 200), "Applied 1 of 1")
}

// A source that rests until its schedule wants it does not lag.
func TestResting(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t, pagetest.Set(func(c *config.Config) {
		c.Source.Key = "resting"
		c.Schedule.Drain = "0 0 29 2 *"
	}))
	b := newBrowser(t, w, "")
	require.NoError(t, w.Redis.XAdd(t.Context(), &redis.XAddArgs{
		Stream: "resting", ID: "1000-1", Values: []any{"event", "1:1:LIKE"},
	}).Err())
	require.Eventually(t, func() bool {
		return strings.Contains(b.get("source?name=resting", 200), "Waiting 1 entry")
	}, time.Minute, 100*time.Millisecond)
	assert.Contains(t, b.get("", 200), "Both servers answer")
	assert.NotContains(t, b.get("", 200), "lags")
}

// An action ends with the service, and is not a failure; once the service ends, none begins.
func TestEnd(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	operator := newBrowser(t, w, pagetest.Operator)
	fields := form(t, operator, "confirm?do=drop&reason=malformed", "drop")
	tx, err := w.DB.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM aggregator.dead_letter FOR UPDATE`)
	require.NoError(t, err)
	assert.Contains(t, operator.get(operator.post("drop", fields), 200), "The drop is running: 0 dead letters so far.")
	status, _, text := operator.do(http.MethodPost, "drop", fields)
	assert.Equal(t, http.StatusConflict, status, text)
	w.Stop()
	require.NoError(t, tx.Rollback(t.Context()))
	assert.EqualValues(t, 1, w.Number(`SELECT count(*) FROM aggregator.run WHERE kind = 'drop' AND outcome = 'stopped'`))
	assert.Zero(t, w.Number(`SELECT count(*) FROM aggregator.dead_letter WHERE settled_at IS NOT NULL`))

	pool, err := pgxpool.New(t.Context(), string(w.Config.Postgres.URL))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	p := page.New(page.Options{
		Pool: pool, Zone: func() *time.Location { return time.UTC }, Log: slog.New(slog.DiscardHandler),
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	p.Run(ended)
	r := httptest.NewRequestWithContext(access.With(t.Context(), access.User{Name: "anna", Role: access.Operator}),
		http.MethodPost, "/drop", strings.NewReader(fields.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := httptest.NewRecorder()
	p.ServeHTTP(answer, r)
	assert.Equal(t, http.StatusServiceUnavailable, answer.Code)
	assert.Contains(t, answer.Body.String(), "The service is ending: nothing was done.")
}
