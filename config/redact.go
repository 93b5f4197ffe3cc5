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

// String returns the URL with its passwords masked, for the fmt verbs but %#v.
func (u URL) String() string { return redact(string(u)) }

// GoString is String for %#v.
func (u URL) GoString() string { return redact(string(u)) }

// LogValue is String for slog.
func (u URL) LogValue() slog.Value { return slog.StringValue(redact(string(u))) }

// MarshalText is String for JSON and its like.
func (u URL) MarshalText() ([]byte, error) { return []byte(redact(string(u))), nil }

// keywordPassword finds the passwords in libpq's keyword=value form, quoted or not.
var keywordPassword = regexp.MustCompile(`(?i)((?:ssl)?password\s*=\s*)('(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\])*)`)

var schemePrefix = regexp.MustCompile(`^[a-z]+://`)

// redact masks the passwords in a URL or keyword=value string. What it does not
// understand, it does not show.
//
// It takes URLs apart by itself: where a password is not escaped, net/url and pgx do not
// agree on its end.
func redact(text string) string {
	scheme := schemePrefix.FindString(text)
	if scheme == "" {
		return keywordPassword.ReplaceAllString(text, "${1}"+mask)
	}
	rest := strings.TrimPrefix(text, scheme)
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		scheme += redactUser(rest[:i], strings.HasPrefix(scheme, "redis")) + "@"
		rest = rest[i+1:]
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	if strings.ContainsAny(rest, "@#") {
		return mask
	}
	if hasQuery {
		rest += "?" + redactQuery(query)
	}
	return scheme + rest
}

func redactUser(userinfo string, isRedis bool) string {
	user, _, hasPassword := strings.Cut(userinfo, ":")
	switch {
	case hasPassword:
		return user + ":" + mask
	case isRedis: // a user without a password is a password in the wrong place
		return mask
	}
	return user
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
