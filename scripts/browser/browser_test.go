package browser

import (
	"context"
	"encoding/base64"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/page/pagetest"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

// tab is a tab of a browser that has its own profile.
type tab struct {
	context.Context
	t    *testing.T
	base string

	mu     sync.Mutex
	faults []string // what the browser has complained of
}

// how a page is looked at.
type how struct {
	width    int64
	dark     bool
	noScript bool
	user     string // who is also the password; empty: no login
}

func (h how) String() string {
	return fmt.Sprintf("width=%d dark=%t noscript=%t user=%s", h.width, h.dark, h.noScript, h.user)
}

func open(t *testing.T, base string, h how) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	require.NoError(t, err, "scripts/provision installs it")
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(patience))
	allocator, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewContext(allocator)
	t.Cleanup(end)
	b := &tab{Context: ctx, t: t, base: base}
	require.NoError(t, chromedp.Listen(ctx, b.listen)) // it starts the browser
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, audits.Enable, cdp.Empty{})
	call(b, accessibility.Enable, cdp.Empty{})
	b.as(h)
	t.Cleanup(func() { assert.Empty(t, b.complaints()) })
	return b
}

// as looks at the next pages in this way.
func (b *tab) as(h how) {
	b.t.Helper()
	scheme := "light"
	if h.dark {
		scheme = "dark"
	}
	headers := network.Headers{}
	if h.user != "" {
		headers["Authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(h.user+":"+h.user))
	}
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: max(h.width, 320), Height: 800, DeviceScaleFactor: 1,
	})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: h.noScript})
	call(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: headers})
}

// call sends a command of the protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	answer, err := chromedp.Call(ctx, command, params)
	require.NoError(b.t, err)
	return answer
}

// listen keeps what a person would see as errors in the console, and violations of the policy.
func (b *tab) listen(event any) {
	fault := ""
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			fault = e.Entry.Text + " " + e.Entry.URL
		}
	case *runtime.EventExceptionThrown:
		fault = e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			fault = "console.error"
		}
	case *audits.EventIssueAdded:
		if e.Issue.Code == audits.InspectorIssueCodeContentSecurityPolicyIssue {
			fault = fmt.Sprintf("policy: %+v", e.Issue.Details.ContentSecurityPolicyIssueDetails)
		}
	}
	if fault != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.faults = append(b.faults, fault)
	}
}

// complaints are those so far, which are forgotten.
func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	faults := b.faults
	b.faults = nil
	return faults
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, actions...))
}

// get runs an action that has a value.
func get[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	require.NoError(b.t, err)
	return value
}

// ask evaluates JavaScript.
func ask[T any](b *tab, script string) T {
	b.t.Helper()
	return get(b, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
}

func (b *tab) visit(page string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + page))
}

// text is what is to be read on the page.
func (b *tab) text() string {
	b.t.Helper()
	return strings.Join(strings.Fields(get(b, chromedp.Text(chromedp.CSS("body")))), " ")
}

// says waits until the page says something.
func (b *tab) says(want string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		ctx, cancel := context.WithTimeout(b, 10*time.Second)
		defer cancel()
		text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
		return err == nil && strings.Contains(strings.Join(strings.Fields(text), " "), want)
	}, patience, 50*time.Millisecond, "want %q", want)
}

// click clicks, again if what is there is replaced at this moment.
func (b *tab) click(selector string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		ctx, cancel := context.WithTimeout(b, 10*time.Second)
		defer cancel()
		return chromedp.Do(ctx, chromedp.Click(chromedp.CSS(selector))) == nil
	}, patience, 50*time.Millisecond, selector)
}

// pages are all kinds of pages of a World.
func pages(t *testing.T, w *pagetest.World) []string {
	t.Helper()
	var at string
	require.NoError(t, w.DB.QueryRow(t.Context(),
		`SELECT position_ms || '-' || position_seq FROM aggregator.dead_letter WHERE reason = 'malformed' LIMIT 1`).Scan(&at))
	return []string{
		"", "source?name=book-like-events", "instances", "dead", "dead?profile=99999",
		"letter?source=book-like-events&position=" + at, "confirm?do=drop", "runs", "run?id=1", "doctor", "profile",
		"profile?id=1", "profile?id=9223372036854775807", "explain?profile=1",
	}
}

// controls are what a person can operate, by their roles in the accessibility tree.
var controls = map[string]bool{
	"link": true, "button": true, "textbox": true, "searchbox": true, "combobox": true, "checkbox": true,
	"DisclosureTriangle": true, "image": true, "img": true, "region": true, "table": false,
}

// In light and dark, on a telephone and on a desk, with script and without: every control has a name, nothing is
// wider than the screen, every text can be read, and the browser complains of nothing.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	b := open(t, w.URL, how{})
	for _, h := range []how{
		{width: 1280},
		{width: 360},
		{width: 1280, dark: true},
		{width: 360, dark: true},
		{width: 360, noScript: true},
		{width: 1280, user: pagetest.Operator},
	} {
		b.as(h)
		for _, page := range pages(t, w) {
			t.Run(fmt.Sprintf("%s/%s", page, h), func(t *testing.T) {
				b.t = t
				b.visit(page)
				assert.Contains(t, b.text(), "Times are in UTC.")
				names, landmarks := 0, map[string]int{}
				for _, node := range call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
					role := value(node.Role)
					landmarks[role]++
					if controls[role] && !node.Ignored {
						names++
						assert.NotEmpty(t, value(node.Name), "a %s has no name", role)
					}
				}
				assert.Greater(t, names, 8)
				for _, role := range []string{"banner", "main", "navigation", "contentinfo"} {
					assert.Equal(t, 1, landmarks[role], role)
				}
				if !h.noScript {
					assert.Empty(t, ask[[]string](b, tooWide), "wider than the screen")
					assert.Empty(t, ask[[]string](b, tooFaint), "hard to read")
					assert.Equal(t, 1, ask[int](b, `document.querySelectorAll('h1').length`))
				}
				assert.Empty(t, b.complaints())
			})
		}
	}
	b.t = t
}

func value(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	return strings.Trim(string(v.Value), `"`)
}

// tooWide are the elements that stick out, other than in what scrolls.
const tooWide = `document.documentElement.scrollWidth <= innerWidth ? [] : [...document.body.querySelectorAll('*')]
	.filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll'))
	.map(e => e.outerHTML.slice(0, 80))`

// tooFaint are texts whose contrast is below 4.5, as WCAG 2 computes it.
const tooFaint = `(() => {
	const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
	const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((v) => { v /= 255;
		return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * x + .7152 * y + .0722 * z; };
	const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
		if (c[3] > 0) return c; } return parse(getComputedStyle(document.documentElement).backgroundColor); };
	const bad = [];
	for (const e of document.body.querySelectorAll('*')) {
		if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
		if (!e.getClientRects().length || e.closest('.skip')) continue;
		const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
		const ratio = (a + .05) / (b + .05);
		if (ratio < 4.5) bad.push(e.textContent.trim().slice(0, 40) + ' ' + ratio.toFixed(2));
	}
	return bad;
})()`

// By keyboard alone, every control can be reached, in order, and the focus can be seen.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	b := open(t, w.URL, how{width: 1280, user: pagetest.Operator})
	for _, page := range pages(t, w) {
		b.visit(page)
		all := ask[int](b, `(window.all = [...document.querySelectorAll(
			'a[href], button, input:not([type=hidden]), select, summary, [tabindex="0"]')]
			.filter(e => e.checkVisibility() && !e.hidden)).length`)
		require.Greater(t, all, 8)
		for i := range all {
			b.do(chromedp.KeyEvent(kb.Tab))
			both := fmt.Sprintf(`[document.activeElement, window.all[%d]].map(e => e.outerHTML.slice(0, 80))`, i)
			require.Equal(t, i, ask[int](b, `window.all.indexOf(document.activeElement)`), "%s: %s", page,
				ask[[]string](b, both))
			require.NotEqual(t, "none", ask[string](b, `getComputedStyle(document.activeElement).outlineStyle`), page)
		}
	}
}

// A dead letter is found and retried by keyboard, and the row changes.
func TestRetryByKeyboard(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	w.Exec(`INSERT INTO book (id, title, genre_id) VALUES (77, 'late', 1)`)
	b := open(t, w.URL, how{width: 1280, user: pagetest.Operator})
	b.visit("")
	b.press(`#dead-unknown_book`)
	b.says("1 dead letter of this filter")
	b.press(`#letters tbody a`)
	b.says("Reason unknown book")
	b.press(`#retry`)
	b.says("Applied 1 of 1 dead letter;")
	assert.EqualValues(t, 1, w.Number(`SELECT count(*) FROM aggregator.dead_letter WHERE settled_as = 'applied'`))
	assert.EqualValues(t, 1, w.Number(
		`SELECT count(*) FROM aggregator.run WHERE kind = 'retry' AND note LIKE 'by anna: %' AND outcome = 'done'`))
}

// press moves the focus to a control with Tab, and presses Enter.
func (b *tab) press(selector string) {
	b.t.Helper()
	b.do(chromedp.WaitReady(chromedp.CSS(selector)))
	for range 200 {
		b.do(chromedp.KeyEvent(kb.Tab))
		if ask[bool](b, fmt.Sprintf(`document.activeElement === document.querySelector(%q)`, selector)) {
			b.do(chromedp.KeyEvent(kb.Enter))
			return
		}
	}
	require.Fail(b.t, "the focus does not reach it", selector)
}

// Without script, all that match a filter are dropped, after a question.
func TestDropWithoutScript(t *testing.T) {
	t.Parallel()
	w := pagetest.Start(t)
	b := open(t, w.URL, how{width: 360, noScript: true, user: pagetest.Operator})
	b.visit("dead?reason=malformed")
	b.click(`#drop-all`)
	b.says("This drops 2 dead letters for good")
	b.click(`#confirm`)
	b.says("Dropped 2 dead letters.")
	assert.EqualValues(t, 2, w.Number(`SELECT count(*) FROM aggregator.dead_letter WHERE settled_as = 'dropped'`))
}
