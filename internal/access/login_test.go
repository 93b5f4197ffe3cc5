package access_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"aggregator/internal/access"
)

func TestWrongFiles(t *testing.T) {
	good := hash(t, right)
	costly := strings.Replace(good, "$04$", "$15$", 1)
	const token = "s3cret-s3cret-s3cret-s3cret-s3cret"
	for name, tc := range map[string]struct {
		text  string
		users string // the error of it as a file of users; empty: none
		token string // as one of tokens
	}{
		"nothing":  {"", "", ""},
		"no users": {"operators:\nviewers: {}\n", "", ""},
		"another map": {
			"operators: {}\nadmins: {}\n", "line 2: want operators and viewers", "line 2: want operators and",
		},
		"a map twice":       {"viewers: {}\nviewers: {}\n", "line 2: want operators and viewers, each once", "line 2: want"},
		"a list":            {"- ann\n", "line 1: want a mapping", "line 1: want a mapping"},
		"users in a list":   {"viewers: [ann]\n", "line 1: want a mapping", "line 1: want a mapping"},
		"no YAML":           {"viewers:\n  ann: " + token + ": x\n", "not valid YAML line 2", "not valid YAML line 2"},
		"an unknown anchor": {"viewers: {ann: *" + token + "}\n", "not valid YAML", "not valid YAML"},
		"a name twice": {
			"viewers:\n  ann: '" + good + "'\noperators:\n  ann: x\n",
			"line 4: the name is in line 2 already", "line 2: want a token",
		},
		"a hash twice": {
			"viewers:\n  ann: '" + good + "'\n  bob: '" + good + "'\n",
			"line 3: the value is in line 2 already", "line 2: want a token",
		},
		"a token twice": {
			"viewers:\n  a: " + token + "\n  b: " + token + "\n", "line 2: want a bcrypt hash", "line 3: the value is",
		},
		"a name with a colon": {
			"viewers:\n  'a:b': '" + good + "'\n",
			"line 2: want a name", "line 2: want a name",
		},
		"no value": {
			"viewers:\n  ann:\n", "line 2: want a name, a colon, and one value", "line 2: want a name, a colon",
		},
		"two values": {
			"viewers:\n  ann: [a, b]\n", "line 2: want a name, a colon, and one value", "line 2: want a name, a colon",
		},
		"a password":    {"viewers: {ann: hunter2}\n", "line 1: want a bcrypt hash", "line 1: want a token of 32 to 512"},
		"a cut hash":    {"viewers: {ann: '" + good[:59] + "'}\n", "line 1: want a bcrypt hash", "line 1: want a token"},
		"a long hash":   {"viewers: {ann: '" + good + "x'}\n", "line 1: want a bcrypt hash", "line 1: want a token"},
		"a costly hash": {"viewers: {ann: '" + costly + "'}\n", "line 1: the cost of the hash is 15", "line 1: want a token"},
		"htpasswd's hash": {
			"viewers: {ann: " + strings.Replace(good, "$2a$", "$2y$", 1) + "}\n",
			"", "line 1: want a token",
		},
		"a short token": {
			"viewers: {bot: " + token[:31] + "}\n", "line 1: want a bcrypt hash", "line 1: want a token of 32",
		},
		"a token of spaces": {"viewers: {bot: '" + token + " x'}\n", "line 1: want a bcrypt hash", "line 1: want a token"},
		"a token":           {"viewers: {bot: " + token + "}\n", "line 1: want a bcrypt hash", ""},
		"the wrong way": {
			token + ": viewers\n", "line 1: want operators and viewers", "line 1: want operators and viewers",
		},
		"too long": {strings.Repeat("# comment\n", 200_000), "too long", "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "logins.yaml")
			write(t, file, tc.text)
			for setting, check := range map[string]struct {
				o    access.Options
				want string
			}{
				"http.users_file":  {access.Options{UsersFile: file}, tc.users},
				"http.tokens_file": {access.Options{TokensFile: file}, tc.token},
			} {
				_, err := access.New(check.o)
				if check.want == "" {
					require.NoError(t, err)
					continue
				}
				require.ErrorContains(t, err, setting+` = "`+file+`": `+check.want)
				for _, secret := range []string{token, "hunter2", good, "\n"} {
					require.NotContains(t, err.Error(), secret)
				}
			}
		})
	}
}

func TestModesOfFiles(t *testing.T) {
	users, tokens := files(t)
	_, err := access.New(access.Options{UsersFile: "/nowhere"})
	require.EqualError(t, err, `http.users_file = "/nowhere": no such file or directory`)
	_, err = access.New(access.Options{TokensFile: t.TempDir()})
	require.ErrorContains(t, err, "want a file")
	for mode, allowed := range map[os.FileMode][2]bool{
		0o600: {true, true}, 0o640: {true, true}, 0o644: {true, false}, 0o602: {false, false}, 0o660: {true, true},
	} {
		require.NoError(t, os.Chmod(users, mode))
		require.NoError(t, os.Chmod(tokens, mode))
		_, err := access.New(access.Options{UsersFile: users})
		require.Equal(t, allowed[0], err == nil, "%o: %v", mode, err)
		_, err = access.New(access.Options{TokensFile: tokens})
		require.Equal(t, allowed[1], err == nil, "%o: %v", mode, err)
		if err != nil {
			require.ErrorContains(t, err, "chmod o-rw")
		}
	}
}

// A change of a file counts for the next request; one that makes no sense is said once, and changes nothing.
func TestFilesAreReadAgain(t *testing.T) {
	users, tokens := files(t)
	var log bytes.Buffer
	guarded := newGuard(t, access.Options{
		UsersFile: users, TokensFile: tokens, Log: slog.New(slog.NewTextHandler(&log, nil)),
	}).Wrap(echo)
	ann := func(password string) int { return ask(t, guarded, request{user: "ann", password: password}).Code }
	bot := func() int { return ask(t, guarded, request{password: botToken}).Code }
	require.Equal(t, 200, ann(right))
	require.Equal(t, 200, bot())

	before, err := os.ReadFile(users)
	require.NoError(t, err)
	write(t, users, "viewers: {ann: hunter2}\n")
	write(t, tokens, "viewers")
	for range 3 {
		require.Equal(t, 200, ann(right))
		require.Equal(t, 200, bot())
	}
	require.Equal(t, 2, strings.Count(log.String(), "level=ERROR"), log.String())
	require.NotContains(t, log.String(), "hunter2")

	// A new hash of another password: the old one is remembered, and does not count.
	write(t, users, "viewers: {ann: '"+hash(t, "another")+"'}\n")
	require.Equal(t, 401, ann(right))
	w := ask(t, guarded, request{user: "ann", password: "another"})
	require.Equal(t, "ann is a viewer", w.Body.String())
	write(t, users, "viewers: {}\n")
	write(t, tokens, "")
	require.Equal(t, 401, ann("another"), "a removed user")
	require.Equal(t, 401, bot())

	require.NoError(t, os.Rename(users, users+".old"))
	require.Equal(t, 401, ann(right))
	require.Contains(t, log.String(), "no such file or directory")
	write(t, users, string(before))
	require.Equal(t, 200, ann(right))
	require.Equal(t, 200, ann(right))
	require.Equal(t, 4, strings.Count(log.String(), "level=INFO"), log.String())
}

// The tests below have a clock of their own, and real hashes.
func TestFailuresAreSlowedDown(t *testing.T) {
	users, tokens := files(t)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		guarded := newGuard(t, access.Options{
			UsersFile: users, TokensFile: tokens, Log: slog.New(slog.NewTextHandler(&log, nil)),
		}).Wrap(echo)
		from := func(peer string, q request) *httptest.ResponseRecorder {
			q = remote(q)
			q.peer = peer
			return ask(t, guarded, q)
		}
		const attacker = "10.0.0.66:1"
		bad, good := request{user: "ann", password: "guess"}, request{user: "ann", password: right}
		for i, q := range []request{bad, {user: "mallory", password: "guess"}, {password: "guess"}, bad, bad} {
			require.Equal(t, 401, from(attacker, q).Code, i)
		}
		for _, want := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
			w := from(attacker, bad)
			require.Equal(t, 429, w.Code)
			require.Equal(t, strconv.Itoa(want), w.Header().Get("Retry-After"))
			require.Equal(t, 429, from(attacker, request{password: "guess"}).Code)
			time.Sleep(time.Duration(want)*time.Second - time.Nanosecond)
			require.Equal(t, 429, from(attacker, good).Code, "also the right one, from there")
			time.Sleep(time.Nanosecond)
			require.Equal(t, 401, from(attacker, bad).Code)
		}
		require.Equal(t, 200, from(attacker, request{password: botToken}).Code, "a token cannot be guessed")
		require.Equal(t, 200, from("10.0.0.67:1", good).Code, "from elsewhere")
		require.Equal(t, 429, from(attacker, good).Code, "what is remembered cannot be guessed either")

		time.Sleep(time.Minute)
		require.Equal(t, 200, from(attacker, good).Code)
		require.Equal(t, 401, from(attacker, bad).Code, "one that is right forgives nothing")
		require.Equal(t, 429, from(attacker, bad).Code)
		time.Sleep(10*time.Minute + 1)
		for range 5 {
			require.Equal(t, 401, from(attacker, bad).Code, "it is forgotten in the end")
		}
		require.Equal(t, 429, from(attacker, bad).Code)

		require.NotContains(t, log.String(), "mallory", "it may be a password")
		require.NotContains(t, log.String(), "guess")
		require.Contains(t, log.String(), "peer=10.0.0.66 by=token")
		require.Contains(t, log.String(), "by=password user=(unknown)")
	})
}

// A network of IPv6 is one address.
func TestFailuresOverIPv6(t *testing.T) {
	users, _ := files(t)
	guarded := newGuard(t, access.Options{UsersFile: users}).Wrap(echo)
	try := func(peer string) int {
		q := remote(request{user: "ann", password: "guess"})
		q.peer = peer
		return ask(t, guarded, q).Code
	}
	for i := range 5 {
		require.Equal(t, 401, try(fmt.Sprintf("[fd00:1:2:3::%x]:1", i)))
	}
	require.Equal(t, 429, try("[fd00:1:2:3:ffff::1]:1"))
	require.Equal(t, 401, try("[fd00:1:2:4::1]:1"))
}

// Thousands of addresses are no way to fill the memory or the log.
func TestManyAddresses(t *testing.T) {
	_, tokens := files(t)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		guarded := newGuard(t, access.Options{TokensFile: tokens, Log: slog.New(slog.NewTextHandler(&log, nil))}).Wrap(echo)
		try := func(i int) int {
			q := remote(request{password: "guess"})
			q.peer = fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&0xff, i&0xff)
			return ask(t, guarded, q).Code
		}
		for range 5 {
			require.Equal(t, 401, try(0))
		}
		require.Equal(t, 429, try(0))
		for i := 1; i <= 4095; i++ {
			time.Sleep(time.Microsecond)
			require.Equal(t, 401, try(i))
		}
		require.Equal(t, 429, try(0))
		require.Equal(t, 401, try(4096), "one more: the first is forgotten")
		require.Equal(t, 401, try(0))
		require.Equal(t, 20, strings.Count(log.String(), "a login has failed"))
		time.Sleep(time.Minute)
		require.Equal(t, 401, try(1))
		require.Contains(t, log.String(), "not_logged_before=4082")
	})
}

// Of many wrong passwords at once no more are tried than of one after another; of the right one, all pass.
func TestManyAtOnce(t *testing.T) {
	users, _ := files(t)
	synctest.Test(t, func(t *testing.T) {
		guarded := newGuard(t, access.Options{UsersFile: users}).Wrap(echo)
		all := func(q request) map[int]int {
			var wg sync.WaitGroup
			codes := make([]int, 30)
			for i := range codes {
				wg.Go(func() { codes[i] = ask(t, guarded, q).Code })
			}
			wg.Wait()
			times := map[int]int{}
			for _, code := range codes {
				times[code]++
			}
			return times
		}
		require.Equal(t, map[int]int{200: 30}, all(request{user: "ann", password: right}))
		require.Equal(t, map[int]int{401: 5, 429: 25}, all(request{user: "ann", password: "guess"}))
	})
}

// A right password costs bcrypt once, for as long as it is used, and five minutes.
func TestPasswordsAreRemembered(t *testing.T) {
	users, _ := files(t)
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, access.Options{UsersFile: users})
		compared := 0
		g.Compare(func(hash, password []byte) error {
			compared++
			return bcrypt.CompareHashAndPassword(hash, password)
		})
		ann := func() int { return ask(t, g.Wrap(echo), request{user: "ann", password: right}).Code }
		for range 20 {
			require.Equal(t, 200, ann())
			time.Sleep(5*time.Minute - 1)
		}
		require.Equal(t, 1, compared)
		time.Sleep(time.Second)
		require.Equal(t, 200, ann())
		require.Equal(t, 2, compared)
		require.Equal(t, 401, ask(t, g.Wrap(echo), request{user: "ann", password: "guess"}).Code)
		require.Equal(t, 401, ask(t, g.Wrap(echo), request{user: "val", password: right}).Code)
		require.Equal(t, 4, compared)
	})
}

// An unknown name is compared with the hash of a user, always the same one, and that does not let it in.
func TestUnknownNamesCostAsMuch(t *testing.T) {
	users, _ := files(t)
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, access.Options{UsersFile: users})
		var compared []string
		g.Compare(func(hash, _ []byte) error {
			compared = append(compared, string(hash))
			return nil // as if it were right
		})
		all := map[string]bool{}
		for i := range 40 {
			for range 2 {
				w := ask(t, g.Wrap(echo), request{user: fmt.Sprint("eve", i), password: right})
				require.Equal(t, 401, w.Code)
				time.Sleep(time.Minute)
			}
			require.Len(t, compared, 2*i+2)
			require.Equal(t, compared[2*i], compared[2*i+1])
			all[compared[2*i]] = true
		}
		require.Len(t, all, 2, "both users' hashes are used")
	})
}

// While a password is tried others wait, up to a number, and a client that goes away waits no more.
func TestOneAtATime(t *testing.T) {
	users, _ := files(t)
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, access.Options{UsersFile: users})
		running, most := 0, 0
		g.Compare(func(_, _ []byte) error {
			running++
			most = max(most, running)
			time.Sleep(time.Second)
			running--
			return nil
		})
		var wg sync.WaitGroup
		codes := make([]int, 40)
		for i := range codes {
			wg.Go(func() { codes[i] = ask(t, g.Wrap(echo), request{user: "ann", password: strconv.Itoa(i)}).Code })
		}
		wg.Wait()
		slices.Sort(codes)
		require.Equal(t, slices.Concat(slices.Repeat([]int{200}, 32), slices.Repeat([]int{429}, 8)), codes)
		require.Equal(t, 1, most)
	})
}
