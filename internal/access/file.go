package access

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"
)

// entry is a user of a file, with the bcrypt hash or the token.
type entry struct {
	User
	secret string
	sum    [sha256.Size]byte // of the secret
}

// entries are the users of a file, in its order.
type entries []entry

func (e entries) byName(name string) (entry, bool) {
	for _, one := range e {
		if one.Name == name {
			return one, true
		}
	}
	return entry{}, false
}

// byToken takes as long for a wrong token as for a right one, wherever it differs.
func (e entries) byToken(token string) (user User, found bool) {
	sum := sha256.Sum256([]byte(token))
	for _, one := range e {
		if subtle.ConstantTimeCompare(sum[:], one.sum[:]) == 1 {
			user, found = one.User, true
		}
	}
	return user, found
}

// kind is a kind of file.
type kind struct {
	setting string
	others  fs.FileMode // what others than its owner and group must not have
	remedy  string
	check   func(secret string) error // says what is wrong with one
}

var (
	hashes = kind{"http.users_file", 0o002, "chmod o-w", checkHash}
	tokens = kind{"http.tokens_file", 0o006, "chmod o-rw", checkToken}
)

// file is a file of users, read again whenever it is asked for.
type file struct {
	kind
	name string
	log  *slog.Logger

	mu        sync.Mutex
	text      []byte
	last      entries
	complaint string // the error that was last logged
}

// open reads a file of this kind; nil if the name is empty.
func (k kind) open(name string, log *slog.Logger) (*file, error) {
	if name == "" {
		return nil, nil
	}
	f := &file{kind: k, name: name, log: log}
	if err := f.read(); err != nil {
		return nil, fmt.Errorf("%s = %q: %w", k.setting, name, err)
	}
	return f, nil
}

// now returns the users as the file is now, or, while it cannot be used, as it was before.
func (f *file) now() entries {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.text
	switch err := f.read(); {
	case err != nil && err.Error() != f.complaint:
		f.complaint = err.Error()
		f.log.Error("a file of logins cannot be read again; those from before stay valid", "setting", f.setting,
			"file", f.name, "error", err)
	case err == nil:
		f.complaint = ""
		if !bytes.Equal(before, f.text) {
			f.log.Info("a file of logins has changed", "setting", f.setting, "file", f.name, "logins", len(f.last))
		}
	}
	return f.last
}

const maxFile = 1 << 20

func (f *file) read() error {
	opened, err := os.Open(f.name)
	if err != nil {
		return reason(err)
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err != nil {
		return reason(err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("want a file")
	}
	if info.Mode()&f.others != 0 {
		return fmt.Errorf("every user of the machine may get at it: %s", f.remedy)
	}
	text, err := io.ReadAll(io.LimitReader(opened, maxFile+1))
	switch {
	case err != nil:
		return reason(err)
	case len(text) > maxFile:
		return fmt.Errorf("too long: want up to %d bytes", maxFile)
	case f.text != nil && bytes.Equal(text, f.text):
		return nil
	}
	parsed, err := parse(text, f.check)
	if err != nil {
		return err
	}
	f.text, f.last = text, parsed
	return nil
}

// reason leaves out the name of the file, which the caller tells.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

var lineOf = regexp.MustCompile(`line \d+`)

// parse reads the two maps of a file. Its errors quote nothing, not even names: a secret may be in any place of a
// file that is wrong.
func parse(text []byte, check func(string) error) (entries, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("not valid YAML %s", lineOf.FindString(err.Error()))
	}
	all := entries{}
	if len(document.Content) == 0 {
		return all, nil
	}
	names, secrets, roles := map[string]int{}, map[[sha256.Size]byte]int{}, map[string]bool{}
	err := eachPair(document.Content[0], func(key, value *yaml.Node) error {
		role := map[string]Role{"operators": Operator, "viewers": Viewer}[key.Value]
		if role == Nobody || roles[key.Value] {
			return fmt.Errorf("line %d: want operators and viewers, each once, and nothing else", key.Line)
		}
		roles[key.Value] = true
		return eachPair(value, func(key, value *yaml.Node) error {
			name, secret := key.Value, value.Value
			sum := sha256.Sum256([]byte(secret))
			switch {
			case key.Kind != yaml.ScalarNode || !isName(name) || strings.Contains(name, ":"):
				return fmt.Errorf("line %d: want a name of up to 200 letters, digits and signs, without a colon", key.Line)
			case names[name] > 0:
				return fmt.Errorf("line %d: the name is in line %d already", key.Line, names[name])
			case value.Kind != yaml.ScalarNode || secret == "":
				return fmt.Errorf("line %d: want a name, a colon, and one value", key.Line)
			case secrets[sum] > 0:
				return fmt.Errorf("line %d: the value is in line %d already", value.Line, secrets[sum])
			}
			if err := check(secret); err != nil {
				return fmt.Errorf("line %d: %w", value.Line, err)
			}
			names[name], secrets[sum] = key.Line, value.Line
			all = append(all, entry{User{name, role}, secret, sum})
			return nil
		})
	})
	return all, err
}

// eachPair calls a function for each pair of a mapping, which may be empty.
func eachPair(n *yaml.Node, do func(key, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode && n.ShortTag() != "!!null" {
		return fmt.Errorf("line %d: want a mapping, such as name: value", n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if err := do(n.Content[i], n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

const (
	maxCost  = 14 // takes about a second
	minToken = 32
	maxToken = 512
)

var (
	hashForm  = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)
	tokenForm = regexp.MustCompile(`^[A-Za-z0-9._~+/=-]+$`) // RFC 6750, and = anywhere
)

func checkHash(hash string) error {
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case err != nil || !hashForm.MatchString(hash):
		return errors.New("want a bcrypt hash, as htpasswd -nBC 10 makes it")
	case cost > maxCost:
		return fmt.Errorf("the cost of the hash is %d, and each login would take seconds; want at most %d", cost, maxCost)
	}
	return nil
}

func checkToken(token string) error {
	if len(token) < minToken || len(token) > maxToken || !tokenForm.MatchString(token) {
		return fmt.Errorf("want a token of %d to %d letters, digits and ._~+/=-", minToken, maxToken)
	}
	return nil
}
