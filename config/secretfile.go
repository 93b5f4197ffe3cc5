package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A URL with a password in it may be in a file: the one that the setting of the same name
// with _file at its end names, else the one that systemd has put into the folder of the
// service's credentials.

const (
	credentialsVariable = "CREDENTIALS_DIRECTORY"
	// No URL is as long; a file that is might be any.
	maxSecret = 16 << 10
)

// readSecrets fills in the URLs that files hold. Its errors name the setting and the file,
// and never hold any of the contents.
func (c *Config) readSecrets() []error {
	var all []error
	for _, s := range settings {
		if !s.secret() {
			continue
		}
		if err := s.readSecret(c); err != nil {
			all = append(all, err)
		}
	}
	return all
}

func (s setting) readSecret(c *Config) error {
	name, by := s.file(c), s.Key+"_file"
	given := s.value(c).String() != "" && c.originOf(s) != "default"
	switch {
	case name != "" && given:
		return invalidf("%s (%s) and %s (%s): set only one of them", s.Key, c.origin[s.Key], by, c.origin[by])
	case given:
		return nil
	case name == "":
		if name = s.credential(); name == "" {
			return nil
		}
		by = s.Key
	}
	text, err := readSecretFile(name)
	if err != nil {
		return invalidf("%s = %q: %w", by, name, err)
	}
	if err := s.value(c).Set(text); err != nil {
		return s.invalid("file "+name, text, err)
	}
	c.origin[s.Key] = "file " + name
	return nil
}

// file is what the setting's companion with _file names; empty for nothing.
func (s setting) file(c *Config) string {
	for _, other := range settings {
		if other.Key == s.Key+"_file" {
			return other.value(c).String()
		}
	}
	return ""
}

// credential is the file that systemd has for us; empty for none.
func (s setting) credential() string {
	dir := os.Getenv(credentialsVariable)
	if dir == "" {
		return ""
	}
	name := filepath.Join(dir, s.Secret)
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return name // also one that cannot be read: that is an error, not nothing
}

func readSecretFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fileReason(err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fileReason(err)
	}
	text := strings.TrimSpace(string(content))
	switch {
	case len(content) > maxSecret:
		return "", fmt.Errorf("too long: want a URL and nothing else, up to %d bytes", maxSecret)
	case text == "":
		return "", errors.New("is empty: want a URL")
	}
	return text, nil
}

// fileReason leaves out the name of the file, which the caller tells.
func fileReason(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
