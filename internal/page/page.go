package page

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/access"
	"aggregator/internal/admin"
	"aggregator/internal/aggregator"
	"aggregator/internal/apply"
	"aggregator/internal/cluster"
	"aggregator/internal/deadletter"
	"aggregator/internal/doctor"
	"aggregator/internal/events"
	"aggregator/internal/scores"
	"aggregator/internal/verdict"
)

// Options say what to show. All are required except those that say otherwise.
type Options struct {
	Pool      *pgxpool.Pool // two connections are enough
	Sources   []*events.Source
	Catalogue *scores.Catalogue
	Preferred func() scores.Preference
	Group     cluster.Group

	Survey     func(context.Context) admin.Survey // of both servers, a second old at most
	Status     func() []aggregator.Status
	Stages     func() []admin.StageTime
	Complaints func() map[string]string // by source: what does not reconcile
	Examine    func(context.Context) ([]doctor.Finding, error)

	Retry func(ctx context.Context, chosen deadletter.Choice, by, key string) (apply.Retried, error)
	Drop  func(ctx context.Context, chosen deadletter.Choice, by, key string) (int64, error)

	CanLogIn bool // whether a browser can log in
	Version  string
	Name     string                // of this instance
	Zone     func() *time.Location // of times, unless a browser has chosen another one
	Log      *slog.Logger
}

// Page answers requests, which package access has let in. It is safe for concurrent use.
type Page struct {
	Options
	mux     *http.ServeMux
	trend   trend
	actions actions
	checks  checks

	running context.Context // until Run ends
	stop    context.CancelFunc
	ending  sync.Mutex     // held to end, and to begin what goes on beside requests
	group   sync.WaitGroup // of that
}

//go:embed templates static
var files embed.FS

// New returns a page. Run makes it remember the last hour.
func New(o Options) *Page {
	p := &Page{Options: o, mux: http.NewServeMux()}
	p.running, p.stop = context.WithCancel(context.Background())
	p.trend.init(len(o.Sources))
	for path, show := range map[string]func(*view) error{
		"GET /{$}":       p.overview,
		"GET /source":    p.source,
		"GET /instances": p.instances,
		"GET /dead":      p.dead,
		"GET /letter":    p.letter,
		"GET /confirm":   p.confirm,
		"GET /runs":      p.runs,
		"GET /run":       p.run,
		"GET /doctor":    p.doctor,
		"GET /profile":   p.profile,
		"GET /explain":   p.explain,
		"GET /login":     login,
		"POST /retry":    p.retry,
		"POST /drop":     p.drop,
		"POST /zone":     p.zone,
	} {
		p.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { p.answer(w, r, show) })
	}
	for name, kind := range map[string]string{"page.css": "text/css", "page.js": "text/javascript"} {
		p.mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			content, _ := files.ReadFile("static/" + name) // it is embedded
			_, _ = w.Write(content)
		})
	}
	p.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.answer(w, r, func(*view) error { return &problem{http.StatusNotFound, "There is no such page.", ""} })
	})
	return p
}

// ServeHTTP answers one request.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// Run remembers lag and rate until ctx ends, and then ends what was begun by requests.
func (p *Page) Run(ctx context.Context) {
	p.keepSampling(ctx)
	p.ending.Lock()
	p.stop()
	p.ending.Unlock()
	p.group.Wait()
}

// beside does something that goes on when its request has been answered, until Run ends; false: it has ended, and
// nothing is done.
func (p *Page) beside(do func()) bool {
	p.ending.Lock()
	defer p.ending.Unlock()
	if p.running.Err() != nil {
		return false
	}
	p.group.Go(do)
	return true
}

// problem is why a page cannot be shown.
type problem struct {
	status int
	what   string // one sentence
	advice string // what to do; may be empty
}

func (p *problem) Error() string { return p.what }

func badRequest(format string, args ...any) error {
	return &problem{http.StatusBadRequest, fmt.Sprintf(format, args...), ""}
}

// redirect is where to go on after a form.
type redirect struct{ to string }

func (redirect) Error() string { return "go on elsewhere" }

// patience is how long a page may ask its servers.
const patience = 10 * time.Second

// answer shows a page, or why it cannot be shown.
func (p *Page) answer(w http.ResponseWriter, r *http.Request, show func(*view) error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	v := p.newView(w, r.WithContext(ctx))
	err := v.r.ParseForm()
	if err != nil {
		err = badRequest("The form cannot be read.")
	} else if !readable(v.r.Form) {
		err = badRequest("A parameter is not a text: it has bytes that are not UTF-8, or a zero.")
	} else {
		err = show(v)
	}
	var elsewhere redirect
	if errors.As(err, &elsewhere) {
		w.Header().Set("Location", elsewhere.to) // relative, as a prefix may have been taken off
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	status := http.StatusOK
	if err != nil {
		found := p.problemOf(err)
		status = found.status
		_ = v.show("problem", v.Section, http.StatusText(status), found)
		v.Refresh = status == http.StatusServiceUnavailable
	}
	var text bytes.Buffer
	if err := templates()[v.template].ExecuteTemplate(&text, "layout", v); err != nil {
		p.Log.Error("a page cannot be made", "page", r.URL.Path, "error", err)
		http.Error(w, "The page cannot be made; the log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // if it fails, the browser has gone
}

// readable says whether all is text that PostgreSQL takes.
func readable(form url.Values) bool {
	for name, values := range form {
		for _, text := range append(values, name) {
			if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
				return false
			}
		}
	}
	return true
}

// What is exported for templates, with a name that they use.
type shownProblem struct {
	status       int
	What, Advice string
}

func (p *Page) problemOf(err error) shownProblem {
	var known *problem
	if errors.As(err, &known) {
		return shownProblem{known.status, known.what, known.advice}
	}
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && verdict.Of(err) != verdict.Retry {
		p.Log.Warn("a page cannot be shown", "error", err)
		return shownProblem{
			http.StatusInternalServerError, "PostgreSQL refused a statement: " + refusal.Message + ".",
			"aggregator doctor says whether a right is missing.",
		}
	}
	if errors.Is(err, context.Canceled) {
		return shownProblem{http.StatusServiceUnavailable, "The request was given up.", ""}
	}
	p.Log.Debug("a page cannot be shown", "error", err)
	return shownProblem{
		http.StatusServiceUnavailable, "PostgreSQL does not answer: " + err.Error() + ".",
		"The page tries again by itself. The overview shows what is known without it.",
	}
}

// view is what one page is made of, and the request that asks for it.
type view struct {
	w        http.ResponseWriter
	r        *http.Request
	template string

	Title   string
	Section string // of the navigation
	Body    any
	Refresh bool    // it is loaded again now and then
	Action  *report // of what was begun by a form just now

	User     access.User
	Version  string
	Name     string
	Now      time.Time
	Zone     *time.Location
	Zones    []string
	CanLogIn bool
}

func (p *Page) newView(w http.ResponseWriter, r *http.Request) *view {
	return &view{
		w: w, r: r, User: access.From(r.Context()), Version: p.Version, Name: p.Name, Now: time.Now(),
		Zone: zoneOf(r, p.Zone()), Zones: commonZones, CanLogIn: p.CanLogIn,
	}
}

func (v *view) show(template, section, title string, body any) error {
	v.template, v.Section, v.Title, v.Body = template, section, title, body
	return nil
}

// Operator says whether who asks may act.
func (v *view) Operator() bool { return v.User.Role == access.Operator }

// Here is where this page is, relative to itself.
func (v *view) Here() string {
	if v.r.Method != http.MethodGet {
		return "./"
	}
	return here(v.r.URL)
}

func here(u *url.URL) string {
	page := u.Path
	for i := len(page) - 1; i >= 0; i-- {
		if page[i] == '/' {
			page = page[i+1:]
			break
		}
	}
	to := "./" + url.PathEscape(page)
	if u.RawQuery != "" {
		to += "?" + u.RawQuery
	}
	return to
}

// templates are parsed for the first page: most commands show none, and would start later.
var templates = sync.OnceValue(func() map[string]*template.Template {
	all := make(map[string]*template.Template)
	base := template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/layout.html"))
	for _, name := range []string{
		"overview", "source", "instances", "dead", "letter", "confirm", "runs", "run", "doctor", "profile", "explain",
		"problem",
	} {
		all[name] = template.Must(template.Must(base.Clone()).ParseFS(files, "templates/"+name+".html"))
	}
	return all
})

// login is where a browser is asked for a login; it has given one when this is called, and goes back.
func login(v *view) error { return goBack(v.r.Form) }

// goBack goes to the page of ours that a form or a link has come from.
func goBack(form url.Values) error {
	back, err := url.Parse(form.Get("back"))
	if err != nil {
		return redirect{"./"}
	}
	return redirect{here(back)} // whatever host it names, the answer is ours
}

// LogIn is where to log in, and to come back from.
func (v *view) LogIn() string { return link("login", "back", v.Here()) }
