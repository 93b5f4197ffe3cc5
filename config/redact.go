package config

import (
	"log/slog"
	"net/url"
	"regexp"
	"strings"
)

const mask = "xxxxx"

// URL is the address of a server and may hold a password. Printed or logged, it shows
// none; convert it to a string to connect.
type URL string

func (u URL) String() string       { return redact(string(u)) }
func (u URL) GoString() string     { return redact(string(u)) }
func (u URL) LogValue() slog.Value { return slog.StringValue(redact(string(u))) }

func (u URL) MarshalText() ([]byte, error) { return []byte(redact(string(u))), nil }

// keywordPassword finds the passwords in libpq's keyword=value form, quoted or not.
var keywordPassword = regexp.MustCompile(`(?i)((?:ssl)?password\s*=\s*)('(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\])*)`)

// redact masks the passwords in a URL or keyword=value string. What it does not
// understand, it does not show.
func redact(text string) string {
	if !strings.Contains(text, "://") {
		return keywordPassword.ReplaceAllString(text, "${1}"+mask)
	}
	u, err := url.Parse(text)
	if err != nil {
		return mask
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), mask)
	} else if u.User.Username() != "" && strings.HasPrefix(u.Scheme, "redis") {
		u.User = url.User(mask) // a user without a password is a password in the wrong place
	}
	u.RawQuery = redactQuery(u.RawQuery)
	return u.String()
}

func redactQuery(raw string) string {
	if raw == "" {
		return ""
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return mask
	}
	found := false
	for name := range query {
		if n := strings.ToLower(name); strings.HasSuffix(n, "password") {
			query[name] = []string{mask}
			found = true
		}
	}
	if !found {
		return raw
	}
	return query.Encode()
}
