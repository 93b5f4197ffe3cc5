package postgres

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrURL is in every error about a URL that makes no sense.
var ErrURL = errors.New("not a valid PostgreSQL URL")

// CheckURL says what is wrong with a URL, by an error with ErrURL, without connecting.
// The error holds no part of the URL that could be a password.
func CheckURL(url string) error {
	_, err := parse(url)
	return err
}

// Describe names the server of a URL as "host:port/database", without user or password,
// for messages. Several hosts are separated by commas.
func Describe(url string) string {
	cfg, err := parse(url)
	if err != nil {
		return "(invalid URL)"
	}
	return describe(cfg.ConnConfig)
}

func describe(cfg *pgx.ConnConfig) string {
	hosts := []string{address(cfg.Host, cfg.Port)}
	for _, f := range cfg.Fallbacks { // also holds the same host again, with and without TLS
		if a := address(f.Host, f.Port); !slices.Contains(hosts, a) {
			hosts = append(hosts, a)
		}
	}
	where := strings.Join(hosts, ",")
	if cfg.Database != "" {
		where += "/" + cfg.Database
	}
	return where
}

func address(host string, port uint16) string {
	if strings.HasPrefix(host, "/") { // the directory of a Unix socket
		return host + ":" + strconv.Itoa(int(port))
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// parse reads a URL, pool settings and all. pgx masks passwords in its errors only as well
// as it can, so that its text is passed on only where it cannot quote the URL.
func parse(url string) (*pgxpool.Config, error) {
	if err := checkForm(url); err != nil {
		return nil, err
	}
	if strandedPassword(url) {
		return nil, fmt.Errorf("%w: a second @ after the user; write special characters of the password in percent form, @ "+
			"as %%40, / as %%2F", ErrURL)
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrURL, parseReason(err))
	}
	for name := range cfg.ConnConfig.RuntimeParams {
		if slices.Contains(otherKeywords, strings.ToLower(name)) {
			return nil, fmt.Errorf("%w: %s is not a supported keyword: want host, port, dbname, user, password", ErrURL,
				strings.ToLower(name))
		}
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = connectTimeout
	}
	return cfg, nil
}

// keyword is the beginning of libpq's keyword=value form.
var keyword = regexp.MustCompile(`^\s*[A-Za-z_][A-Za-z0-9_.]*\s*=`)

// urlAsValue is a URL where the first keyword has its value, as in DATABASE_URL=postgres://.
var urlAsValue = regexp.MustCompile(`^\s*(?:\w+\s+)*([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*['"]?[A-Za-z0-9+.-]+://`)

// otherKeywords are those of other clients, and of libpq those that pgx does not know: it would take them
// for settings of the session, and go to a server that was not named.
var otherKeywords = []string{
	"host", "hostaddr", "server", "port", "database", "dbname", "user", "username", "password", "pwd", "url", "uri", "dsn",
}

// checkForm says whether it is a URL or libpq's form at all. To pgx everything is of libpq's
// form that does not begin as its URLs do, and has an = somewhere: postgresql+asyncpg://h/db?x=y too.
func checkForm(url string) error {
	switch scheme, _, isURL := strings.Cut(url, "://"); {
	case url == "":
		return nil
	case isURL && (scheme == "postgres" || scheme == "postgresql"):
		if last := url[len(url)-1:]; strings.ContainsAny(last, " \t\r\n\"'`") {
			return fmt.Errorf("%w: it ends with a space, a line break or a quote", ErrURL)
		}
		return nil
	case strings.ContainsAny(url[:1], "\"'`"):
		return fmt.Errorf("%w: it begins with a quote", ErrURL)
	case !keyword.MatchString(url), hidesURL(url):
		return fmt.Errorf("%w: want postgres://user:password@host:5432/database, or libpq's keyword=value, and nothing "+
			"around it", ErrURL)
	}
	return nil
}

func hidesURL(text string) bool {
	found := urlAsValue.FindStringSubmatch(text)
	return found != nil && !strings.HasSuffix(found[1], "password") // which may be anything
}

// strandedPassword finds a URL whose password holds an unescaped / or @: its end would be
// taken for a host or database, and shown as one.
func strandedPassword(url string) bool {
	scheme, rest, _ := strings.Cut(url, "://")
	if scheme != "postgres" && scheme != "postgresql" {
		return false
	}
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		rest = rest[i+1:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	return strings.Contains(rest, "@")
}

func parseReason(err error) string {
	const hint = "want postgres://user:password@host:5432/database"
	var parseErr *pgconn.ParseConfigError
	if !errors.As(err, &parseErr) {
		return hint
	}
	text := parseErr.Error()
	i := strings.LastIndex(text, "`: ")
	if i < 0 || strings.Contains(text[i:], ": failed to parse as ") {
		return hint
	}
	return text[i+len("`: "):]
}
